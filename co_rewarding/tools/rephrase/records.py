# SPDX-License-Identifier: Apache-2.0
r"""What a run of rewrite_questions.py has found out, durably (co_rewarding.storage.journal).

{"kind": "attempt", "row", "attempt", "rewrite" | "failure" (+ "text")}
{"kind": "answer", "digest", "sample", "answer"}
"""

from __future__ import annotations

from collections.abc import Hashable

from co_rewarding.storage.journal import Journal, Record


class RewriteJournal(Journal):
    """The attempts at each row."""

    CANNOT_OPEN = "choose another --output_jsonl"
    IN_USE = "another process: wait for it, or end it"
    OTHER_SETTINGS = "begun with {}, now it is {}: set it back to go on, or start anew with --restart"
    DAMAGED = "not a record of this tool; take the line out, or start anew with --restart"

    @staticmethod
    def key(record: Record) -> Hashable:
        if record["kind"] == "attempt":
            return ("attempt", record["row"], record["attempt"])
        return ("answer", record["digest"], record["sample"])


class AnswerJournal(RewriteJournal):
    """The answers to each wording, which can be thrown away without the rewrites."""

    RESTART = "--restart verify"
    OTHER_SETTINGS = f"begun with {{}}, now it is {{}}: set it back to go on, or answer anew with {RESTART}"
    DAMAGED = f"not a record of this tool; take the line out, or answer anew with {RESTART}"
