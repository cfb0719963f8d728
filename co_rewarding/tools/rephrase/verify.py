# SPDX-License-Identifier: Apache-2.0
r"""Checks that both views of a pair have the same answer: a model answers each several times.

    y_v(x), y_v(x') = majority votes (arXiv 2508.00410, Eq. 8) over N answers to each view
    verdict = "undecided"  if a vote has an agreement below min_agreement, or no answer
              "same"       if y_v(x) and y_v(x') are equivalent
              "different"  otherwise

No ground truth is read. A verdict is evidence only if the model can solve the pair: a weak model's majorities differ on
good pairs and agree on bad ones, so both votes must reach a threshold, and the report gives the share of undecided
pairs. Questions are identified by text, so a repeated one is answered once.

N = 1 always agrees with itself; a failed request counts as a response without an answer, but is not recorded: the next
run retries it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from co_rewarding.algo.answer_format import recorded
from co_rewarding.algo.answers import MAX_ANSWER_CHARS
from co_rewarding.algo.voting import Vote, majority_vote
from co_rewarding.storage.journal import Journal
from co_rewarding.tools.generation.engine import Engine, Request, Sampling, seed_of
from co_rewarding.tools.rephrase.asked import Asked, digest

Verdict = Literal["same", "different", "undecided"]


@dataclass(frozen=True)
class PairCheck:
    """The verdict on one pair and its two votes."""

    row: int
    verdict: Verdict
    original: Vote
    rephrased: Vote


def compare(
    row: int,
    original_G: Sequence[str | None],
    rephrased_G: Sequence[str | None],
    same: Callable[[str, str], bool],
    min_agreement: float,
) -> PairCheck:
    """Verdict on a pair from the answers to both views; G answers each, None for a response without one.

    Raises:
        ValueError: min_agreement is outside 0-1.
    """
    votes = [majority_vote(answers, same, min_agreement) for answers in (original_G, rephrased_G)]
    labels = [vote.pseudo_label for vote in votes]
    if labels[0] is None or labels[1] is None:
        verdict: Verdict = "undecided"
    else:
        verdict = "same" if same(labels[0], labels[1]) else "different"
    return PairCheck(row, verdict, *votes)


@dataclass
class Verification:
    """Answers to both views of `pairs` = (row, question, rewrite), new or resumed."""

    pairs: Sequence[tuple[int, str, str]]
    journal: Journal
    sampling: Sampling
    num_samples: int
    min_agreement: float
    seed: int | None = None
    asked: Callable[[int], Asked] = lambda row: Asked()  # prompt settings of a row's question

    def __post_init__(self) -> None:
        self._texts = {
            asked.name_of(text): (text, asked)
            for row, *wordings in self.pairs
            for asked in [self.asked(row)]
            for text in wordings
        }

    @property
    def num_answers(self) -> int:
        return self.num_samples * len(self._texts)

    def pending(self) -> list[tuple[str, int]]:
        return [
            (name, sample)
            for name in self._texts
            for sample in range(self.num_samples)
            if ("answer", name, sample) not in self.journal.records
        ]

    def run(self, engine: Engine, shown: Callable[[], Any] = lambda: None) -> None:
        """Collect missing answers."""
        for name, sample in self.pending():
            text, asked = self._texts[name]
            engine.submit(
                Request(
                    (name, sample),
                    asked.messages(text),
                    self.sampling,
                    seed_of(self.seed, "answer", name, sample),
                )
            )
        while completions := engine.collect():
            for completion in completions:
                shown()
                if completion.failure is not None:
                    continue
                (name, sample) = completion.key
                _, asked = self._texts[name]
                answer = asked.format.extract(completion.text, asked.choices)
                # An answer too long to be read as mathematics must still equal only itself.
                if answer is not None and len(answer) > MAX_ANSWER_CHARS:
                    answer = answer[:MAX_ANSWER_CHARS] + digest(answer)
                self.journal.append({"kind": "answer", "digest": name, "sample": sample, "answer": answer})
        self.journal.sync()

    def checks(self, same: Callable[[str, str], bool]) -> list[PairCheck]:
        """The verdict on every pair, in their order."""
        return [
            compare(row, self._answers(row, question), self._answers(row, rewrite), same, self.min_agreement)
            for row, question, rewrite in self.pairs
        ]

    def _answers(self, row: int, text: str) -> list[str | None]:
        asked = self.asked(row)
        name = asked.name_of(text)
        found = [self.journal.records.get(("answer", name, sample)) for sample in range(self.num_samples)]
        return [recorded(record and record["answer"], asked.spec) for record in found]
