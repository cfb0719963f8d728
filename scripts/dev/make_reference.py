# SPDX-License-Identifier: Apache-2.0
"""Prints docs/REFERENCE.md: every variable of the scripts and every key of our configuration blocks, as declared.

    python scripts/dev/make_reference.py >docs/REFERENCE.md

A variable is declared by a line `NAME=${NAME:-DEFAULT}  # MEANING` (run scripts) or by a line of --help, `NAME  MEANING
(default: DEFAULT)` (other scripts); a key by a field of a dataclass with a comment beside it.
"""

import inspect
import re
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields
from pathlib import Path

from co_rewarding.tools.dispatch import COMMANDS
from co_rewarding.tools.tables import ABSENT, cell
from co_rewarding.training.run_script import ARGUMENT
from co_rewarding.training.settings import ConfigBlock, Settings
from co_rewarding_ii.settings import TeacherSettings

REPO = Path(__file__).resolve().parents[2]
METHODS = {
    "I": "Co-rewarding-I/run_corewarding-I.sh",
    "II": "Co-rewarding-II/run_corewarding-II.sh",
    "III": "Co-rewarding-II/run_corewarding-III.sh",
    "baseline": "scripts/run_baseline.sh",
}
OTHERS = (
    "scripts/quickstart.sh", "scripts/compare_methods.sh", "scripts/illusion.sh", "scripts/install_env.sh",
    "scripts/gpu_check.sh", "recipes/train.sh", "recipes/cluster/slurm.sh", "recipes/cluster/ray_node.sh",
)  # fmt: skip
PLACES = {"train": "the method's run script", "score": "`python -m co_rewarding.score`"}
SETTING = re.compile(r"^(?:export )?([A-Z0-9_]+)=\$\{\1:?-([^}]*)\}(?: *# (.*))?$")
HELP = re.compile(r"^(?:# |Environment )?[Vv]ariables(.*):\n((?:#?  .*\n)+)", flags=re.MULTILINE)
HELP_LINE = re.compile(r"^#? +([A-Z_]+) +(.*?)(?: \(default: (.*)\))?$", flags=re.MULTILINE)
COLUMNS = ("variable", "default", "meaning")
HEAD = """# Reference: every variable and key of this project

Generated from the scripts and dataclasses, and tested against them: change a comment there, then run
`python scripts/dev/make_reference.py >docs/REFERENCE.md`. [CONFIGURATION.md](CONFIGURATION.md) explains what needs more
than a line.

*Who gives the pseudo-label ([words](README.md#words)): in I the majority answer to the other view, in II a \
teacher, the moving average of the model, in III the teacher on the other view.*
"""


def declared(script: str) -> dict[str, dict[str, tuple[str, str]]]:
    """Group → variable → (default, meaning). A comment on its own line is a group, or describes the next variable."""
    groups: dict[str, dict[str, tuple[str, str]]] = {}
    above = group = ""
    for line in (REPO / script).read_text(encoding="utf-8").splitlines():
        if line.startswith("exec "):
            break
        if line.startswith("# "):
            above = line[2:]
        elif found := SETTING.match(line):
            name, default, meaning = found.groups()
            if meaning and above:
                group = above
            groups.setdefault(group, {})[name] = (default.replace("$ROOT/", "").strip('"'), meaning or above)
            above = ""
    return groups


def merged(of_script: Mapping[str, str]) -> str:
    """One text if all scripts agree, else each with its scripts."""
    texts = dict.fromkeys(of_script.values())
    if len(texts) == 1:
        return next(iter(texts))
    return "; ".join(f"{text} ({', '.join(s for s in of_script if of_script[s] == text)})" for text in texts)


def code(text: str) -> str:
    return f"`{text}`" if text else "empty"


def table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [[*columns], *([cell(text).replace("*", r"\*") for text in row] for row in rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def variables_of_methods() -> Iterable[str]:
    scripts = {name: declared(path) for name, path in METHODS.items()}
    keys: dict[str, dict[str, None]] = {}  # of each variable; a dict for its order
    for path in METHODS.values():
        for key, variable in ARGUMENT.findall((REPO / path).read_text(encoding="utf-8")):
            keys.setdefault(variable, {})[key] = None
    for group in dict.fromkeys(group for groups in scripts.values() for group in groups):
        has = {script: groups[group] for script, groups in scripts.items() if group in groups}
        rows = []
        for name in dict.fromkeys(name for variables in has.values() for name in variables):
            found = {script: variables[name] for script, variables in has.items() if name in variables}
            rows.append([
                code(name),
                merged({script: code(default) for script, (default, _) in found.items()}),
                merged({script: meaning for script, (_, meaning) in found.items()}),
                ", ".join(map(code, keys.get(name, ()))) or ABSENT,
                "all" if len(found) == len(METHODS) else ", ".join(found),
            ])  # fmt: skip
        yield f"### {group[:1].upper() + group[1:] or 'Method'}\n\n" + table((*COLUMNS, "key", "scripts"), rows)


def keys_of(block: type[ConfigBlock]) -> str:
    """The fields of a dataclass with the comments beside them."""
    comments = dict(re.findall(r"^    (\w+): .*?  # (.*)$", inspect.getsource(block), flags=re.MULTILINE))
    rows = []
    for field in fields(block):
        default = {MISSING: "set by the script", None: "`null`"}.get(field.default) or code(str(field.default))
        rows.append([code(field.name), field.type.replace("None", "null"), default, comments[field.name]])
    return f"### `{block.NAME}`\n\n" + table(("key", "type", "default", "meaning"), rows)


def variables_of_others(script: str) -> str:
    """The lines of the script's --help below "Variables …:"."""
    text = (REPO / script).read_text(encoding="utf-8")
    beside, lines = HELP.search(text).groups()
    rows = [[code(name), default or ABSENT, meaning] for name, meaning, default in HELP_LINE.findall(lines)]
    return f"### `{script}`\n\n" + (f"Variables{beside}.\n\n" if beside else "") + table(COLUMNS, rows)


def page() -> str:
    ttt = [row for group in declared("scripts/run_ttt.sh").values() for row in group.items()]
    return "\n".join([
        HEAD,
        "## Commands\n",
        "`co-rewarding COMMAND` starts a script and passes its arguments on. The quickstart, getting data,",
        "test-time training, comparisons and the check of a GPU are scripts only.\n",
        table(("co-rewarding …", "is", "what"), (
            [code(name), PLACES.get(name) or code(place), what] for name, (place, what) in COMMANDS.items()
        )),
        "## Variables of the run scripts\n",
        "Scripts: " + ", ".join(f"{name} = `{path}`" for name, path in METHODS.items()) + ".\n",
        *variables_of_methods(),
        "### Test-time training: `scripts/run_ttt.sh`\n",
        "These, and all above but `TRAIN_FILE`, `TRAIN_AUG_FILE` and `VAL_FILE`:\n",
        table(COLUMNS, ([code(name), code(default), text] for name, (default, text) in ttt)),
        "## Variables of the other scripts\n",
        *map(variables_of_others, OTHERS),
        "## Keys of the configuration\n",
        "Our two blocks; all other keys are verl's. `--cfg job` after a run script prints them all.\n",
        keys_of(Settings),
        keys_of(TeacherSettings),
    ])  # fmt: skip


if __name__ == "__main__":
    print(page(), end="")
