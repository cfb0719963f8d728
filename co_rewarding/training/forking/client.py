# SPDX-License-Identifier: Apache-2.0
"""`client.py SOCKET EXECUTABLE ARGUMENTS…`: what `python ARGUMENTS…` would do, in a fork of the server.

Runs as `python -I -S` and needs only the standard library. Python itself is started instead if the server is gone, for
arguments other than a script or `-c`, and if the run is not Ray's first job (start.py: Ray's library has read the first
one's variables).
"""

import array
import json
import os
import re
import signal
import socket
import sys
from itertools import takewhile
from pathlib import Path
from types import FrameType

OOM_SCORE = Path("/proc/self/oom_score_adj")
FIRST_JOB = "01000000"  # of every Ray, in its variable RAY_JOB_ID
PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def main(address: str, executable: str, arguments: list[str]) -> None:
    flags = len(list(takewhile(is_flag, arguments)))  # multiprocessing passes its parent's, and the server has them
    is_script = arguments[flags] == "-c" or not arguments[flags].startswith("-")
    files = open_files()
    signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)  # until there is a fork to pass them to
    with socket.socket(socket.AF_UNIX) as server:
        try:
            if not is_script or os.environ.get("RAY_JOB_ID", FIRST_JOB) != FIRST_JOB:
                raise OSError
            server.connect("\0" + address)
            request = {
                "arguments": arguments[flags:],
                "environment": dict(os.environ),
                "folder": os.getcwd(),
                "files": files,
                "executable": executable,
                "niceness": os.getpriority(os.PRIO_PROCESS, 0),
                "oom_score_adj": OOM_SCORE.read_text(),  # Ray's workers are to be killed first
            }
            message = json.dumps(request).encode()
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", files))]
            server.sendmsg([len(message).to_bytes(8, "big")], rights)
            server.sendall(message)
            answers = server.makefile()
            pid = int(answers.readline())  # ValueError: the server has ended before it forked
        except (OSError, ValueError):
            signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)
            os.execv(sys.executable, [sys.executable, *arguments])

        def pass_on(number: int, _: FrameType | None) -> None:
            os.kill(pid, number)

        for number in PASSED_ON:
            signal.signal(number, pass_on)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)
        end_as(int(answers.readline() or -signal.SIGKILL))


def is_flag(argument: str) -> bool:
    """Whether it is a Python option that says how, not what, to run."""
    return argument[:2] in ("-W", "-X") or re.fullmatch("-[BEIOPRSdqsuvx]+", argument) is not None


def open_files() -> list[int]:
    """Inherited file descriptors."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            os.fstat(int(name))
        except OSError:  # the listing itself
            continue
        found.append(int(name))
    return found


def end_as(code: int) -> None:
    """Exit with the code, or by the signal of a negative one."""
    if code < 0:
        signal.signal(-code, signal.SIG_DFL) if -code != signal.SIGKILL else None
        os.kill(os.getpid(), -code)
    os._exit(code)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
