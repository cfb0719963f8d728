#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Votes of a dump and rewards of each response, group by group, under three rules.

    python examples/votes.py                    of rollouts.jsonl beside this file (made-up data)
    python examples/votes.py runs/co-rewarding/RUN_NAME/rollouts/1.jsonl --questions 5

It needs rollouts in two views, as dumped by Co-rewarding-I. `python -m co_rewarding.score` reads the same file and
writes the rewards of any method; this script shows the functions behind it.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from co_rewarding.algo.answer_format import answer_format
from co_rewarding.algo.equivalence.relation import Equivalence
from co_rewarding.algo.methods import method, score_rollouts
from co_rewarding.algo.payout import Payout
from co_rewarding.algo.rollouts import VIEWS, RewardInputs, Rollout, Scores, answers_by_question
from co_rewarding.algo.voting import Vote
from co_rewarding.storage.dumps import dump_rows
from co_rewarding.storage.stated_as import stated_as
from co_rewarding.tools.cli import printable

RULES: tuple[tuple[str, Payout], ...] = (
    ("majority_voting", "hard"),  # a view's vote rewards its own rollouts
    ("co_rewarding_I", "hard"),  # ... those of the other view
    ("co_rewarding_I", "soft"),  # ... with the share of their answer in that vote
)

CELL = 10  # characters of a column


def read(path: Path) -> tuple[list[Rollout], dict[object, str]]:
    """The student's rollouts, and each question's ground truth as written ("unknown" without one)."""
    rollouts: list[Rollout] = []
    truths: dict[object, str] = {}
    for row in dump_rows(path):
        if row["voter"] != "student":
            continue
        spec, choices = stated_as(row)
        answer = answer_format(spec).extract(row["response"], choices)
        rollouts.append(Rollout(row["question"], row["view"], row["voter"], answer))
        truths[row["question"]] = row.get("ground_truth") or "unknown"
    return rollouts, truths


def in_words(vote: Vote) -> str:
    """The classes of a vote, the largest first; equal answers are one class, in any spelling."""
    classes = sorted(vote.classes, key=lambda of: -of[1])
    return (
        ", ".join(f"{printable(answer, 40)} ({votes} of {vote.num_rollouts})" for answer, votes in classes) or "empty"
    )


def show(name: str, label: str, cells: Sequence[str]) -> None:
    print(f"    {name:<22}{printable(label, CELL):<{CELL}}" + "".join(f"{printable(cell, CELL):>11}" for cell in cells))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dump", type=Path, nargs="?", default=Path(__file__).with_name("rollouts.jsonl"))
    parser.add_argument("--questions", type=int, default=10, help="show only the first N (default: %(default)s)")
    args = parser.parse_args()
    if not args.dump.is_file():
        parser.error(f"{args.dump} is no file: name a rollouts/STEP.jsonl of a run")
    rollouts, truths = read(args.dump)
    if {row.view for row in rollouts} != set(VIEWS):
        parser.error(f"{args.dump}: needs rollouts of both views, {' and '.join(VIEWS)}")

    with Equivalence() as equivalence:
        equivalence.prepare(answers_by_question(rollouts))
        inputs = RewardInputs(rollouts, equivalence.same)
        scores: dict[str, Scores] = {
            f"{name} {payout}": score_rollouts(method(name), replace(inputs, payout=payout)) for name, payout in RULES
        }

    votes = next(iter(scores.values())).votes  # the same under every rule; only the rewarded rollouts differ
    for question in list(truths)[: args.questions]:
        print(f"question {question}, ground truth {printable(truths[question], 40)}")
        for view in VIEWS:
            group_G = [i for i, row in enumerate(rollouts) if (row.question, row.view) == (question, view)]
            if not group_G:
                continue
            print(f"\n  {view}: the vote is {in_words(votes[question, view, 'student'])}")
            show("", "label", [rollouts[i].answer or "none" for i in group_G])
            for rule, of in scores.items():
                label = of.group_labels[question, view] or "none"
                show(rule, label, [f"{of.rewards[i]:.3g}" for i in group_G])
        print()

    for rule, of in scores.items():
        print(f"{rule:<22} mean reward {sum(of.rewards) / len(of.rewards):.3f}")


if __name__ == "__main__":
    main()
