# SPDX-License-Identifier: Apache-2.0
"""An answer anywhere in a text, by math-verify, as lighteval finds it: boxed first, then "the answer is", then the last
formula or number.

math-verify parses what it finds, which a hostile text can make last for ever: that happens in a process of its own with
a limit on its memory, which is ended and started anew when an answer takes longer than TIMEOUT_S. Such a text has no
answer. Only its last MAX_CHARS characters are read.
"""

from __future__ import annotations

import multiprocessing
import resource
from collections.abc import Sequence
from multiprocessing.connection import Connection

from tqdm import tqdm

TIMEOUT_S = 10.0
FIRST_TIMEOUT_S = 120.0  # the process starts and imports
MAX_CHARS = 20_000
MEMORY_BYTES = 4 * 2**30


def extract_anywhere(texts: Sequence[str]) -> list[str | None]:
    """The answer in each text, as it is written there; None where there is none."""
    answers: list[str | None] = []
    with tqdm(total=len(texts), desc="extracting", unit=" responses", disable=None) as bar:
        while len(answers) < len(texts):
            answers += _by_one_process(texts[len(answers) :], bar)
    return answers


def _by_one_process(texts: Sequence[str], bar: tqdm) -> list[str | None]:
    """Answers until the process ends; of the text that ended it, None."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_serve, args=([text[-MAX_CHARS:] for text in texts], theirs), daemon=True)
    process.start()
    theirs.close()
    answers: list[str | None] = []
    try:
        while len(answers) < len(texts):
            if not ours.poll(TIMEOUT_S if answers else FIRST_TIMEOUT_S):
                return [*answers, None]
            answers.append(ours.recv())
            bar.update()
        return answers
    except EOFError:  # out of memory, or a crash
        return [*answers, None]
    finally:
        process.kill()
        process.join()


def _serve(texts: Sequence[str], replies: Connection) -> None:
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    how = [ExprExtractionConfig(), LatexExtractionConfig(boxed_match_priority=0)]
    for text in texts:
        found = parse(text, extraction_config=how, fallback_mode="first_match", parsing_timeout=None)
        replies.send(str(found[-1]) if found else None)  # the text it was read from comes last
