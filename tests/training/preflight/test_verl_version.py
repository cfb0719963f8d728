# SPDX-License-Identifier: Apache-2.0
"""A run refuses another verl before it reads the configuration; the version is the one that the environments get."""

import re
import sys
from pathlib import Path

import pytest

from co_rewarding.training.launch import run_main
from co_rewarding.training.preflight.verl_version import VERL, check_verl_version

REPO = Path(__file__).resolve().parents[3]


def as_if_installed(version: str, folder: Path) -> Path:
    """A folder that, first on the path, makes `version` the verl that is installed."""
    metadata = folder / f"verl-{version}.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text(f"Metadata-Version: 2.1\nName: verl\nVersion: {version}\n")
    return folder


@pytest.mark.parametrize(
    "name", ["requirements.txt", "requirements-cpu.txt", "requirements.lock", "requirements-cpu.lock"]
)
def test_the_environments_get_this_version(name: str) -> None:
    found = re.findall(r"^verl(?:\[\w+\])?==([^\s;]+)", (REPO / name).read_text(), flags=re.MULTILINE)
    assert found == [VERL]


@pytest.mark.parametrize("version", [VERL, f"{VERL}+cu130"])
def test_the_version_is_accepted(version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(as_if_installed(version, tmp_path))
    check_verl_version()


@pytest.mark.parametrize("version", ["0.9.0", f"{VERL}.post1", "0.10.1"])
def test_another_is_refused(version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(as_if_installed(version, tmp_path))
    with pytest.raises(
        ValueError,
        match=f"^verl is {re.escape(version)}, but this project overrides methods of {VERL} [^\n]*install_env.sh",
    ):
        check_verl_version()


def test_none_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(ValueError, match=r"^verl is not installed: run "):
        check_verl_version()


def test_a_run_is_refused_in_one_line_before_its_configuration_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(as_if_installed("0.9.2", tmp_path))
    read = []
    with pytest.raises(SystemExit) as stop:
        run_main(lambda: read.append("configuration"))
    assert (stop.value.code, read) == (2, [])
    stderr = capsys.readouterr().err
    assert stderr.startswith("error: verl is 0.9.2, but this project overrides methods of ") and stderr.count("\n") == 1
