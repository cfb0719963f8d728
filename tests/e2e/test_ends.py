# SPDX-License-Identifier: Apache-2.0
"""Ends of a run that are not its own: SIGTERM as of a scheduler, SIGKILL, Ctrl-C. One run, started three times."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from e2e_runs import TIMEOUT_S, Surroundings, kill, main_process, start

pytestmark = pytest.mark.e2e


def wait_for(condition: Callable[[], object], run: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        assert run.poll() is None, log.read_text(errors="replace")[-4000:]
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_sigterm_sigkill_and_ctrl_c_leave_nothing(toy: Path) -> None:
    run_dir, log = toy / "runs/co-rewarding/ends", toy / "ends.log"
    record = run_dir / "leftovers.json"

    def begin() -> subprocess.Popen:
        return start("I", toy, "ends", "trainer.val_before_train=False", SAVE_FREQ="1")

    def recorded(what: str) -> dict:
        return record.is_file() and json.loads(record.read_text())[what]

    def check_stopped(run: subprocess.Popen, surroundings: Surroundings, name: str, code: int) -> None:
        since = time.monotonic()
        assert run.wait(60) == code
        surroundings.check_all_is_gone()
        print(f"{name}: nothing left after {time.monotonic() - since:.1f} s")
        assert log.read_text(errors="replace").splitlines()[-1].startswith(f"Stopped by {name}; the same command")
        assert not record.exists()

    run = begin()
    surroundings = Surroundings(run)
    wait_for((run_dir / "rollouts/1.jsonl").is_file, run, log)
    surroundings.look()
    main_process(run).terminate()
    check_stopped(run, surroundings, "SIGTERM", 143)
    surroundings.check_no_other_machine_reaches_it()

    run = begin()
    wait_for(lambda: recorded("segments"), run, log)
    kill(run)
    # some of it may be gone by then: a weight sync's segment lives as long as the sync
    of_killed = recorded("segments").keys()
    left = [name for name in of_killed if Path("/dev/shm", name).exists()]
    assert left

    run = begin()
    surroundings = Surroundings(run)
    # the record of the killed start is gone, and this one's is written when vLLM is there
    wait_for(lambda: set(recorded("segments") or ()) - of_killed, run, log)
    surroundings.look()
    assert not [name for name in left if Path("/dev/shm", name).exists()]
    os.killpg(run.pid, signal.SIGINT)
    check_stopped(run, surroundings, "SIGINT", 130)
