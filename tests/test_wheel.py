# SPDX-License-Identifier: Apache-2.0
"""What `pip install` of the project brings, without its clone: packages with their files, and the two commands."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import PathDistribution
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]
PACKAGES = ["co_rewarding", "Co-rewarding-I/co_rewarding_i", "Co-rewarding-II/co_rewarding_ii"]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the wheel, where they can be imported."""
    source, site = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("site")
    for package in PACKAGES:
        shutil.copytree(REPO / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPO / name, source)
    build = f"from setuptools.build_meta import build_wheel; build_wheel({str(site)!r})"
    subprocess.run([sys.executable, "-c", build], cwd=source, capture_output=True, check=True, timeout=120)
    [wheel] = site.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(site)
    return site


def run(installed: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=installed, env=os.environ | {"PYTHONPATH": str(installed)},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_every_file_of_the_packages_is_in_it(installed: Path) -> None:
    for package in PACKAGES:
        folder = REPO / package
        there = {path.relative_to(folder.parent) for path in folder.rglob("*") if path.is_file()}
        wanted = {path for path in there if "__pycache__" not in path.parts}
        assert Path(folder.name, "py.typed") in wanted
        assert wanted == {path for path in wanted if (installed / path).is_file()}


def test_its_commands_can_be_called(installed: Path) -> None:
    [metadata] = installed.glob("*.dist-info")
    commands = {
        entry.name: entry.value for entry in PathDistribution(metadata).entry_points.select(group="console_scripts")
    }
    assert sorted(commands) == ["co-rewarding", "co-rewarding-score"]
    for value in commands.values():
        module, _, function = value.partition(":")
        called = run(installed, "-c", f"import sys; from {module} import {function}; sys.exit({function}(['--help']))")
        assert (called.returncode, called.stderr) == (0, "") and called.stdout.startswith("usage: ")


def test_score_works_and_what_needs_the_clone_says_so(installed: Path) -> None:
    co_rewarding = ["-m", "co_rewarding.tools.dispatch"]
    assert run(installed, *co_rewarding, "score", "--help").stdout.startswith("usage: ")
    for name, script in {"evaluate": "scripts/evaluate.py", "train": "Co-rewarding-I/run_corewarding-I.sh"}.items():
        refused = run(installed, *co_rewarding, name, "I")
        assert (refused.returncode, refused.stdout) == (2, "")
        line = rf"co-rewarding: error: {script} is not at {re.escape(str(installed))}: .*install_env\.sh.*\n"
        assert re.fullmatch(line, refused.stderr)
