# SPDX-License-Identifier: Apache-2.0
"""What a start creates on this machine outside its run directory, and how it is removed.

    processes        Ray's and vLLM's, and what they start: all descendants of the process that starts Ray
    shared memory    in /dev/shm, by the names that these processes map: vLLM's message queues, verl's weights, NCCL's.
                     A killed creator leaves them, and Ray ends its actors by SIGKILL. Not counted: what existed before
                     the start, is another user's, or lies in a folder (a model, say)
    a folder         which is TMPDIR to them: Ray's session (sockets, logs, spilled objects), vLLM's sockets, locks
    weight sockets   with the start's tag in their names (training.weight_sync)

Every second a thread records what it finds in RUN_DIR/leftovers.json. When the start ends, all of it is stopped and
removed; after SIGKILL the next start does that. It holds run.lock, so the start that wrote the file is over. A process
is identified by number and start time, a segment by name and inode, so nothing else can be hit. What was created in the
last second before a SIGKILL can be missed.

A failed start keeps its folder, which has Ray's logs, without the sockets, until the next start.

With RAY_ADDRESS the processes are the cluster's, and nothing is done here.
"""

import glob
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil
from omegaconf import DictConfig, OmegaConf

from co_rewarding.storage.files import atomic_write_text
from co_rewarding.storage.run_dir import RunDir
from co_rewarding.training.forking.start import ForkServer
from co_rewarding.training.preflight.machine import starts_own_ray

SHARED_MEMORY = Path("/dev/shm")
BOOT = Path("/proc/sys/kernel/random/boot_id")
INTERVAL_S = 1.0
GRACE_S = 5.0  # for processes that end by themselves once Ray has
LONGEST_SOCKET = 107 - len("/session_2026-01-01_00-00-00_000000_0000000/sockets/plasma_store")  # Linux's limit


@dataclass
class Leftovers:
    """The record: the host and its boot, the folder, a pattern that the weight sockets match, processes (number → when
    started, in clock ticks since the boot) and segments of shared memory (name → inode). Excluded: `others`, children
    of this process that are not the start's, and `before`, what was in /dev/shm (name → inode)."""

    host: str = field(default_factory=socket.gethostname)
    boot: str = field(default_factory=lambda: BOOT.read_text().strip())
    folder: str = ""
    weight_sockets: str = ""
    others: list[int] = field(default_factory=list)
    before: dict[str, int] = field(default_factory=dict)
    processes: dict[str, int] = field(default_factory=dict)
    segments: dict[str, int] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> "Leftovers | None":
        """None without a readable file."""
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def write(self, path: Path) -> None:
        atomic_write_text(path, json.dumps(asdict(self)))

    def look(self) -> None:
        """Add this process's descendants, those of the recorded ones, and what they map in /dev/shm."""
        children = defaultdict(list)
        for process in psutil.process_iter(["ppid"]):
            children[process.info["ppid"]].append(process.pid)
        found = [number for number in children.pop(os.getpid(), []) if number not in self.others]
        found += [process.pid for process in self.alive()]
        for number in found:
            found += children.pop(number, [])
        for number in set(found):
            with suppress(OSError):  # it has ended
                self.processes[str(number)] = _start_time(number)
        new = {name: inode for name, inode in _segments().items() if self.before.get(name) != inode}
        if new.keys() - self.segments.keys():
            mapped = set().union(*map(_mapped, set(found)))
            self.segments |= {name: inode for name, inode in new.items() if name in mapped}

    def alive(self) -> list[psutil.Process]:
        """The recorded processes that are still there."""
        found = []
        for number, started in self.processes.items():
            with suppress(OSError, psutil.NoSuchProcess):
                process = psutil.Process(int(number))
                if _start_time(process.pid) == started and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def remove(self, keep_logs: bool = False, grace_s: float = 0.0) -> str:
        """End the processes, with `grace_s` to exit by themselves, then remove the rest; return what was done."""
        _, alive = psutil.wait_procs(self.alive(), timeout=grace_s)
        for process in alive:
            with suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(alive, timeout=GRACE_S)
        segments = [name for name, inode in _segments().items() if self.segments.get(name) == inode]
        for name in segments:
            (SHARED_MEMORY / name).unlink(missing_ok=True)
        sockets = glob.glob(self.weight_sockets)
        if self.folder:
            sockets += [path for path in Path(self.folder).rglob("*") if path.is_socket()]
        for path in sockets:
            Path(path).unlink(missing_ok=True)
        if self.folder and not keep_logs:
            shutil.rmtree(self.folder, ignore_errors=True)
        return f"processes: {len(alive)}, segments of shared memory: {len(segments)}, sockets: {len(sockets)}"


