# SPDX-License-Identifier: Apache-2.0
"""What becomes of a row after its attempts, and that a rewriting asks for nothing twice."""

import random
import re
import struct

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from co_rewarding.storage.journal import Journal
from co_rewarding.tools.data.markers import BEGIN_MARKER, END_MARKER
from co_rewarding.tools.generation.engine import Completion, Request, Sampling, seed_of
from co_rewarding.tools.rephrase.instruction import Instruction
from co_rewarding.tools.rephrase.rewriting import Policy, Rewriting, record_key, settle
from co_rewarding.tools.rephrase.table import Questions

QUESTION = "Add 12 and 35."
GOOD, BAD = {"rewrite": "What do 12 and 35 sum to?"}, {"rewrite": "<rewritten question>"}
BROKEN = {"rewrite": "What do 12 and 35 sum to? \ud83d"}
NONE, REFUSED = {"failure": "missing_markers", "text": "no"}, {"failure": "refused", "text": "too long"}


@pytest.mark.parametrize(
    ("on_invalid", "attempts", "kept", "reason"),
    [
        ("retry", [GOOD], True, None),
        ("retry", [BAD, NONE, GOOD], True, None),
        ("retry", [BAD, BAD, NONE], False, "placeholder"),  # a rewrite that was found wrong says more than none at all
        ("retry", [NONE, NONE, NONE], False, "missing_markers"),
        ("retry", [NONE, REFUSED], False, "refused"),  # asking again would not help
        ("drop", [BAD], False, "placeholder"),
        ("drop", [NONE, GOOD], True, None),
        ("keep", [BAD], True, "placeholder"),
        ("keep", [NONE, NONE, NONE], False, "missing_markers"),  # no rewrite, nothing to keep
        ("retry", [BROKEN, GOOD], True, None),
        ("keep", [BROKEN, BROKEN, BROKEN], False, "broken_text"),  # parquet could not hold it
    ],
)
def test_outcomes(on_invalid, attempts, kept, reason) -> None:
    policy = Policy(on_invalid, max_retries=2)
    for count in range(len(attempts)):
        assert settle(7, QUESTION, attempts[:count], policy) is None
    outcome = settle(7, QUESTION, attempts, policy)
    assert (outcome.row, outcome.is_kept, outcome.attempts) == (7, kept, len(attempts))
    assert (outcome.failure or next((f.validator for f in outcome.findings), None)) == reason


def test_more_retries_open_a_row_again() -> None:
    assert settle(0, QUESTION, [NONE, NONE], Policy(max_retries=1)).failure == "missing_markers"
    assert settle(0, QUESTION, [NONE, NONE], Policy(max_retries=2)) is None


class Scripted:
    """An engine that answers by a script, in shuffled order, a few at a time; it counts what it is asked."""

    def __init__(self, script, seed: int = 0, stop_after: int | None = None) -> None:
        self.script, self.random, self.stop_after = script, random.Random(seed), stop_after
        self.model = "scripted"
        self.waiting: list[Request] = []
        self.asked: list[tuple] = []

    def submit(self, request: Request) -> None:
        self.waiting.append(request)

    def collect(self) -> list[Completion]:
        self.random.shuffle(self.waiting)
        taken, self.waiting = self.waiting[:3], self.waiting[3:]
        if self.stop_after is not None and len(self.asked) >= self.stop_after:
            raise KeyboardInterrupt
        self.asked += [request.key for request in taken]
        return [self.script(request) for request in taken]

    def close(self) -> None: ...


def answer(request: Request) -> Completion:
    """Row r is right at attempt r % 4; before that it has no markers or a placeholder. Rows from 15 on are refused."""
    (row, attempt) = request.key
    if row >= 15:
        return Completion(request.key, failure="refused", detail="too long")
    if attempt < row % 4:
        return Completion(request.key, "hm" if attempt % 2 else f"{BEGIN_MARKER}\n<rewritten question>\n{END_MARKER}")
    return Completion(request.key, f"{BEGIN_MARKER}\nHow much are {row + 10} and 35 together?\n{END_MARKER}")


QUESTIONS = [f"Add {row + 10} and 35." for row in range(17)] + [f"What does {END_MARKER} mean?"]


