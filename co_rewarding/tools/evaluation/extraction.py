# SPDX-License-Identifier: Apache-2.0
"""An answer anywhere in a text, by math-verify, as lighteval finds it: "the final answer is … I hope it is correct", a
box, "answer: …", else the last formula or number.

A hostile text can make math-verify's parser run forever, so it runs in a separate process with a memory limit, which is
restarted when an answer takes longer than TIMEOUT_S. Such a text has no answer; their number is printed on standard
error. Only the last MAX_CHARS characters of a text are read.
"""

from __future__ import annotations

import multiprocessing
import resource
import sys
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection

from co_rewarding.tools.cli import UserError, progress

TIMEOUT_S = 10.0
START_TIMEOUT_S = 120.0  # the process starts and imports
MAX_CHARS = 20_000
MEMORY_BYTES = 4 * 2**30


def extract_anywhere(texts: Sequence[str], boxed_priority: int) -> list[str | None]:
    """The answer in each text, as written there; None without one.

    Args:
        boxed_priority: math-verify's, of boxes among its patterns: 0 first, 55 after "the final answer is".

    Raises:
        UserError: math-verify does not start.
    """
    answers: list[str | None] = []
    given_up = 0
    with progress("extracting", "responses", len(texts), delay=2) as bar:
        while len(answers) < len(texts):
            for answer in _by_one_process(texts[len(answers) :], boxed_priority):
                answers.append(answer)
                bar.update()
            if len(answers) < len(texts):
                answers.append(None)
                bar.update()
                given_up += 1
    if given_up:
        print(f"note: in {given_up:,} responses no answer was found within {TIMEOUT_S:.0f} s", file=sys.stderr)
    return answers


def _by_one_process(texts: Sequence[str], boxed_priority: int) -> Iterator[str | None]:
    """Answers in order, until the process takes too long or dies over a text."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    arguments = ([text[-MAX_CHARS:] for text in texts], boxed_priority, theirs)
    process = context.Process(target=_serve, args=arguments, daemon=True)
    process.start()
    theirs.close()
    try:
        if not ours.poll(START_TIMEOUT_S) or not _is_ready(ours):
            raise UserError(
                f"math-verify, which lighteval's tasks need, does not start: install it for {sys.executable}"
            )
        for _ in texts:
            if not ours.poll(TIMEOUT_S):
                return
            yield ours.recv()
    except EOFError:  # out of memory, or a crash
        return
    finally:
        process.kill()
        process.join()
        ours.close()


def _is_ready(replies: Connection) -> bool:
    try:
        return bool(replies.recv())
    except EOFError:
        return False


def _serve(texts: Sequence[str], boxed_priority: int, replies: Connection) -> None:
    import logging

    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse

    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that its own time limit is off
    how = [ExprExtractionConfig(), LatexExtractionConfig(boxed_match_priority=boxed_priority)]
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    replies.send(True)
    for text in texts:
        found = parse(text, extraction_config=how, parsing_timeout=None)
        replies.send(str(found[-1]) if found else None)  # its source text comes last
