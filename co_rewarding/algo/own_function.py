# SPDX-License-Identifier: Apache-2.0
"""A user's function: a reward, or a reader of answers. Only this file looks up modules by name.

    path/to/file.py:function        a file, from the current folder; its folder need not be a package
    package.module:function         anything that can be imported

A file is loaded once per content, so an edited function takes effect in the next process and stays one object within a
process. It runs with the user's rights, like any program: name only code that you trust.

Degenerate cases: an error while a file is loaded is reported in one line with its place in the file.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any


class OwnFunctionError(ValueError):
    """An error in a user's function, in one line with file and line: it ends the run and never counts as 0."""


def is_own_function(name: str) -> bool:
    """Whether `name` has the form of a function's place, existing or not."""
    place, mark, function = name.rpartition(":")
    return bool(mark and place) and function.isidentifier()


def absolute(name: str) -> str:
    """The function with an absolute path, for a process in another folder."""
    place, _, function = name.rpartition(":")
    return f"{Path(place).expanduser().resolve()}:{function}" if place.endswith(".py") else name


def load_function(name: str) -> Callable[..., Any]:
    """The function at `path/to/file.py:function` or `package.module:function`.

    Raises:
        ValueError: no such file, module or function, or an error while loading it.
    """
    place, _, function = name.rpartition(":")
    if not is_own_function(name):
        raise ValueError(f"{name!r} names no function: write path/to/file.py:function or package.module:function")
    module = _of_file(Path(place).expanduser(), name) if place.endswith(".py") else _imported(place, name)
    found = getattr(module, function, None)
    if not callable(found):
        there = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise ValueError(f"{name}: {place} has no function {function}; it has {', '.join(there) or 'none'}")
    return found


def source_sha256(name: str) -> str:
    """Hash of the function's file, "" if it has none: detects a changed function.

    Raises:
        ValueError: see load_function.
    """
    module = sys.modules.get(load_function(name).__module__)
    path = getattr(module, "__file__", None)
    return hashlib.sha256(Path(path).read_bytes()).hexdigest() if path else ""


def line_of(function: Callable[..., Any], place: str, error: Exception | None = None) -> str:
    """file:line (function) of the error in `function`, or of itself; `place` if it has no Python code."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    if code is None:  # a callable object
        return place
    line = code.co_firstlineno
    if error is not None:
        frames = traceback.extract_tb(error.__traceback__)
        line = next((frame.lineno for frame in reversed(frames) if frame.filename == code.co_filename), line)
    return f"{code.co_filename}:{line} ({code.co_name})"


def call(function: Callable[..., Any], place: str, *arguments: Any) -> Any:
    """Call the function. Raises OwnFunctionError for any error in it."""
    try:
        return function(*arguments)
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        raise OwnFunctionError(f"{line_of(function, place, error)}: {reason}") from error


def _of_file(path: Path, name: str) -> ModuleType:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{name}: {path} cannot be read ({error.strerror}); looked for {path.absolute()}") from error
    whole = hashlib.sha256(str(path.resolve()).encode() + b"\0" + content).hexdigest()
    module_name = f"own_{path.stem}_{whole[:16]}"
    if module_name not in sys.modules:
        spec = importlib.util.spec_from_file_location(module_name, path.resolve())
        assert spec is not None and spec.loader is not None  # a file that ends in .py
        module = importlib.util.module_from_spec(spec)
        sys.modules[module_name] = module  # dataclasses in it look themselves up there
        try:
            spec.loader.exec_module(module)
        except BaseException as error:
            del sys.modules[module_name]
            if not isinstance(error, Exception | SystemExit):  # a script that exits is reported like an error
                raise
            raise ValueError(f"{name}: {_reason(error, str(path.resolve()))}") from error
    return sys.modules[module_name]


def _imported(module: str, name: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except (Exception, SystemExit) as error:
        raise ValueError(f"{name}: {_reason(error, module)}") from error


def _reason(error: BaseException, where: str) -> str:
    """The error, and the last line of the user's file in its traceback."""
    if isinstance(error, SyntaxError) and error.filename == where:
        return f"line {error.lineno}: {error.msg}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == where]
    at = f"line {lines[-1]}: " if lines else ""
    return f"{at}{type(error).__name__}: {' '.join(str(error).split())[:200]}"
