# SPDX-License-Identifier: Apache-2.0
"""A table of texts as Markdown, LaTeX or CSV, written by pandas; any text stays within its cell."""

from __future__ import annotations

import pandas as pd

ABSENT = "–"
_LATEX = {"±": r"$\pm$", "†": r"$^\dagger$", "→": r"$\rightarrow$", "–": "--", "−": "$-$", "α": r"$\alpha$"}


def cell(value: object) -> str:
    """`value` on one line of Markdown, escaped against ending a cell or starting HTML; "–" for None and NaN."""
    if value is None or value is pd.NA or value != value:
        return ABSENT
    return _one_line(value).replace("|", "\\|").replace("<", "&lt;")


def to_markdown(table: pd.DataFrame) -> str:
    """A pipe table without the index; numbers are printed unchanged."""
    return table.astype(object).map(cell).rename(columns=cell).to_markdown(index=False, disable_numparse=True)


def to_latex(table: pd.DataFrame) -> str:
    r"""A tabular with \toprule (booktabs) without the index; LaTeX's special characters are escaped."""
    texts = table.astype(object).map(lambda value: ABSENT if value is None or value != value else _one_line(value))
    text = texts.to_latex(index=False, escape=True)
    return text.translate(str.maketrans(_LATEX))


def _one_line(value: object) -> str:
    return " ".join(str(value).encode("utf-8", "replace").decode().split())
