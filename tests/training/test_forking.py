# SPDX-License-Identifier: Apache-2.0
"""A real server and real clients, with a small module (`wave`) in the place of verl and vLLM."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import pytest
from omegaconf import OmegaConf

from co_rewarding.training.forking import client
from co_rewarding.training.forking import server as server_module
from co_rewarding.training.forking.start import FOR_THE_SERVER, MODULES, SERVER, ForkServer, fork_server

REPO = Path(__file__).resolve().parents[2]
IS_FORK = "import sys; print('wave' in sys.modules)"


@pytest.fixture
def server() -> Iterator[ForkServer]:
    address = f"test-{uuid4().hex}"
    process = subprocess.Popen(
        [sys.executable, "-m", SERVER, str(os.getpid()), address, "wave"],
        env=os.environ | {"PYTHONPATH": str(REPO)},
    )
    one = ForkServer(address, process)
    deadline = time.monotonic() + 20
    while f"@{address}" not in Path("/proc/net/unix").read_text():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    yield one
    one.end()


def command(server: ForkServer, *arguments: str) -> list[str]:
    return [sys.executable, "-I", "-S", client.__file__, server.address, "executable", *arguments]


def output(server: ForkServer, code: str, *arguments: str, **options: Any) -> str:
    run = subprocess.run(command(server, "-c", code, *arguments), capture_output=True, text=True, **options)
    assert run.returncode == 0, run.stderr
    return run.stdout


def wait_until(is_so: Any, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_client_is_a_fork_with_the_servers_imports(server: ForkServer) -> None:
    assert output(server, IS_FORK) == "True\n"
    assert output(server, "import os; print(os.getppid())") == f"{server.pid}\n"


def test_it_has_the_clients_arguments_variables_folder_and_input(server: ForkServer, tmp_path: Path) -> None:
    code = "import os, sys; print(sys.argv, os.getcwd(), os.environ['ONE'], 'TWO' in os.environ, sys.stdin.read())"
    found = output(server, code, "a b", "ü", cwd=tmp_path, env={"ONE": "1"}, input="told")
    assert found == f"['-c', 'a b', 'ü'] {tmp_path} 1 False told\n"


def test_it_has_the_clients_open_files_under_their_numbers(server: ForkServer) -> None:
    pipes = [os.pipe() for _ in range(3)]
    ends = [end for _, end in pipes]
    output(server, f"import os; [os.write(end, str(end).encode()) for end in {ends}]", pass_fds=ends)
    for end in ends:
        os.close(end)
    assert [os.read(out, 9).decode() for out, _ in pipes] == [str(end) for end in ends]
    assert [os.read(out, 9) for out, _ in pipes] == [b""] * 3  # nobody else, the server say, holds them open
    for out, _ in pipes:
        os.close(out)


def test_a_script_is_run_as_python_runs_it(server: ForkServer, tmp_path: Path) -> None:
    (tmp_path / "neighbour.py").write_text("WORD = 'found'")
    script = tmp_path / "script.py"
    script.write_text("import neighbour, sys\nif __name__ == '__main__': print(neighbour.WORD, __file__, sys.argv)")
    run = subprocess.run(command(server, str(script), "x"), capture_output=True, text=True)
    assert run.stdout == f"found {script} {[str(script), 'x']}\n"


@pytest.mark.parametrize(
    ("code", "ends"),
    [
        ("import sys; sys.exit(3)", 3),
        ("import sys; sys.exit('words')", 1),
        ("1 / 0", 1),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
    ],
)
def test_the_client_ends_as_the_fork(server: ForkServer, code: str, ends: int) -> None:
    run = subprocess.run(command(server, "-c", code), capture_output=True, text=True)
    assert run.returncode == ends
    assert ("ZeroDivisionError" in run.stderr) == (code == "1 / 0")


def test_exit_handlers_run_and_threads_are_waited_for(server: ForkServer) -> None:
    code = """
