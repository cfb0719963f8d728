# SPDX-License-Identifier: Apache-2.0
"""What a start leaves, with real processes, segments and sockets. (tests/e2e/test_ends.py ends real runs.)"""

import json
import mmap
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psutil
import pytest
from omegaconf import DictConfig

from co_rewarding.storage.run_dir import RunDir
from co_rewarding.training import leftovers
from co_rewarding.training.forking.start import SERVER, ForkServer
from co_rewarding.training.launch import _prepare_weight_sync
from co_rewarding.training.leftovers import Leftovers, remove_what_a_killed_start_left, removed_at_the_end
from co_rewarding.training.weight_sync import TAG

# a child that maps a segment, in a session of its own as Ray's and vLLM's, and a parent that says which and dies
CHILD = """
import mmap, os, time
name = f"test-{os.getpid()}"
with open(f"/dev/shm/{name}", "w+b") as file:
    file.truncate(4096)
    segment = mmap.mmap(file.fileno(), 4096)
print(name, flush=True)
time.sleep(600)
"""
PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], start_new_session=True, stdout=subprocess.PIPE, text=True)
print(child.pid, child.stdout.readline().strip(), flush=True)
sys.stdin.read()
"""


class Started:
    """A process and its child, which maps a segment of shared memory."""

    def __init__(self) -> None:
        self.others = [child.pid for child in psutil.Process().children()]  # of other tests
        self.parent = subprocess.Popen(
            [sys.executable, "-c", PARENT, CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        number, name = self.parent.stdout.readline().split()
        self.child, self.segment = psutil.Process(int(number)), Path("/dev/shm", name)

    def parent_ends(self) -> None:
        self.parent.communicate("")

    def is_child_alive(self) -> bool:
        return self.child.is_running() and self.child.status() != psutil.STATUS_ZOMBIE


@pytest.fixture
def started() -> Iterator[Started]:
    processes = Started()
    yield processes
    processes.parent_ends()
    if processes.is_child_alive():
        processes.child.kill()
    processes.segment.unlink(missing_ok=True)


@pytest.fixture
def foreign() -> Iterator[Path]:
    """A segment that only this process maps."""
    path = Path("/dev/shm", f"test-foreign-{os.getpid()}")
    with path.open("w+b") as file:
        file.truncate(4096)
        segment = mmap.mmap(file.fileno(), 4096)
    yield path
    segment.close()
    path.unlink()


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return RunDir(tmp_path / "run")


def test_what_descends_from_the_start_is_found_and_nothing_else(started: Started, foreign: Path) -> None:
    left = Leftovers(others=started.others)
    left.look()
    assert {str(started.parent.pid), str(started.child.pid)} <= left.processes.keys()
    assert str(os.getpid()) not in left.processes
    assert left.segments == {started.segment.name: started.segment.stat().st_ino}
    started.parent_ends()  # the child is an orphan now, and is known from before
    left.look()
    assert [process.pid for process in left.alive()] == [started.child.pid]
    assert left.remove().startswith("processes: 1, segments of shared memory: 1,")
    assert not started.is_child_alive()
    assert not started.segment.exists() and foreign.exists()


def test_what_was_there_before_is_no_leftover() -> None:
    """A model in /dev/shm for fast loading: its file is mapped by the run's processes, too."""
    folder = Path("/dev/shm", f"test-model-{os.getpid()}")
    folder.mkdir()
    files = [folder / "model.safetensors", folder.with_suffix(".safetensors")]
    for file in files:
        file.write_bytes(bytes(4096))
    program = "import numpy, sys\nmaps = [numpy.memmap(name, mode='r') for name in sys.argv[1:]]\ninput()"
    left = Leftovers(others=[child.pid for child in psutil.Process().children()], before=leftovers._segments())
    child = subprocess.Popen([sys.executable, "-c", program, *map(str, files)], stdin=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 30
        while folder.name not in Path(f"/proc/{child.pid}/maps").read_text():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        left.look()
        assert left.processes and not left.segments
        Leftovers(segments={f"{folder.name}/model.safetensors": files[0].stat().st_ino}).remove()  # of an older record
        left.remove()
        assert all(file.exists() for file in files)
    finally:
        child.kill()
        child.communicate()
        files[1].unlink()
        shutil.rmtree(folder)


def test_the_number_of_a_process_and_the_name_of_a_segment_are_not_enough(started: Started, foreign: Path) -> None:
    number = started.child.pid
    left = Leftovers(
        processes={str(number): leftovers._start_time(number) - 1},
        segments={started.segment.name: started.segment.stat().st_ino + 1},
    )
    assert left.remove().startswith("processes: 0, segments of shared memory: 0,")
    assert started.is_child_alive() and started.segment.exists() and foreign.exists()


def test_the_next_start_removes_what_a_killed_one_left(
    started: Started, run: RunDir, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "folder"
    weights = Path(tempfile.gettempdir(), f"left-{os.getpid()}-replica-0.sock")
    (folder / "session/logs").mkdir(parents=True)
    places = (folder / "session/raylet", weights)
    sockets = [socket.socket(socket.AF_UNIX) for _ in places]
    for one, path in zip(sockets, places, strict=True):
        one.bind(str(path))
    left = Leftovers(folder=str(folder), weight_sockets=str(weights).replace("replica-0", "*"), others=started.others)
    left.look()
    left.write(run.leftovers)
    started.parent_ends()
    remove_what_a_killed_start_left(run)
    said = (
        "The last start was killed; removed its leftovers (processes: 1, segments of shared memory: 1, sockets: 2).\n"
    )
    assert capsys.readouterr().out == said
    assert not started.is_child_alive()
    assert not any(path.exists() for path in (started.segment, folder, weights, run.leftovers))
    remove_what_a_killed_start_left(run)  # there is nothing any more
    assert capsys.readouterr().out == ""
    for one in sockets:
        one.close()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"processes": {}, "of another version": 1}'])
def test_a_record_that_cannot_be_read_names_nothing(run: RunDir, text: str) -> None:
    run.path.mkdir()
    run.leftovers.write_text(text)
    remove_what_a_killed_start_left(run)


def test_what_is_on_another_machine_is_left(started: Started, run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    left = Leftovers("elsewhere", others=started.others)
    left.look()
    left.write(run.leftovers)
    remove_what_a_killed_start_left(run)
    assert "the last start was on elsewhere; its leftovers there are not removed" in capsys.readouterr().out
    assert started.is_child_alive() and started.segment.exists()


def test_after_a_boot_only_the_folder_can_be_left(started: Started, run: RunDir, tmp_path: Path) -> None:
    left = Leftovers(boot="another", folder=str(tmp_path / "folder"), others=started.others)
    Path(left.folder).mkdir()
    left.look()
    left.write(run.leftovers)
    remove_what_a_killed_start_left(run)
    assert started.is_child_alive() and started.segment.exists()
    assert not Path(left.folder).exists() and not run.leftovers.exists()


class Stop(BaseException):
    """As KeyboardInterrupt and SystemExit: no failure."""


@pytest.mark.parametrize("end", [None, Stop, RuntimeError])
def test_after_the_end_nothing_is_left_but_the_logs_of_a_failure(
    end: type[BaseException] | None, run: RunDir, config: DictConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leftovers, "INTERVAL_S", 0.05)
    monkeypatch.setattr(leftovers, "GRACE_S", 0.2)
    _prepare_weight_sync(config)
    try:
        with removed_at_the_end(run, config):
            started = Started()
            folder = Path(config.ray_kwargs.ray_init._temp_dir)
            assert folder.stat().st_mode & 0o777 == 0o700 and os.environ["TMPDIR"] == str(folder)
            (folder / "session/logs").mkdir(parents=True)
            queue = socket.socket(socket.AF_UNIX)
            queue.bind(f"{folder}/queue")
            deadline = time.monotonic() + 30
            while not run.leftovers.is_file():
                assert time.monotonic() < deadline
                time.sleep(0.05)
            assert (
                config.ray_kwargs.ray_init.runtime_env.env_vars[TAG]
                in json.loads(run.leftovers.read_text())["weight_sockets"]
            )
            if end:
                raise end
    except (Stop, RuntimeError):
        pass
    queue.close()
    assert os.environ.get("TMPDIR") != str(folder)
    assert not started.is_child_alive() and not started.segment.exists()
    failed = end is RuntimeError
    assert (folder / "session/logs").is_dir() == failed and run.leftovers.is_file() == failed
    assert not (folder / "queue").exists()
    remove_what_a_killed_start_left(run)
    assert not folder.exists() and not run.leftovers.exists()


def test_forks_of_the_server_go_and_so_does_the_server(
    run: RunDir, config: DictConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leftovers, "INTERVAL_S", 0.05)
    monkeypatch.setattr(leftovers, "GRACE_S", 0.2)
    _prepare_weight_sync(config)
    address = f"test-{uuid4().hex}"
    server = ForkServer(address, subprocess.Popen([sys.executable, "-m", SERVER, str(os.getpid()), address, "wave"]))
    deadline = time.monotonic() + 30
    while f"@{address}" not in Path("/proc/net/unix").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    with removed_at_the_end(run, config, server):
        executable = config.ray_kwargs.ray_init.runtime_env.py_executable
        assert Path(executable).parent == Path(config.ray_kwargs.ray_init._temp_dir)
        code = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
        client = subprocess.Popen([executable, "-c", code], stdout=subprocess.PIPE)
        fork = int(client.stdout.readline())
        while str(fork) not in json.loads(run.leftovers.read_text())["processes"]:  # what the next start would read
            assert time.monotonic() < deadline
            time.sleep(0.05)
    client.wait(5)
    assert not psutil.pid_exists(fork) and not psutil.pid_exists(server.pid)
    client.stdout.close()


def test_a_joined_cluster_is_left_as_it_is(run: RunDir, config: DictConfig) -> None:
    config.ray_kwargs.ray_init.address = "192.0.2.1:6379"
    with removed_at_the_end(run, config):
        assert "_temp_dir" not in config.ray_kwargs.ray_init
    assert not run.leftovers.exists()


def test_sockets_have_a_path_that_is_short_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = tmp_path / ("x" * 60)
    long.mkdir()
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / "new"))  # is made, as by Ray
    assert Path(leftovers._new_folder()).parent == tmp_path / "new" or len(str(tmp_path)) > 40
    monkeypatch.setenv("RAY_TMPDIR", str(long))
    folder = leftovers._new_folder()
    assert Path(folder).parent == Path("/tmp") and not any(long.iterdir())
    with socket.socket(socket.AF_UNIX) as plasma:
        place = Path(folder, "session_2026-11-27_03-24-12_123456_4194303/sockets")  # the largest number of a process
        place.mkdir(parents=True)
        plasma.bind(str(place / "plasma_store"))
    Leftovers(folder=folder).remove()
    assert not Path(folder).exists()