def remove_what_a_killed_start_left(run: RunDir) -> None:
    """Call with the run's lock held."""
    left = Leftovers.read(run.leftovers)
    if left is None:
        return
    if left.host != socket.gethostname():
        print(f"{run.leftovers}: the last start was on {left.host}; its leftovers there are not removed", flush=True)
        return
    if left.boot != Leftovers().boot:  # the machine has rebooted since, without them
        left.processes, left.segments = {}, {}
    done = left.remove()
    run.leftovers.unlink(missing_ok=True)
    if left.processes:  # a start that failed has put away all but its logs
        print(f"The last start was killed; removed its leftovers ({done}).", flush=True)


@contextmanager
def removed_at_the_end(run: RunDir, config: DictConfig, server: ForkServer | None = None) -> Iterator[None]:
    """Wraps the block that starts Ray and trains: cleans up after it, whether it returned or raised.

    SIGTERM and SIGINT are ignored while that is being done, for about 10 s at most.
    """
    if not starts_own_ray(config):
        yield
        return
    from co_rewarding.training.weight_sync import PREFIX, TAG  # imports verl, which the run needs now anyway

    tag = config.ray_kwargs.ray_init.runtime_env.env_vars[TAG]
    left = Leftovers(
        folder=_new_folder(),
        weight_sockets=f"{PREFIX.removeprefix('ipc://')}{tag}-*",
        others=[
            child.pid for child in psutil.Process().children() if server is None or child.pid != server.process.pid
        ],
        before=_segments(),
    )
    OmegaConf.update(config, "ray_kwargs.ray_init._temp_dir", left.folder, force_add=True)
    if server is not None:
        server.serve_ray(config, Path(left.folder))
    left.write(run.leftovers)
    before = os.environ.copy()
    # other starts reuse compiled code
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", f"{tempfile.gettempdir()}/torchinductor_{os.getuid()}")
    os.environ["TMPDIR"] = left.folder
    ended = threading.Event()
    watch = threading.Thread(target=_watch, args=(left, run.leftovers, ended), daemon=True)
    watch.start()
    failed = False
    try:
        yield
    except Exception:
        failed = True
        raise
    finally:
        handlers = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGTERM, signal.SIGINT)}
        ended.set()
        watch.join()
        left.look()
        try:
            if "ray" in sys.modules:
                sys.modules["ray"].shutdown()
        finally:
            if server is not None:
                server.end()
            left.remove(keep_logs=failed, grace_s=GRACE_S)
        if failed:
            print(f"Ray's logs: {left.folder}/session_latest/logs (until the next start of this run)", flush=True)
            with suppress(OSError):  # the disk may be the cause
                Leftovers(folder=left.folder).write(run.leftovers)
        else:
            run.leftovers.unlink(missing_ok=True)
        os.environ.clear()
        os.environ.update(before)
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _watch(left: Leftovers, path: Path, ended: threading.Event) -> None:
    written = ""
    while not ended.wait(INTERVAL_S):
        try:
            left.look()
            if written != repr(left):
                left.write(path)
                written = repr(left)
        except OSError as error:  # others report a full disk; the next attempt may succeed
            print(f"{path}: {error.strerror}; leftovers of a kill are not recorded now", file=sys.stderr, flush=True)


def _new_folder() -> str:
    """A private folder where Ray would place its own, unless its socket paths would be too long."""
    place = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
    os.makedirs(place, exist_ok=True)  # as Ray does
    folder = tempfile.mkdtemp(prefix="co-rewarding-", dir=place)
    if len(folder) <= LONGEST_SOCKET:
        return folder
    os.rmdir(folder)
    return tempfile.mkdtemp(prefix="co-rewarding-", dir="/tmp")


def _start_time(number: int) -> int:
    """When the process of this number was started: exact, where seconds since 1970 move with the clock."""
    return int(Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[19])


def _segments() -> dict[str, int]:
    """This user's segments of shared memory: name → inode."""
    found = {}
    with os.scandir(SHARED_MEMORY) as entries:
        for entry in entries:
            with suppress(OSError):  # gone in between
                status = entry.stat(follow_symlinks=False)
                if entry.is_file(follow_symlinks=False) and status.st_uid == os.getuid():
                    found[entry.name] = status.st_ino
    return found


def _mapped(number: int) -> set[str]:
    """Names of the segments of shared memory that the process of this number maps."""
    prefix = f"{SHARED_MEMORY}/"
    try:
        lines = Path(f"/proc/{number}/maps").read_text(errors="replace").splitlines()
    except OSError:
        return set()
    paths = {line.partition("/")[1] + line.partition("/")[2] for line in lines if prefix in line}
    return {path.removeprefix(prefix) for path in paths if not path.endswith(" (deleted)")}