import atexit, threading, time
atexit.register(print, "handler")
threading.Thread(target=lambda: (time.sleep(0.2), print("thread"))).start()
"""
    assert output(server, code) == "thread\nhandler\n"


def test_sigterm_is_passed_on(server: ForkServer) -> None:
    code = (
        "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(7)); print('on', flush=True); time.sleep(60)"
    )
    with subprocess.Popen(command(server, "-c", code), stdout=subprocess.PIPE) as run:
        assert run.stdout.readline() == b"on\n"
        run.terminate()
        assert run.wait(10) == 7


def test_sigterm_before_there_is_a_fork_waits_for_it(server: ForkServer) -> None:
    os.kill(server.pid, signal.SIGSTOP)
    try:
        run = subprocess.Popen(command(server, "-c", "import time; time.sleep(60)"))
        bits = sum(1 << number - 1 for number in client.PASSED_ON)
        wait_until(lambda: f"SigBlk:\t{bits:016x}" in Path(f"/proc/{run.pid}/status").read_text(), 3)
        run.terminate()
    finally:
        os.kill(server.pid, signal.SIGCONT)
    assert run.wait(10) == -signal.SIGTERM  # as the fork


def test_a_fork_ends_with_its_client_and_with_nothing_of_the_servers(server: ForkServer) -> None:
    code = "import os, time; print(os.getpid(), os.getsid(0), flush=True); time.sleep(60)"
    with subprocess.Popen(command(server, "-c", code), stdout=subprocess.PIPE) as run:
        fork, session = map(int, run.stdout.readline().split())
        assert fork == session  # so that who ends its group ends no other
        run.kill()
        wait_until(lambda: not psutil.pid_exists(fork))
    assert output(server, IS_FORK) == "True\n"


def test_a_client_that_ended_unanswered_ends_no_other(server: ForkServer) -> None:
    request = {"arguments": ["-c", "import time; time.sleep(60)"], "environment": dict(os.environ), "folder": "/"}
    request |= {"files": [2], "executable": "", "niceness": 0, "oom_score_adj": client.OOM_SCORE.read_text()}
    message = json.dumps(request).encode()
    os.kill(server.pid, signal.SIGSTOP)  # as while its imports last
    with socket.socket(socket.AF_UNIX) as one:
        one.connect("\0" + server.address)
        socket.send_fds(one, [len(message).to_bytes(8, "big")], [2])
        one.sendall(message)
    os.kill(server.pid, signal.SIGCONT)
    assert output(server, IS_FORK) == "True\n"
    wait_until(lambda: not psutil.Process(server.pid).children())


def test_where_no_more_processes_are_to_be_had_the_client_tries_by_itself() -> None:
    address = f"test-{uuid4().hex}"
    code = f"""
import os, sys
from co_rewarding.training.forking import server
def fork():
    raise BlockingIOError("no more processes")
os.fork = fork
server.main({os.getpid()}, {address!r}, ["wave"])
"""
    process = subprocess.Popen([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(REPO)})
    one = ForkServer(address, process)
    try:
        wait_until(lambda: f"@{address}" in Path("/proc/net/unix").read_text(), 20)
        assert output(one, IS_FORK) == output(one, IS_FORK) == "False\n"  # and the server goes on
        assert process.poll() is None
    finally:
        one.end()


def test_a_client_that_says_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "PATIENCE_S", 0.05)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert server_module.receive(ours) == (None, [])
        theirs.sendall((10).to_bytes(8, "big") + b"{")  # of ten bytes
        assert server_module.receive(ours) == (None, [])


def test_without_a_server_python_itself_starts(server: ForkServer) -> None:
    server.end()
    assert output(server, IS_FORK) == "False\n"


def test_what_ray_reads_once_must_be_what_the_server_has(server: ForkServer) -> None:
    assert output(server, IS_FORK, env={"RAY_JOB_ID": "01000000"}) == "True\n"
    assert output(server, IS_FORK, env={"RAY_JOB_ID": "02000000"}) == "False\n"


def test_other_arguments_are_pythons(server: ForkServer) -> None:
    run = subprocess.run(command(server, "-m", "this"), capture_output=True, text=True)
    assert "Zen of Python" in run.stdout


def test_pythons_flags_are_the_servers(server: ForkServer) -> None:
    run = subprocess.run(command(server, "-B", "-Xdev", "-c", IS_FORK), capture_output=True, text=True)
    assert run.stdout == "True\n"


def test_it_is_as_nice_and_as_likely_to_be_killed_as_the_client(server: ForkServer) -> None:
    def worse() -> None:
        os.nice(7)
        Path("/proc/self/oom_score_adj").write_text("900")

    code = "import os; print(os.nice(0), open('/proc/self/oom_score_adj').read())"
    assert output(server, code, preexec_fn=worse) == f"{min(19, os.nice(0) + 7)} 900\n\n"


def test_forks_draw_different_numbers(server: ForkServer) -> None:
    code = "import random; print(random.random())"
    assert output(server, code) != output(server, code)


def test_multiprocessing_forks_from_the_server_too(server: ForkServer, tmp_path: Path) -> None:
    config = OmegaConf.create({"ray_kwargs": {"ray_init": {"runtime_env": {"env_vars": {}}}}})
    folder = tmp_path / "with a space"
    folder.mkdir()
    server.serve_ray(config, folder)
    executable = config.ray_kwargs.ray_init.runtime_env.py_executable
    script = tmp_path / "script.py"
    script.write_text(
        "import multiprocessing, os, sys\n"
        "def tell(pipe): pipe.send((os.getppid(), 'wave' in sys.modules))\n"
        "if __name__ == '__main__':\n"
        "    here, there = multiprocessing.Pipe()\n"
        "    one = multiprocessing.get_context('spawn').Process(target=tell, args=(there,))\n"
        "    one.start(); print(here.recv()); one.join(); print(one.exitcode)\n"
    )
    run = subprocess.run(["bash", "-c", f"exec {executable} {script}"], capture_output=True, text=True)  # as Ray does
    assert run.stdout == f"({server.pid}, True)\n0\n", run.stderr


def test_a_folder_in_which_nothing_can_be_run(server: ForkServer, tmp_path: Path) -> None:
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "noexec", "tmpfs", tmp_path], capture_output=True)
    if mounted.returncode:
        pytest.skip("this user may not mount")
    try:
        config = OmegaConf.create({"ray_kwargs": {"ray_init": {"runtime_env": {"env_vars": {}}}}})
        server.serve_ray(config, tmp_path)
    finally:
        subprocess.run(["umount", tmp_path], check=True)
    assert "py_executable" not in config.ray_kwargs.ray_init.runtime_env


def test_the_server_ends_with_the_process_that_started_it() -> None:
    address = f"test-{uuid4().hex}"
    starts = f"""
