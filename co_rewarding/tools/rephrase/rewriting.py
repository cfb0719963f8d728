# SPDX-License-Identifier: Apache-2.0
r"""From questions to rewrites: sample, validate, retry; the journal always shows what is settled.

    outcome of a row = f(its attempts in the journal, the policy)

    {"kind": "attempt", "row", "attempt", "rewrite" | "failure" (+ "text")}     a record of the journal
    {"kind": "writer", "model"}                                                 the model from here on
    {"kind": "answer", "digest", "sample", "answer"}                            one of verify.py's

The journal has only the model's responses; outcomes are recomputed from it, so a run resumes after a kill, or with
another policy, without repeating requests. Attempts of a row are sequential, numbered from 0; all rows are in flight at
once.

Policies (`on_invalid`) for a rewrite that a validator objects to: "retry" samples again, at most max_retries times, and
drops the row if none is valid; "drop" drops the row at once; "keep" keeps the rewrite. Under every policy a response
without a rewrite is sampled again, and a row without any rewrite is dropped: a question paired with itself would reward
its own vote. Whether both views have the same answer: co_rewarding.tools.rephrase.verify.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from co_rewarding.storage.journal import Journal, JournalError, Record
from co_rewarding.tools.data.markers import Markers
from co_rewarding.tools.data.validators import DEFAULT_MARKERS, Finding, validate
from co_rewarding.tools.generation.engine import Completion, Engine, Request, Sampling, seed_of
from co_rewarding.tools.rephrase.instruction import PARSE_FAILURES, Instruction

OnInvalid = Literal["retry", "drop", "keep"]
MAX_KEPT_CHARS = 2000  # of a response without a rewrite, for the report
MAX_REWRITE_CHARS = 100_000  # of a rewrite; longer ones are too_long anyway

FAILURES = PARSE_FAILURES | {
    "broken_text": "the rewrite has a lone surrogate, which is no valid Unicode",
    "marker_in_question": "the question contains a marker and would look like a rewrite; it was not sent",
    "prompt_too_long": "the question leaves no room in the model's context",
    "refused": "the server refuses the request, most often as too long",
    "server_error": "the server failed repeatedly on this request, but answered others",
}
FINAL_FAILURES = frozenset({"prompt_too_long", "refused"})  # sampling again would not help


def record_key(record: Record) -> Hashable:
    """The unique key of a record; KeyError if it is none."""
    match record["kind"]:
        case "attempt":
            return ("attempt", record["row"], record["attempt"])
        case "writer":
            return ("writer", record["model"])
        case _:
            return ("answer", record["digest"], record["sample"])


@dataclass(frozen=True)
class Policy:
    """When a row is done."""

    on_invalid: OnInvalid = "retry"
    max_retries: int = 3  # attempts after the first, >= 0
    markers: Markers = DEFAULT_MARKERS
    skip: tuple[str, ...] = ()  # validators to skip


@dataclass(frozen=True)
class Outcome:
    """The outcome of one row."""

    row: int
    rewrite: str | None  # None: dropped, nothing usable
    findings: tuple[Finding, ...] = ()  # objections to the rewrite; still kept under "keep"
    failure: str | None = None  # a name in FAILURES if no attempt gave a rewrite
    detail: str = ""
    attempts: int = 0
    rejected: str | None = None  # the last rejected rewrite
    tries: tuple[str, ...] = ()  # objections to each attempt; possibly several

    @property
    def is_kept(self) -> bool:
        return self.rewrite is not None


def settle(row: int, question: str, attempts: Sequence[Record], policy: Policy) -> Outcome | None:
    """The outcome of a row after its `attempts`, in order; None while another one is due."""
    tries: list[str] = []
    last: Record = {}
    rejected, findings = None, ()
    for count, record in enumerate(map(_legible, attempts), start=1):
        last = record
        rewrite = record.get("rewrite")
        if rewrite is not None:
            found = tuple(validate(question, rewrite, policy.markers, policy.skip))
            tries += [finding.validator for finding in found]
            if not found or policy.on_invalid == "keep":
                return Outcome(row, rewrite, found, attempts=count, tries=tuple(tries))
            rejected, findings = rewrite, found
            if policy.on_invalid == "drop":
                return Outcome(row, None, found, attempts=count, rejected=rewrite, tries=tuple(tries))
        else:
            tries.append(record["failure"])
        if count > policy.max_retries or record.get("failure") in FINAL_FAILURES:
            return Outcome(
                row,
                None,
                findings,
                failure=None if findings else record["failure"],
                detail=str(last.get("text", ""))[:MAX_KEPT_CHARS],
                attempts=count,
                rejected=rejected,
                tries=tuple(tries),
            )
    return None


def _legible(record: Record) -> Record:
    """The attempt, without a rewrite that no file can store."""
    try:
        record.get("rewrite", "").encode()
    except UnicodeEncodeError:
        return {"failure": "broken_text", "text": record["rewrite"]}
    return record


def judge(row: int, question: str, rewrite: str, policy: Policy) -> Outcome:
    """The outcome of a given rewrite: the only attempt at its row."""
    outcome = settle(row, question, [{"rewrite": rewrite}], replace(policy, max_retries=0))
    assert outcome is not None  # no attempts remain
    return outcome


@dataclass
class Rewriting:
    """One rewriting of `questions_P`, new or resumed. Legend: P questions."""

    questions_P: Sequence[str]
    instruction: Instruction
    policy: Policy
    journal: Journal
    sampling: Sampling
    seed: int | None = None
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    _attempts: dict[int, list[Record]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        wanted = range(len(self.questions_P))  # the journal may have more rows
        found = [r for r in self.journal.records.values() if r["kind"] == "attempt" and r["row"] in wanted]
        for record in sorted(found, key=lambda r: (r["row"], r["attempt"])):
            self._attempts.setdefault(record["row"], []).append(record)
        for row, question in enumerate(self.questions_P):
            if (marker := self.instruction.markers.find_in(question)) is not None:
                self.outcomes[row] = Outcome(row, None, failure="marker_in_question", detail=marker)
            else:
                self._settle(row)

    @property
    def writers(self) -> list[str]:
        """The models that answered, according to the journal."""
        return [record["model"] for record in self.journal.records.values() if record["kind"] == "writer"]

    def pending(self) -> list[int]:
        """Unsettled rows."""
        return [row for row in range(len(self.questions_P)) if row not in self.outcomes]

    def run(self, engine: Engine, shown: Callable[[], Any] = lambda: None) -> list[Outcome]:
        """Sample until every row is settled; return the outcomes in order. `shown` is called for each settled row."""
        for row in self.pending():
            engine.submit(self._request(row))
        while completions := engine.collect():
            for completion in completions:
                (row, attempt) = completion.key
                record = self._record(row, attempt, completion)
                self.journal.append({"kind": "writer", "model": engine.model})  # once
                if not self.journal.append(record):  # its outcome would depend on unrecorded data
                    raise JournalError(f"{self.journal.path} already has attempt {attempt} at row {row}; start again")
                self._attempts.setdefault(row, []).append(record)
                if self._settle(row) is not None:
                    shown()
                else:
                    engine.submit(self._request(row))
        self.journal.sync()
        return self.in_order()

    def in_order(self) -> list[Outcome]:
        return [self.outcomes[row] for row in range(len(self.questions_P))]

    def _settle(self, row: int) -> Outcome | None:
        outcome = settle(row, self.questions_P[row], self._attempts.get(row, ()), self.policy)
        if outcome is not None:
            self.outcomes[row] = outcome
        return outcome

    def _request(self, row: int) -> Request:
        attempts = self._attempts.get(row)
        attempt = attempts[-1]["attempt"] + 1 if attempts else 0  # an earlier one may have been removed
        messages = self.instruction.messages(self.questions_P[row])
        return Request((row, attempt), messages, self.sampling, seed_of(self.seed, "rewrite", row, attempt))

    def _record(self, row: int, attempt: int, completion: Completion) -> Record:
        record: Record = {"kind": "attempt", "row": row, "attempt": attempt}
        if completion.failure is not None:
            return record | {"failure": completion.failure, "text": completion.detail[:MAX_KEPT_CHARS]}
        parsed = self.instruction.parse(completion.text, completion.reached_limit)
        if parsed.rewrite is None:
            return record | {"failure": parsed.failure, "text": completion.text[:MAX_KEPT_CHARS]}
        return record | {"rewrite": parsed.rewrite[:MAX_REWRITE_CHARS]}
