# SPDX-License-Identifier: Apache-2.0
"""docs/REFERENCE.md is what the declarations say, and every variable of every script is declared."""

import re
from collections.abc import Callable
from pathlib import Path

from co_rewarding.training.run_script import SCRIPTS

REPO = Path(__file__).resolve().parents[1]
FOREIGN = {"VIRTUAL_ENV", "CONDA_PREFIX", "CONDA_DEFAULT_ENV", "TMPDIR", "BASH_REMATCH"}  # not ours


def test_the_reference_says_what_is_declared(run_script: Callable[..., tuple[int, str, str]]) -> None:
    code, out, _ = run_script("dev/make_reference.py")
    assert code == 0
    fix = "run `python scripts/dev/make_reference.py >docs/REFERENCE.md`"
    assert out == (REPO / "docs/REFERENCE.md").read_text(), fix


def test_the_reference_has_every_variable_of_every_script() -> None:
    """What a script reads with a default is in its table, with that default, or is a variable of the run scripts."""
    methods, *others = re.split(r"^### `(\S+)`$", (REPO / "docs/REFERENCE.md").read_text(), flags=re.MULTILINE)
    sections = dict(zip(others[::2], others[1::2], strict=True))
    row = re.compile(r"^\| `([A-Z_]+)` \| (.*?) \|", flags=re.MULTILINE)
    of_all = {name for name, _ in row.findall(methods)}
    assert {"LEARNING_RATE", "TEACHER", "NUM_VOTES"} <= of_all
    for path in (path for pattern in SCRIPTS for path in REPO.glob(pattern)):
        script, text = str(path.relative_to(REPO)), path.read_text()
        rows = dict(row.findall(sections.get(script, "")))
        read = {name for name in re.findall(r"\$\{([A-Z][A-Z_]+):?-", text) if not name.startswith("SLURM_")}
        assert read <= rows.keys() | of_all | FOREIGN, f"{script} reads variables that its --help does not list"
        code = re.sub(r"^#.*$", "", text, flags=re.MULTILINE)
        assert rows.keys() <= {*re.findall(r"[A-Z_]+", code)}, f"{script} does not read all variables of its --help"
        for name, default in re.findall(r"\w+=\"?\$\{([A-Z_]+):-([^}$]+)\}", text):
            assert default in rows.get(name, default), f"{script} has {name}={default}"
