# SPDX-License-Identifier: Apache-2.0
"""What a run is made with, noted and told."""

import json
import re
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

from co_rewarding import __version__
from co_rewarding.storage import provenance


def test_versions_are_those_that_are_installed() -> None:
    found = provenance.versions(["torch", "no-such-package"])
    assert found == {"co-rewarding": __version__, "torch": version("torch")}


def test_the_commit_is_marked_where_a_tracked_file_differs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*command: str) -> None:
        who = ["-c", "user.name=N", "-c", "user.email=n@example.org"]
        subprocess.run(["git", "-C", tmp_path, *who, *command], check=True, capture_output=True)

    monkeypatch.setattr(provenance, "PROJECT", tmp_path)
    assert provenance.commit.__wrapped__() is None  # no working tree; the function behind its cache
    git("init")
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "-m", "one")
    (tmp_path / "untracked").write_text("")
    clean = provenance.commit.__wrapped__()
    assert clean is not None and re.fullmatch("[0-9a-f]{40}", clean)
    (tmp_path / "a").write_text("2")
    assert provenance.commit.__wrapped__() == clean + "+"


def test_what_was_recorded_is_read_back(tmp_path: Path) -> None:
    provenance.record(tmp_path, "2026-01-02_03-04-05")
    made_with = provenance.recorded(tmp_path, "2026-01-02_03-04-05")
    assert made_with == {"versions": provenance.versions(provenance.TRAINING), "commit": provenance.commit()}
    assert provenance.recorded(tmp_path, "another") is None
    for start, commit in (("b", "2"), ("a", "1"), ("c", "1"), ("d", None)):
        (tmp_path / f"run/made_with/{start}.json").parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"run/made_with/{start}.json").write_text(json.dumps({"versions": {}, "commit": commit}))
    assert provenance.commits_of(tmp_path / "run") == ["1", "2"]


def test_in_words() -> None:
    assert provenance.in_words({"versions": {"a": "1", "b": "2"}, "commit": None}) == "a 1, b 2"
    assert provenance.in_words({"versions": {"a": "1"}, "commit": "c0ffee"}) == "a 1 at commit `c0ffee`"
