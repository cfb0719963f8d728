# SPDX-License-Identifier: Apache-2.0
"""Order of the tests, optional real data, and a guard against processes that a test leaves running.

Unit tests run before the end-to-end ones. After the last test no Ray, vLLM or training process of this session may be
alive: the session then fails, names them and ends them. They are found as descendants of this process; orphans count
too, because the process declares itself their "subreaper", to whom Linux hands a process whose parent has died.
"""

import ctypes
import os
import re
from pathlib import Path

import psutil
import pytest

REPO = Path(__file__).resolve().parent.parent
PR_SET_CHILD_SUBREAPER = 36  # <linux/prctl.h>
# Ray renames its workers to ray::NAME and vLLM its engine to VLLM::NAME; other helpers (multiprocessing's resource
# tracker, pools that end with the interpreter) are not meant.
OURS = re.compile(r"raylet|gcs_server|ray::|/site-packages/ray/|VLLM::|vllm\.entrypoints|-m co_rewarding|\bmain_ppo\b")
GRACE_SECONDS = 20  # Ray's processes take some seconds to end after the driver has

leftovers: list[str] = []


def pytest_sessionstart() -> None:
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.get_closest_marker("e2e") is not None)  # stable: otherwise as collected


def running_processes_of_ours() -> list[psutil.Process]:
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if process.status() != psutil.STATUS_ZOMBIE and OURS.search(" ".join(process.cmdline())):
                found.append(process)
        except psutil.NoSuchProcess:  # ended between the listing and the question
            continue
    return found


def pytest_sessionfinish(session: pytest.Session) -> None:
    _, alive = psutil.wait_procs(running_processes_of_ours(), timeout=GRACE_SECONDS)
    for process in alive:
        try:
            leftovers.append(f"{process.pid} {' '.join(process.cmdline())[:150]}")
            process.kill()
        except psutil.NoSuchProcess:
            continue
    if leftovers:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if leftovers:
        terminalreporter.section("processes left running by the tests (now ended)", sep="!", red=True)
        for line in leftovers:
            terminalreporter.line(line)


@pytest.fixture(scope="session")
def repo() -> Path:
    """Root folder of the project."""
    return REPO


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder with real pairs (`math/train_original.parquet` and others); skips the test where there is none."""
    folder = Path(os.environ.get("CO_REWARDING_DATA", REPO.parent / "shared/data"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}: set CO_REWARDING_DATA to a folder that has some")
    return folder