import os, subprocess, sys, time
server = subprocess.Popen([sys.executable, "-m", {SERVER!r}, str(os.getpid()), {address!r}, "wave"])
print(server.pid, flush=True)
time.sleep(60)
"""
    environment = os.environ | {"PYTHONPATH": str(REPO)}
    with subprocess.Popen([sys.executable, "-c", starts], stdout=subprocess.PIPE, env=environment) as parent:
        number = int(parent.stdout.readline())
        wait_until(lambda: f"@{address}" in Path("/proc/net/unix").read_text())
        parent.kill()
        wait_until(lambda: not psutil.pid_exists(number) or psutil.Process(number).status() == psutil.STATUS_ZOMBIE)


@pytest.mark.skipif(os.getuid() != 0, reason="only root starts another user's process")
def test_another_users_process_is_not_served(server: ForkServer) -> None:
    code = "import socket; s = socket.socket(socket.AF_UNIX); s.connect('\\0' + %r); print(s.recv(9))"
    run = subprocess.run(
        ["python3", "-c", code.replace("%r", repr(server.address))], user=65534, capture_output=True, text=True
    )
    if "Permission denied" in run.stderr and "python" in run.stderr:
        pytest.skip("no Python that another user may start")
    assert run.stdout == "b''\n", run.stderr
    assert output(server, IS_FORK) == "True\n"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("trainer.device", "cuda"),
        ("ray_kwargs.ray_init.address", "10.0.0.1:6379"),
        ("actor_rollout_ref.rollout.full_determinism", True),
        ("ray_kwargs.ray_init.runtime_env.py_executable", "/usr/bin/python3"),
        ("ray_kwargs.ray_init.runtime_env.pip", ["one-package"]),
    ],
)
def test_where_there_is_none(key: str, value: Any) -> None:
    config = OmegaConf.create(
        {
            "trainer": {"device": "cpu"},
            "actor_rollout_ref": {"rollout": {"full_determinism": False}},
            "ray_kwargs": {"ray_init": {"address": "local", "runtime_env": {"env_vars": {}}}},
        }
    )
    with fork_server(config) as one:
        assert one is not None
    OmegaConf.update(config, key, value, force_add=True)
    with fork_server(config) as one:
        assert one is None


@pytest.mark.e2e  # imports vLLM and verl: 17 s
def test_what_it_imports_is_there_and_starts_no_thread() -> None:
    """A thread would be missing in the forks, and what it holds locked would stay so. (jemalloc's own, of pyarrow, is
    made anew in a fork.)"""
    code = """
import importlib, os, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
print([name for one in os.listdir("/proc/self/task") if (name := open(f"/proc/self/task/{one}/comm").read().strip())])
"""
    environment = os.environ | {"VERL_PLATFORM": "cpu", "OMP_NUM_THREADS": "2"} | FOR_THE_SERVER
    run = subprocess.run(
        [sys.executable, "-c", code, *MODULES, "co_rewarding.cpu.engine"],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert run.stdout.splitlines()[-1] == "['python', 'jemalloc_bg_thd']", run.stderr[-2000:]
