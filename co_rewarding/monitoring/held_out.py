# SPDX-License-Identifier: Apache-2.0
"""Metrics of a validation without ground truths, named like paths.

    val-label-free/SOURCE/agreement     mean over questions of: votes of the majority answer / responses to the question
    val-label-free/SOURCE/stability     questions whose majority answer is that of their last validation / questions
                                        with a majority answer in both
    val-label-free/SOURCE/views_agree   questions in two views whose majority answers are the same / those with
                                        a majority answer in both
    val-label-free/SOURCE/answer_share  responses with an answer / responses
    val-label-free/SOURCE/length        mean tokens of a response
    val-label-free/SOURCE/length_limit  responses as long as the limit / responses

SOURCE is the data_source of the rows. Two rows of it are two views of one question if their extra_info has the same
index and split, as in the two files of a pair; all metrics but views_agree count each row as a question. Questions with
and without a ground truth count alike. A question without any answer has agreement 0 and no stability. Questions with a
single response have no agreement; its answer is the majority answer, and stability measures how often it stayed.

None of these is accuracy: a policy that gives one answer to everything agrees perfectly and is stable. A metric without
data is absent: never 0, never NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from co_rewarding.algo.rollouts import Same
from co_rewarding.algo.voting import majority_vote
from co_rewarding.monitoring.collapse import LabelHistory

PREFIX = "val-label-free"


@dataclass(frozen=True)
class HeldOutResponse:
    """One response of a validation."""

    source: str
    question: str  # shared by its views, "" if unknown
    prompt: str  # identifies this view, in every validation
    group: str  # the prompt of this validation: equal for its responses
    answer: str | None
    length: int  # tokens


def held_out_metrics(
    responses: Sequence[HeldOutResponse], max_length: int, same: Same, history: LabelHistory
) -> dict[str, float]:
    """The numbers of one validation.

    Args:
        responses: N, of complete groups, in any order.
        max_length: tokens at which a response is cut off.
        same: the equivalence of answers to one question.
        history: the majority answers of earlier validations; records those of this one.
    """
    metrics: dict[str, float] = {}
    for source in dict.fromkeys(response.source for response in responses):
        of_source = [response for response in responses if response.source == source]
        numbers = _numbers(of_source, max_length, same, history)
        metrics |= {f"{PREFIX}/{source}/{name}": value for name, value in numbers.items()}
    return metrics


def _numbers(
    responses: Sequence[HeldOutResponse], max_length: int, same: Same, history: LabelHistory
) -> dict[str, float]:
    groups: dict[str, list[HeldOutResponse]] = {}
    for response in responses:
        groups.setdefault(response.group, []).append(response)
    votes = [(group[0], majority_vote([response.answer for response in group], same)) for group in groups.values()]
    labels = {(asked.source, asked.prompt): vote.pseudo_label for asked, vote in votes}
    changed, comparable = history.flips(labels, same)
    wordings: dict[str, dict[str, str]] = {}
    for asked, vote in votes:
        if asked.question and vote.pseudo_label is not None:
            wordings.setdefault(asked.question, {})[asked.prompt] = vote.pseudo_label
    # more than two prompts are not views of one question, but rows that share an id
    pairs = [tuple(labels.values()) for labels in wordings.values() if len(labels) == 2]
    numbers = {
        "answer_share": fmean(response.answer is not None for response in responses),
        "length": fmean(response.length for response in responses),
        "length_limit": fmean(response.length >= max_length for response in responses),
    }
    if agreements := [vote.agreement for _, vote in votes if vote.num_rollouts > 1]:
        numbers["agreement"] = fmean(agreements)
    if pairs:
        numbers["views_agree"] = fmean(same(*labels) for labels in pairs)
    if comparable:
        numbers["stability"] = 1 - changed / comparable
    return numbers