def rewriting(journal: Journal, **changes) -> Rewriting:
    return Rewriting(QUESTIONS, Instruction(), Policy(max_retries=2, **changes), journal, Sampling())


def test_whole_run(tmp_path) -> None:
    shown = []
    with Journal(tmp_path / "j", {}, record_key) as journal:
        outcomes = rewriting(journal).run(engine := Scripted(answer), lambda: shown.append(1))
    assert [o.row for o in outcomes] == list(range(18))
    # rows 3, 7, 11 would need a fourth attempt; 15 and 16 are refused; 17 holds a marker
    assert [o.row for o in outcomes if not o.is_kept] == [3, 7, 11, 15, 16, 17]
    assert [outcomes[row].failure for row in (3, 15, 17)] == [None, "refused", "marker_in_question"]
    assert outcomes[3].tries == ("placeholder", "missing_markers", "placeholder")
    assert outcomes[2].rewrite == "How much are 12 and 35 together?" and outcomes[2].attempts == 3
    # rows 0-14 need r % 4 + 1 attempts, 3 at most: 4 x (1 + 2 + 3) + 3 x 3 = 33, rows 15 and 16 one each
    assert len(engine.asked) == len(set(engine.asked)) == 35
    assert len(shown) == 17  # row 17 was settled before


@pytest.mark.parametrize("stop_after", [0, 1, 10, 30])
def test_interrupted_run_goes_on(tmp_path, stop_after: int) -> None:
    with Journal(tmp_path / "whole", {}, record_key) as journal:
        whole = rewriting(journal).run(Scripted(answer))
    first, second = Scripted(answer, 1, stop_after), Scripted(answer, 2)
    with Journal(tmp_path / "j", {}, record_key) as journal, pytest.raises(KeyboardInterrupt):
        rewriting(journal).run(first)
    with Journal(tmp_path / "j", {}, record_key) as journal:
        assert rewriting(journal).run(second) == whole
    assert len(set(first.asked) & set(second.asked)) == 0
    with Journal(tmp_path / "j", {}, record_key) as journal:
        assert rewriting(journal).pending() == []
        assert rewriting(journal, on_invalid="keep").in_order()[3].rewrite == "<rewritten question>"


def test_an_attempt_that_was_taken_out_leaves_its_number_free(tmp_path) -> None:
    with Journal(tmp_path / "j", {}, record_key) as journal:
        rewriting(journal).run(Scripted(answer))
    header, *records = (tmp_path / "j").read_text().splitlines()
    kept = [line for line in records if '"row": 2, "attempt": 0' not in line and '"row": 2, "attempt": 2' not in line]
    (tmp_path / "j").write_text("\n".join([header, *kept]) + "\n")
    with Journal(tmp_path / "j", {}, record_key) as journal:
        outcome = rewriting(journal).run(engine := Scripted(answer))[2]
        assert engine.asked == [(2, 2)] and outcome.attempts == 2 and ("attempt", 2, 2) in journal.records
    with Journal(tmp_path / "j", {}, record_key) as journal:
        assert rewriting(journal).pending() == []


def test_seeds() -> None:
    assert seed_of(None, "rewrite", 1, 2) is None
    seeds = {seed_of(seed, "rewrite", row, k) for seed in range(3) for row in range(20) for k in range(4)}
    assert len(seeds) == 240 and min(seeds) >= 0 and max(seeds) < 2**31
    assert seed_of(5, "rewrite", 1, 2) == seed_of(5, "rewrite", 1, 2)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pa.array([[{"role": "user", "content": b"x"}]]), "column 'prompt' is list<"),  # bytes where text should be
        (pa.array([b"x"]), "column 'prompt' is binary; it must hold text"),
        (
            pa.StringArray.from_buffers(1, pa.py_buffer(struct.pack("<ii", 0, 2)), pa.py_buffer(b"a\xff")),
            "not readable in column 'prompt' (Invalid UTF8 sequence at string index 0); use UTF-8",
        ),
    ],
)
def test_a_column_that_holds_no_text_is_named(tmp_path, column: pa.Array, message: str) -> None:
    pq.write_table(pa.table({"prompt": column}), tmp_path / "in.parquet")
    with pytest.raises(ValueError, match=re.escape(f"in.parquet: {message}")):
        Questions(tmp_path / "in.parquet", "prompt")
