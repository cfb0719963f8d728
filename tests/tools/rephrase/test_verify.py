# SPDX-License-Identifier: Apache-2.0
"""Do both wordings have the same answer? Verdicts by hand, and a verification that is gone on with."""

import pytest

from co_rewarding.algo.equivalence.relation import Equivalence
from co_rewarding.storage.journal import Journal
from co_rewarding.tools.generation.engine import Completion, Sampling
from co_rewarding.tools.rephrase.asked import Asked
from co_rewarding.tools.rephrase.report import quarantine, report, summary
from co_rewarding.tools.rephrase.rewriting import Outcome, record_key
from co_rewarding.tools.rephrase.verify import Verification, compare


@pytest.mark.parametrize(
    ("original", "rephrased", "min_agreement", "verdict"),
    [
        (["1/2", "0.5", "3"], [r"\frac{1}{2}", "0.5", "0.5"], 0.6, "same"),  # classes, not strings: 2 of 3 and 3 of 3
        (["1/2", "0.5", "3"], ["3", "3", "4"], 0.6, "different"),  # both 2 of 3 = 0.67
        (["1/2", "0.5", "3"], ["3", "3", "4"], 0.7, "undecided"),
        (["1", "2", "3"], ["1", "1", "1"], 0.6, "undecided"),  # the original has no majority
        ([None, None, "1"], ["1", "1", "1"], 0.6, "undecided"),  # one box of three is 1/3
        ([None, None, "1"], ["1", None, None], 0.0, "same"),  # any plurality
        ([None, None], [None, None], 0.0, "undecided"),  # no answer at all is no vote
        (["5"], ["6"], 1.0, "different"),
    ],
)
def test_verdicts(original, rephrased, min_agreement, verdict) -> None:
    with Equivalence() as equivalence:
        check = compare(4, original, rephrased, equivalence.same, min_agreement)
    assert (check.row, check.verdict) == (4, verdict)


class Solver:
    """Answers by the text of the question, `stop_after` times at most."""

    def __init__(self, answers, stop_after: int | None = None) -> None:
        self.answers, self.stop_after, self.waiting, self.asked = answers, stop_after, [], 0

    def submit(self, request) -> None:
        assert request.messages[0]["role"] == "system"
        self.waiting.append(request)

    def collect(self) -> list[Completion]:
        if not self.waiting:
            return []
        if self.asked == self.stop_after:
            raise KeyboardInterrupt
        self.asked += 1
        request = self.waiting.pop()
        text = self.answers[request.messages[1]["content"]]
        if text is None:
            return [Completion(request.key, failure="server_error")]
        return [Completion(request.key, rf"so \boxed{{{text}}}")]

    def close(self) -> None: ...


ANSWERS = {"A": "1/2", "A2": "0.5", "B": "7", "B2": "8", "C": None, "C2": "9"}
PAIRS = [(0, "A", "A2"), (3, "B", "B2"), (4, "C", "C2"), (5, "A", "A2")]


def verification(journal: Journal) -> Verification:
    return Verification(PAIRS, journal, Sampling(), num_samples=2, min_agreement=0.5)


def test_verification_goes_on_and_answers_each_text_once(tmp_path) -> None:
    with Journal(tmp_path / "j", {}, record_key) as journal, pytest.raises(KeyboardInterrupt):
        verification(journal).run(Solver(ANSWERS, stop_after=5))
    solver = Solver(ANSWERS)
    with Journal(tmp_path / "j", {}, record_key) as journal:
        work = verification(journal)
        work.run(solver)
        with Equivalence() as equivalence:
            checks = work.checks(equivalence.same)
    assert solver.asked == 2 * 6 - 5 + 2  # six different texts; of the first five requests, C's two failed
    assert [(c.row, c.verdict) for c in checks] == [(0, "same"), (3, "different"), (4, "undecided"), (5, "same")]
    assert (checks[1].original.pseudo_label, checks[1].rephrased.pseudo_label) == ("7", "8")
    with Journal(tmp_path / "j", {}, record_key) as journal:  # what failed is no answer, and asked for again
        work = verification(journal)
        assert len(work.pending()) == 2
        work.run(Solver(ANSWERS | {"C": "9"}))
        assert work.checks(str.__eq__)[2].verdict == "same" and not work.pending()


def test_long_answers_stay_different(tmp_path) -> None:
    """Beyond the length that is read as mathematics, an answer equals only itself: clipping must not change that."""
    answers = {"A": "x" * 600 + "1", "A2": "x" * 600 + "2"}
    with Journal(tmp_path / "j", {}, record_key) as journal:
        work = Verification([(0, "A", "A2")], journal, Sampling(), 1, 0.5)
        work.run(Solver(answers))
        assert work.checks(lambda a, b: a == b)[0].verdict == "different"


def test_each_question_is_asked_and_read_as_its_row_says(tmp_path) -> None:
    """B and London are one answer where they are an option's letter and text, and two where there are no options."""
    choice = Asked("Name the letter.", "choice", ("Paris", "London"))
    for asked, verdict in ((choice, "same"), (Asked(), "different")):
        with Journal(tmp_path / verdict, {}, record_key) as journal, Equivalence() as equivalence:
            work = Verification([(0, "city?", "town?")], journal, Sampling(), 1, 0.5, asked=lambda row, how=asked: how)
            work.run(Solver({"city?": "B", "town?": "London"}))
            assert work.checks(equivalence.same)[0].verdict == verdict


def test_report_and_quarantine(tmp_path) -> None:
    outcomes = [
        Outcome(0, "B2", attempts=1),
        Outcome(1, None, failure="truncated", detail="cut ~~~ off", attempts=2, tries=("truncated", "truncated")),
        Outcome(2, "A2", attempts=2, tries=("missing_markers",)),
    ]
    questions = ["B", "a | b", "A"]
    check = [compare(0, ["7"], ["8"], str.__eq__, 0.5), compare(2, ["1"], ["1"], str.__eq__, 0.5)]
    left_out, different = list(quarantine(outcomes, questions, check, {0}))[::-1]
    assert (different["row"], different["outcome"]) == (0, "left out")
    assert different["reasons"] == [{"name": "different_answers", "detail": "7 and 8"}]
    assert different["verify"]["original"] == {"answer": "7", "agreement": 1.0, "answers": 1}
    assert (left_out["row"], left_out["outcome"], left_out["response"]) == (1, "left out", "cut ~~~ off")
    assert summary(outcomes, check, {0}) == (
        "1 of 3 rows rewritten, 2 left out; answers: 1 same, 1 different, 0 undecided"
    )
    whole = report("in.parquet", {"model": "m"}, outcomes, questions, check, {0})
    assert "\n~~~~\ncut ~~~ off\n~~~~\n" in whole  # a fence that the text does not close
    text = " ".join(whole.split())
    assert "| truncated | 2 | 1 | the response reached its token limit" in text
    assert "| missing_markers | 1 | 0 |" in text
    assert "| different | 1 | 50.0 % |" in text
    assert "Row 0: question 7 (1 of 1), rewrite 8 (1 of 1)" in text
