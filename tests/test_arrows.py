# SPDX-License-Identifier: Apache-2.0
"""Who may import whom: the rooms of co_rewarding, read from the source, imports inside functions included."""

import ast
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]
HOST = {"verl", "ray", "vllm", "hydra", "omegaconf", "transfer_queue"}
MAY_IMPORT = {  # room -> rooms of ours it may import beside itself; a room that is not here does not exist
    "algo": set(),
    "storage": set(),
    "monitoring": {"algo"},
    "training": {"algo", "monitoring", "storage"},
    "cpu": {"training"},  # its engine builds on training's
    "tools": {"algo", "monitoring", "storage", "cpu"},
    "score": {"algo", "monitoring", "storage", "tools"},
}


def imports_of(path: Path) -> set[str]:
    """Dotted names, with what is taken out of a package: `from co_rewarding import x` is co_rewarding.x."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute here"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def files_of(room: str) -> list[Path]:
    place = REPO / "co_rewarding" / room
    return sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]


def test_every_file_has_a_room() -> None:
    rooms = {path.stem for path in (REPO / "co_rewarding").iterdir() if path.suffix == ".py" or any(path.rglob("*.py"))}
    assert rooms - {"__init__"} == MAY_IMPORT.keys()


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_arrows(room: str) -> None:
    for path in files_of(room):
        names = imports_of(path)
        ours = {name.split(".")[1] for name in names if name.startswith("co_rewarding.")} - {"__version__"}
        assert ours <= MAY_IMPORT[room] | {room}, f"{path} imports {ours - MAY_IMPORT[room] - {room}}"
        assert not {name for name in names if name.startswith("co_rewarding_")}, f"{path} imports a tree"
        if room == "tools":  # of cpu only the question whether this is a machine without a GPU
            assert not {name for name in names if ".cpu." in name and not name.startswith("co_rewarding.cpu.build.")}
        if room in ("algo", "storage", "monitoring"):
            assert not {name.split(".")[0] for name in names} & HOST, f"{path} imports the host"
        if room == "algo" and path.name != "own_function.py":  # whose task is to look up what a user wrote
            assert not {name for name in names if name.startswith("importlib")}, f"{path} looks modules up by name"


@pytest.mark.parametrize(("tree", "other"), [("I", "co_rewarding_ii"), ("II", "co_rewarding_i")])
def test_a_tree_does_not_import_the_other_or_the_tools(tree: str, other: str) -> None:
    for path in sorted((REPO / f"Co-rewarding-{tree}").rglob("*.py")):
        assert not {name for name in imports_of(path) if name.startswith((f"{other}.", "co_rewarding.tools"))}, path
