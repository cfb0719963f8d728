# SPDX-License-Identifier: Apache-2.0
r"""What a run of rewrite_questions.py has found out, durably (co_rewarding.journal).

{"kind": "attempt", "row", "attempt", "rewrite" | "failure" (+ "text")}
{"kind": "answer", "digest", "sample", "answer"}
"""

from __future__ import annotations

from collections.abc import Hashable

from co_rewarding.journal import Journal, Record


class RewriteJournal(Journal):
    """The attempts at each row, or the answers to each wording."""

    CANNOT_OPEN = "choose another --output_jsonl"
    IN_USE = "another process: wait for it, or end it"
    OTHER_SETTINGS = "begun with {}, now it is {}: set it back to go on, or start anew with --restart"
    DAMAGED = "not a record of this tool; take the line out, or start anew with --restart"

    @staticmethod
    def key(record: Record) -> Hashable:
        if record["kind"] == "attempt":
            return ("attempt", record["row"], record["attempt"])
        return ("answer", record["digest"], record["sample"])
