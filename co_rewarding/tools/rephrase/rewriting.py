# SPDX-License-Identifier: Apache-2.0
r"""From questions to rewrites: sample, judge, sample again, and know at any moment what is settled.

    outcome of a row = f(its attempts in the journal, the policy)

    {"kind": "attempt", "row", "attempt", "rewrite" | "failure" (+ "text")}     a record of the journal
    {"kind": "writer", "model"}                                                 who answers from there on
    {"kind": "answer", "digest", "sample", "answer"}                            one of verify.py's

The journal holds what the model said; what is made of it is computed anew, so that a run resumes after a kill, or with
another policy, without asking for anything twice. Attempts of a row come one after another, numbered from 0; all rows
are under way at once.

Policies (`on_invalid`) for a rewrite that a validator objects to: "retry" samples again, at most max_retries times,
and leaves the row out if none is right; "drop" leaves the row out at once; "keep" keeps the rewrite. A response
without a rewrite is sampled again under each of them, and a row without any rewrite is left out under each of them: a
question paired with itself would reward its own vote.

Deliberately absent: whether both wordings have the same answer (co_rewarding.tools.rephrase.verify).
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
MAX_REWRITE_CHARS = 100_000  # of a rewrite; a longer one is too_long anyway

FAILURES = PARSE_FAILURES | {
    "broken_text": "the rewrite holds half a surrogate pair, which is no valid Unicode",
    "marker_in_question": "the question holds a marker, so that it cannot be told from a rewrite; it was not sent",
    "prompt_too_long": "the question leaves no room in the model's context",
    "refused": "the server refuses the request, most often as too long",
    "server_error": "the server failed on this request again and again, while it answered others",
}
FINAL_FAILURES = frozenset({"prompt_too_long", "refused"})  # sampling again would not help


def record_key(record: Record) -> Hashable:
    """What a journal has once; KeyError where it is no record."""
    match record["kind"]:
        case "attempt":
            return ("attempt", record["row"], record["attempt"])
        case "writer":
            return ("writer", record["model"])
        case _:
            return ("answer", record["digest"], record["sample"])


@dataclass(frozen=True)
class Policy:
    """What counts as done."""

    on_invalid: OnInvalid = "retry"
    max_retries: int = 3  # attempts after the first, >= 0
    markers: Markers = DEFAULT_MARKERS
    skip: tuple[str, ...] = ()  # validators that are not asked


@dataclass(frozen=True)
class Outcome:
    """What became of one row."""

    row: int
    rewrite: str | None  # None: left out, nothing usable
    findings: tuple[Finding, ...] = ()  # objections to the rewrite; kept all the same under "keep"
    failure: str | None = None  # a name of FAILURES, where no attempt gave a rewrite
    detail: str = ""
    attempts: int = 0
    rejected: str | None = None  # the last rewrite that was not accepted
    tries: tuple[str, ...] = ()  # what there was against each attempt; one may have several reasons

    @property
    def is_kept(self) -> bool:
        return self.rewrite is not None


def settle(row: int, question: str, attempts: Sequence[Record], policy: Policy) -> Outcome | None:
    """The outcome of a row after `attempts`, in their order; None while another one is due."""
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
    """The attempt; a rewrite that no file can hold is none."""
    try:
        record.get("rewrite", "").encode()
    except UnicodeEncodeError:
        return {"failure": "broken_text", "text": record["rewrite"]}
    return record


def judge(row: int, question: str, rewrite: str, policy: Policy) -> Outcome:
    """The outcome of a rewrite that came from elsewhere: the only attempt at its row."""
    outcome = settle(row, question, [{"rewrite": rewrite}], replace(policy, max_retries=0))
    assert outcome is not None  # no attempt is left
    return outcome


@dataclass
class Rewriting:
    """One rewriting of `questions_P`, begun or resumed. Legend: P questions."""

    questions_P: Sequence[str]
    instruction: Instruction
    policy: Policy
    journal: Journal
    sampling: Sampling
    seed: int | None = None
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    _attempts: dict[int, list[Record]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        wanted = range(len(self.questions_P))  # the journal may be of more
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
        """The models that answered, as far as the journal says."""
        return [record["model"] for record in self.journal.records.values() if record["kind"] == "writer"]

    def pending(self) -> list[int]:
        """Rows that are not settled."""
        return [row for row in range(len(self.questions_P)) if row not in self.outcomes]

    def run(self, engine: Engine, shown: Callable[[], Any] = lambda: None) -> list[Outcome]:
        """Sample until every row is settled; the outcomes in the rows' order. `shown` is called at each that is."""
        for row in self.pending():
            engine.submit(self._request(row))
        while completions := engine.collect():
            for completion in completions:
                (row, attempt) = completion.key
                record = self._record(row, attempt, completion)
                self.journal.append({"kind": "writer", "model": engine.model})  # once
                if not self.journal.append(record):  # its outcome would rest on what is not on record
                    raise JournalError(f"{self.journal.path} has attempt {attempt} at row {row} already; start again")
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
        attempt = attempts[-1]["attempt"] + 1 if attempts else 0  # one before it may have been taken out
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
