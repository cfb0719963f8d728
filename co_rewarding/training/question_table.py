# SPDX-License-Identifier: Apache-2.0
"""The end of a run in terms of questions: which it learned, which it corrupted (co_rewarding.monitoring.questions)."""

from co_rewarding.algo.equivalence.relation import Equivalence, WorkerError
from co_rewarding.monitoring.questions import changed_questions, in_words, to_csv
from co_rewarding.storage.dumps import dumps
from co_rewarding.storage.files import atomic_write_text
from co_rewarding.storage.run_dir import RunDir


def write_question_table(run: RunDir, last_step: int, equivalence: Equivalence) -> str | None:
    """Write the table of all questions that were visited twice; what became of them, in a line, None without any.

    It is made of the dumps, earlier starts of the run included. The run is done by now: a table that cannot be made is
    reported and fails nothing.
    """
    try:
        changes = changed_questions(dumps(run, last_step), equivalence)
        if text := in_words(changes):
            atomic_write_text(run.questions, to_csv(changes))
            return f"questions, first visit against last: {text}; table: {run.questions}"
    except (OSError, ValueError, WorkerError) as error:
        return f"questions: no table of what was learned and corrupted ({error})"
    return None
