# SPDX-License-Identifier: Apache-2.0
"""Prompts of a data file as the model sees them: rendered with its chat template and counted in tokens.

Counts as verl's `RLHFDataset.maybe_filter_out_long_prompts`, which drops prompts over `data.max_prompt_length` and,
silently, those that the template rejects. tests/training/preflight/test_rendering.py compares both.

Where the template takes no system message, the prompt is that of the merged messages (storage/messages.py).

A chat template is a program that came with a model: it runs in separate processes with limits on time and memory.
"""

import functools
import hashlib
import multiprocessing
import os
import resource
import signal
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from time import monotonic
from typing import Any

from tqdm import tqdm

from co_rewarding.algo import answer_format as formats
from co_rewarding.algo.answer_format import answer_format
from co_rewarding.storage import messages as of_template
from co_rewarding.storage.rows import content_sha256, file_sha256
from co_rewarding.training.preflight.cache import cached
from co_rewarding.training.preflight.machine import cores

Messages = Sequence[Mapping[str, str]]
Row = tuple[int, int, bool, bool, int | None, str]  # tokens, highest id, asks for the format, merged, lost, failure
Asked = tuple[Messages, str]  # a prompt and its answer format
CHUNK = 64  # prompts per chunk for a process; about 50 ms
STALL_S = 30.0  # for one chunk
SECONDS_PER_PROMPT = 0.05  # for all together, beside STALL_S; usually 0.001
MAX_MEMORY = 4 * 2**30  # bytes that a process may allocate beyond its start
MAX_PROCESSES = 16
BAR: dict[str, Any] = {
    "delay": 2.0,
    "leave": False,
    "disable": None,
}  # shown only on a terminal and after some seconds

_tokenizer: Any = None  # of a measuring process, with its rendering arguments
_template_kwargs: dict[str, Any] = {}


@dataclass(frozen=True)
class Measured:
    """Measurements of the P prompts of a file."""

    tokens_P: list[int]  # 0: could not be rendered
    highest_id: int  # of a token
    unasked: list[int]  # rows whose prompt, template included, does not ask for its answer format
    lost: list[tuple[int, int]]  # (row, message): messages whose content is not in the prompt
    failed: list[tuple[int, str]]  # (row, reason): rejected by the template
    num_merged: int  # rows whose system message went into the user's


class SlowTemplate(ValueError):
    """Rendering takes too long."""


def measure(path: Path, prompts: Sequence[Asked], tokenizer: Any, template_kwargs: Mapping[str, Any]) -> Measured:
    """Render and count every prompt of a file, or reuse the result for the same content, tokenizer and arguments.

    Args:
        path: the file of `prompts`, each with its answer format.
        tokenizer: of transformers, with the chat template that the run uses.
        template_kwargs: `data.apply_chat_template_kwargs`.

    Raises:
        SlowTemplate: names the rows.
    """
    depends_on = (
        file_sha256(Path(__file__)),
        file_sha256(Path(formats.__file__)),
        file_sha256(Path(of_template.__file__)),
        content_sha256(prompts),
        _tokenizer_sha256(tokenizer),
        repr(sorted(template_kwargs.items())),
    )
    return Measured(**cached(depends_on, lambda: asdict(_measure(prompts, tokenizer, template_kwargs, path.name))))


def _tokenizer_sha256(tokenizer: Any) -> str:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    content = backend.to_str() if backend is not None else repr(sorted(tokenizer.get_vocab().items()))
    whole = repr((type(tokenizer).__name__, content, tokenizer.chat_template, tokenizer.special_tokens_map))
    return hashlib.sha256(whole.encode("utf-8", "surrogatepass")).hexdigest()


