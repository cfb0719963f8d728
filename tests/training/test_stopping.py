# SPDX-License-Identifier: Apache-2.0
"""SIGTERM and Ctrl-C. (tests/e2e/test_ends.py sends them to a real run.)"""

import os
import signal
import subprocess
import sys

import pytest

CODE = """
import signal, sys, time
from co_rewarding.training import stopping
class Actor:
    def remote(self): return "actor"
    def options(self, **options): return self
runner = stopping.TakingSigterm(Actor())
assert runner.options(runtime_env={}).remote() == runner.started == "actor"
with stopping.reported_in_one_line():
    try:
        print("on", flush=True)
        time.sleep(60)
    finally:
        print("cleaned up", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_is_an_orderly_end_and_reported_in_one_line(number: signal.Signals) -> None:
    run = subprocess.Popen(
        [sys.executable, "-c", CODE], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
    )
    assert run.stdout.readline() == "on\n"
    run.send_signal(number)
    out, error = run.communicate(timeout=30)
    assert (out, run.returncode) == ("cleaned up\n", 128 + number)
    assert error == f"Stopped by {number.name}; the same command resumes from the last checkpoint.\n"


@pytest.mark.parametrize("code", [0, 1, 2, "error"])
def test_any_other_exit_is_left_as_it_is(code: object) -> None:
    from co_rewarding.training.stopping import reported_in_one_line

    with pytest.raises(SystemExit) as stop, reported_in_one_line():
        sys.exit(code)
    assert stop.value.code == code
