# SPDX-License-Identifier: Apache-2.0
"""ON_END is run once with the exit code, whatever ended the run, and changes nothing of it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

TELLS = 'printf "%s|" "$1" "$EXIT_CODE" "$RUN_DIR" "${RUN_NAME-none}" "${ON_END-none}" >> '
PROGRAM = """
import sys, time
from omegaconf import OmegaConf
from co_rewarding.training.on_end import about_to_run, on_end
with on_end():
    {begins}
    print("ready", flush=True)
    {body}
"""
BEGINS = 'about_to_run(OmegaConf.create({"trainer": {"experiment_name": "ü (1)"}, "co_rewarding_run_dir": "ü/(1)"}))'


def run(body: str, on_end: str, begins: str = BEGINS, stop: signal.Signals | None = None) -> tuple[int, str]:
    started = subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(begins=begins, body=body)],
        env={**os.environ, "ON_END": on_end, "RUN_NAME": "mine"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    if stop is not None:
        assert started.stdout.readline() == "ready\n"
        time.sleep(0.2)
        started.send_signal(stop)
    _, stderr = started.communicate(timeout=60)
    return started.returncode, stderr


@pytest.mark.parametrize(
    ("body", "stop", "seen", "code"),
    [
        ("pass", None, 0, 0),
        ("sys.exit(2)", None, 2, 2),
        ("sys.exit('why')", None, 1, 1),
        ("raise RuntimeError", None, 1, 1),
        ("time.sleep(60)", signal.SIGINT, 130, -signal.SIGINT),  # which a shell calls 130
        ("time.sleep(60)", signal.SIGTERM, 143, 143),
    ],
)
@pytest.mark.parametrize("own_end", ["", "; false", "; exit 9", "; kill -9 $$"])
def test_it_receives_how_the_run_ended(
    body: str, stop: signal.Signals | None, seen: int, code: int, own_end: str, tmp_path: Path
) -> None:
    ended, stderr = run(body, f"{TELLS}{tmp_path}/told{own_end}", stop=stop)
    assert ended == code
    assert (tmp_path / "told").read_text() == f"{seen}|{seen}|{Path.cwd()}/ü/(1)|none|none|"
    assert ("ON_END: the command ended with" in stderr) == bool(own_end)


@pytest.mark.parametrize("on_end", ["", "(", "exit 3"])
def test_none_or_a_bad_one_changes_nothing(on_end: str) -> None:
    code, stderr = run("pass", on_end)
    assert code == 0
    assert "Traceback" not in stderr


def test_a_script_that_refuses_tells_it_too(tmp_path: Path, repo: Path) -> None:
    for script in ("Co-rewarding-I/run_corewarding-I.sh", "scripts/run_baseline.sh"):
        given = {"RUN_NAME": "../x", "ON_END": f"{TELLS}{tmp_path}/told; exit 9"}
        ended = subprocess.run(
            ["bash", str(repo / script)], env={**os.environ, **given}, capture_output=True, text=True
        )
        assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
        assert (tmp_path / "told").read_text() == "2|2||none|none|"
        (tmp_path / "told").unlink()


def test_a_run_whose_configuration_does_not_resolve_is_reported_too(tmp_path: Path) -> None:
    begins = 'about_to_run(OmegaConf.create({"trainer": {"experiment_name": "${co_rewarding.method}"}}))'
    assert run("sys.exit(2)", f"{TELLS}{tmp_path}/told", begins=begins)[0] == 2
    assert (tmp_path / "told").read_text() == "2|2||none|none|"


def test_a_printed_configuration_is_no_run_but_a_refused_one_is(tmp_path: Path) -> None:
    assert run("pass", f"{TELLS}{tmp_path}/told", begins="pass")[0] == 0
    assert not (tmp_path / "told").exists()
    assert run("sys.exit(2)", f"{TELLS}{tmp_path}/told", begins="pass")[0] == 2
    assert (tmp_path / "told").read_text() == "2|2||none|none|"
