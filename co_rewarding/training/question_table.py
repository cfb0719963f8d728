# SPDX-License-Identifier: Apache-2.0
"""At the end of a run: which questions were learned, which corrupted (co_rewarding.monitoring.questions)."""

from co_rewarding.algo.equivalence.relation import Equivalence, WorkerError
from co_rewarding.monitoring.questions import changed_questions, in_words, to_csv
from co_rewarding.storage.dumps import dumps
from co_rewarding.storage.files import atomic_write_text
from co_rewarding.storage.run_dir import RunDir


def write_question_table(run: RunDir, last_step: int, equivalence: Equivalence) -> str | None:
    """Write the table of all questions visited at least twice; return a one-line summary, None without any.

    It is made from the dumps, earlier starts included. The run is done by now, so a failure here is only reported.
    """
    try:
        changes = changed_questions(dumps(run, last_step), equivalence)
        if text := in_words(changes):
            atomic_write_text(run.questions, to_csv(changes))
            return f"questions, first visit against last: {text}; table: {run.questions}"
    except (OSError, ValueError, WorkerError) as error:
        return f"questions: no table of what was learned and corrupted ({error})"
    return None
