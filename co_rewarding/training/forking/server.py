# SPDX-License-Identifier: Apache-2.0
"""`python -m co_rewarding.training.forking.server PARENT SOCKET MODULE…`: imports the modules, then forks for clients.

It ends with the process that started it, at once (PR_SET_PDEATHSIG). A fork ends with its client. Only this user's
processes are served.
"""

import array
import atexit
import ctypes
import fcntl
import gc
import importlib
import json
import multiprocessing
import os
import random
import selectors
import signal
import socket
import struct
import sys
import tempfile
import threading
import traceback
import warnings
from collections.abc import Sequence
from contextlib import suppress
from types import ModuleType
from typing import Any

from co_rewarding.training.forking.client import OOM_SCORE

PR_SET_PDEATHSIG = 1
MOST_FILES = 253  # that Linux passes at once
PATIENCE_S = 10.0  # to wait for a client's request, while the others wait


def main(parent: int, address: str, modules: Sequence[str]) -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it has ended already
        return
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("\0" + address)  # clients that connect during the imports wait
        listener.listen(128)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about engines that are not installed
            for name in modules:
                importlib.import_module(name)
        sys.stdout.flush()  # every fork would write what is still buffered
        sys.stderr.flush()
        gc.collect()
        gc.freeze()  # pages that are never touched are never copied
        request = serve(listener)
    os._exit(become(request))  # without taking a few thousand modules apart


def serve(listener: socket.socket) -> dict[str, Any]:
    """Fork for every client. Returns only in the forks, with the client's request; their files are in place."""
    clients: dict[int, tuple[int, socket.socket]] = {}  # pid and connection by the number of the connection
    waiting = selectors.DefaultSelector()
    waiting.register(listener, selectors.EVENT_READ)
    while True:
        for key, _ in waiting.select():
            if key.fileobj is listener:
                connection, _ = listener.accept()
                request, files = receive(connection)
                if request is None:
                    connection.close()
                    continue
                try:
                    pid = os.fork()
                except OSError:  # no process or memory available; the client starts Python
                    connection.close()
                    close(files)
                    continue
                if pid == 0:
                    waiting.close()
                    for open_one in (listener, connection, *(other for _, other in clients.values())):
                        open_one.close()
                    place(files, request["files"])
                    return request
                close(files)
                with suppress(OSError):  # it has ended, which is read below
                    connection.sendall(f"{pid}\n".encode())
                clients[connection.fileno()] = pid, connection
                waiting.register(connection, selectors.EVENT_READ, connection)
                ended = os.pidfd_open(pid)
                waiting.register(ended, selectors.EVENT_READ, (pid, connection))
            elif isinstance(key.data, socket.socket):  # the client has ended, or has been
                waiting.unregister(key.data)
                pid, connection = clients.pop(key.fd)
                connection.close()
                if pid:
                    os.kill(pid, signal.SIGKILL)
            else:
                pid, connection = key.data
                waiting.unregister(key.fd)
                os.close(key.fd)
                code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                if connection.fileno() in clients:
                    clients[connection.fileno()] = 0, connection
                    with suppress(OSError):  # it has ended, too
                        connection.sendall(f"{code}\n".encode())


def receive(connection: socket.socket) -> tuple[dict[str, Any] | None, list[int]]:
    """A client's request and its files; None from another user's process, or one that ended or stays silent."""
    size = struct.calcsize("3i")
    _, user, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    if user != os.getuid():
        return None, []
    files = array.array("i")
    message = bytearray()
    connection.settimeout(PATIENCE_S)
    try:
        head, rights, _, _ = connection.recvmsg(8, socket.CMSG_SPACE(MOST_FILES * files.itemsize))
        for _, _, data in rights:
            files.frombytes(data[: len(data) - len(data) % files.itemsize])
        while len(head) == 8 and len(message) < int.from_bytes(head, "big"):
            part = connection.recv(1 << 20)
            if not part:
                break
            message += part
        connection.settimeout(None)
        return json.loads(message), list(files)
    except (OSError, ValueError):
        close(files)
        return None, []


def close(files: Sequence[int]) -> None:
    for number in files:
        os.close(number)


def place(files: Sequence[int], numbers: Sequence[int]) -> None:
    """Give open files the numbers that they have in the client."""
    first = max([*files, *numbers]) + 1
    aside = [fcntl.fcntl(number, fcntl.F_DUPFD, first) for number in files]
    close(files)
    for number, target in zip(aside, numbers, strict=True):
        os.dup2(number, target, inheritable=True)
        os.close(number)


def become(request: dict[str, Any]) -> int:
    """Do what Python does with the client's arguments, in this fork; the exit code."""
    os.setsid()  # ending the process group must end this one and its children
    os.setpriority(os.PRIO_PROCESS, 0, request["niceness"])
    OOM_SCORE.write_text(request["oom_score_adj"])
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    tempfile.tempdir = None  # TMPDIR may be another one
    random.seed()
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed()
    multiprocessing.set_executable(request["executable"])
    first, *rest = request["arguments"]
    main_module = sys.modules["__main__"] = ModuleType("__main__")
    if first == "-c":
        code, sys.argv, sys.path[0] = compile(rest[0], "<string>", "exec"), ["-c", *rest[1:]], ""
    else:
        main_module.__file__ = first
        with open(first, "rb") as script:
            code = compile(script.read(), first, "exec")
        sys.argv, sys.path[0] = [first, *rest], os.path.dirname(first)
    exit_code = 0
    try:
        exec(code, main_module.__dict__)
    except SystemExit as stop:
        exit_code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        traceback.print_exc()
        exit_code = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    return exit_code


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3:])