def _measure(prompts: Sequence[Asked], tokenizer: Any, template_kwargs: Mapping[str, Any], name: str) -> Measured:
    tokens_P: list[int] = []
    highest_id = num_merged = 0
    unasked, lost, failed = [], [], []
    end = monotonic() + STALL_S + SECONDS_PER_PROMPT * len(prompts)
    with (
        _processes(len(prompts), tokenizer, template_kwargs) as pool,
        tqdm(total=len(prompts), desc=f"measuring {name}", unit=" prompts", **BAR) as bar,
    ):
        found = pool.imap(_measure_chunk, _chunks(prompts))
        while len(tokens_P) < len(prompts):
            row = len(tokens_P)
            try:
                chunk = found.next(timeout=min(STALL_S, max(0.0, end - monotonic())))
            except multiprocessing.TimeoutError:
                last = min(row + CHUNK, len(prompts)) - 1
                raise SlowTemplate(f"rendering rows {row} to {last} of {name} takes too long") from None
            for i, (tokens, highest, is_asked, is_merged, lost_message, failure) in enumerate(chunk, start=row):
                tokens_P.append(tokens)
                highest_id = max(highest_id, highest)
                num_merged += is_merged
                if failure:
                    failed.append((i, failure))
                    continue
                if not is_asked:
                    unasked.append(i)
                if lost_message is not None:
                    lost.append((i, lost_message))
            bar.update(len(chunk))
    return Measured(tokens_P, highest_id, unasked, lost, failed, num_merged)


@contextmanager
def _processes(prompts: int, tokenizer: Any, template_kwargs: Mapping[str, Any]) -> Iterator[Any]:
    """A pool of processes forked from this one, so they have the tokenizer; ended with the block."""
    number = max(1, min(cores(), MAX_PROCESSES, -(-prompts // CHUNK)))
    before = os.environ.get("TOKENIZERS_PARALLELISM")
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # threads do not survive a fork
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads, which these do not need
            pool = multiprocessing.get_context("fork").Pool(number, _begin, (tokenizer, dict(template_kwargs)))
        try:
            yield pool
            pool.close()  # all is done; a SIGTERM now could reach a process that has only just started, and be lost
        except BaseException:
            pool.terminate()
            raise
        finally:
            pool.join()
    finally:
        if before is None:
            del os.environ["TOKENIZERS_PARALLELISM"]
        else:
            os.environ["TOKENIZERS_PARALLELISM"] = before


def _chunks(prompts: Sequence[Asked]) -> Iterator[list[Asked]]:
    rest = iter(prompts)
    while chunk := list(islice(rest, CHUNK)):
        yield chunk


def _begin(tokenizer: Any, template_kwargs: dict[str, Any]) -> None:
    global _tokenizer, _template_kwargs
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # how the pool ends a process; the program's handler would not
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the program, which ends the pool
    _tokenizer, _template_kwargs = tokenizer, template_kwargs
    with open("/proc/self/statm", encoding="ascii") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = used + MAX_MEMORY if hard == resource.RLIM_INFINITY else min(hard, used + MAX_MEMORY)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


def _measure_chunk(prompts: Sequence[Asked]) -> list[Row]:
    return [_measure_prompt(messages, spec) for messages, spec in prompts]


@functools.cache
def _merges() -> bool:
    """Of this process's template."""
    return of_template.takes_no_system(_text)


def _text(messages: Messages) -> str:
    return _tokenizer.apply_chat_template(
        list(messages), add_generation_prompt=True, tokenize=False, **of_template.arguments(_template_kwargs)
    )


def _measure_prompt(messages: Messages, spec: str) -> Row:
    asked = of_template.merged(messages) if _merges() else messages
    is_merged = len(asked) < len(messages)
    try:
        text = _text(asked)
        ids = _tokenizer(text, add_special_tokens=False, return_attention_mask=False)["input_ids"]
    except Exception as error:  # any error of the template; verl would drop the row
        return 0, 0, False, is_merged, None, " ".join(f"{type(error).__name__}: {error}".split())[:200]
    lost = next((i for i, message in enumerate(messages) if message["content"].strip() not in text), None)
    return len(ids), max(ids, default=0), answer_format(spec).is_asked_in(text), is_merged, lost, ""
