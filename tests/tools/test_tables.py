# SPDX-License-Identifier: Apache-2.0
"""Tables: a cell stays a cell whatever it holds."""

import pandas as pd

from co_rewarding.tools.tables import to_latex, to_markdown

TABLE = pd.DataFrame([["a|b", "<x>\ny", 1.50], ["1.50", None, float("nan")]], columns=["m", "n_1", "v"])


def test_markdown_keeps_texts_as_they_are_written() -> None:
    lines = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in to_markdown(TABLE).splitlines()]
    assert lines[0] == ["m", "n_1", "v"]
    assert lines[2:] == [["a\\|b", "&lt;x> y", "1.5"], ["1.50", "–", "–"]]


def test_latex_escapes() -> None:
    assert r"m & n\_1 & v \\" in to_latex(TABLE) and "1.50 & -- & --" in to_latex(TABLE)
    assert r"0.5 $\pm$ 0.1 $^\dagger$" in to_latex(pd.DataFrame([["0.5 ± 0.1 †"]], columns=["x"]))
