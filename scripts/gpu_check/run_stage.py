# SPDX-License-Identifier: Apache-2.0
"""Run a command with a time limit and clean up after it.

    python scripts/gpu_check/run_stage.py SECONDS LOG COMMAND …

Its output goes to LOG. The exit code is the command's; 124: stopped at its limit; 130 or 143: stopped by a signal to
this process. Ray and vLLM start processes that outlive their parents, so this process becomes their subreaper, ends the
remaining ones, and removes the segments of shared memory that they have open.
"""

from __future__ import annotations

import ctypes
import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import FrameType

import psutil

PR_SET_CHILD_SUBREAPER = 36  # <linux/prctl.h>
GRACE_SECONDS = 15.0  # Ray and vLLM take some to exit by themselves
SHARED_MEMORY = re.compile(r"/dev/shm/\S+$", re.MULTILINE)


def main() -> int:
    limit, log, *command = sys.argv[1:]
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    process = None
    try:
        with open(log, "wb") as output:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )
        return process.wait(float(limit))
    except subprocess.TimeoutExpired:
        return 124
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # cleaning up is not interrupted
        if process is not None and process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)  # the driver's own exit shuts Ray down cleanly
        psutil.wait_procs(_descendants(), timeout=GRACE_SECONDS)
        while alive := _descendants():
            _end(alive)


def _stop(number: int, _frame: FrameType | None) -> None:
    sys.exit(128 + number)


def _descendants() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


def _end(processes: list[psutil.Process]) -> None:
    segments = set()
    for process in processes:
        with suppress(OSError):
            segments |= set(SHARED_MEMORY.findall(Path(f"/proc/{process.pid}/maps").read_text()))
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, timeout=GRACE_SECONDS)
    for segment in segments:
        with suppress(OSError):
            Path(segment).unlink()


if __name__ == "__main__":
    sys.exit(main())
