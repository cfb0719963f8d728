# SPDX-License-Identifier: Apache-2.0
"""More votes than trained rollouts, through the whole stack on the CPU: labels, rewards and the batch that is trained
on, each recomputed from the dump by other lines."""

import csv
from collections import Counter, defaultdict
from pathlib import Path
from statistics import fmean

import pytest
from e2e_runs import QUESTIONS, box, finish, metrics_of, readable, rows_of, start

pytestmark = [pytest.mark.e2e, pytest.mark.long]

TRAINED, VOTES, STEPS = 4, 8, 3
COUNTS = {"NUM_ROLLOUTS": str(TRAINED), "NUM_VOTES": str(VOTES), "SAVE_FREQ": "-1"}


def check_votes(run_dir: Path, views: int) -> None:
    """Of each step: all vote, for the other view where there are two; the first half is rewarded and trained on."""
    for step in range(1, STEPS + 1):
        rows, metrics = rows_of(run_dir / f"rollouts/{step}.jsonl"), metrics_of(run_dir)[step]
        assert len(rows) == QUESTIONS * views * VOTES
        trained = [row for row in rows if row["trained"]]
        groups = defaultdict(list)
        for row in rows:
            assert row["voter"] == "student" and (row["reward"] is None) == (not row["trained"])
            groups[row["question"], row["view"]].append(row)
        for group in groups.values():
            assert len(group) == VOTES and sum(row["trained"] for row in group) == TRAINED
        labels = {}
        for (question, view), group in groups.items():
            votes = Counter(int(answer) for row in group if (answer := box(row) or "").isdigit())
            labels[question, view] = votes.most_common(1)[0][0] if votes else None
        for row in readable(trained):
            voted = row["view"] if views == 1 else {"original": "rephrased", "rephrased": "original"}[row["view"]]
            if any(box(other) and not box(other).isdigit() for other in groups[row["question"], voted]):
                continue  # a value that these lines do not know
            answer = box(row)
            assert row["reward"] == float(answer is not None and int(answer) == labels[row["question"], voted])
        # what verl updated with: as many sequences as are trained on, and their rewards
        tokens_of_one = metrics["prompt_length/mean"] + metrics["response_length/mean"]
        assert metrics["perf/total_num_tokens"] / tokens_of_one == pytest.approx(len(trained), rel=1e-5)
        assert len(trained) == QUESTIONS * views * TRAINED
        assert metrics["critic/score/mean"] == pytest.approx(fmean(row["reward"] for row in trained), abs=1e-6)
        assert metrics["reward/mean"] == pytest.approx(metrics["critic/score/mean"], abs=1e-6)
        assert metrics["answer/share"] == pytest.approx(fmean(row["answer"] is not None for row in rows))


def test_test_time_training_with_more_votes_than_it_trains_on(toy: Path) -> None:
    benchmark = toy / "data/test.parquet"  # 32 questions: an epoch is two steps
    run = start(
        "ttt", toy, "votes", f"trainer.total_training_steps={STEPS}", METHOD="majority_voting", FILE=str(benchmark),
        TRAIN_FILE="", TRAIN_AUG_FILE="", VAL_FILE="", TEST_FREQ=str(STEPS), **COUNTS,
    )  # fmt: skip
    text = finish(run, toy / "votes.log")
    run_dir = toy / "runs/co-rewarding/votes"
    check_votes(run_dir, views=1)
    assert f"table: {run_dir}/questions.csv" in text
    with (run_dir / "questions.csv").open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    # step 3 begins the second epoch; every question was validated before the first step and after the last
    assert Counter(row["set"] for row in table) == {"training": QUESTIONS, "held-out": 2 * QUESTIONS}
    again = [rows_of(run_dir / f"rollouts/{step}.jsonl") for step in (1, 2, 3)]
    for row in table:
        if row["set"] == "training":
            first, last = (
                [one["answer"] for one in rows if one["question"] == row["question"]]
                for rows in ([*again[0], *again[1]], again[2])
            )
            if all(answer is not None and answer.isdigit() for answer in first + last):
                was, now = (
                    Counter(map(int, answers)).most_common(1)[0][0] == int(row["ground_truth"])
                    for answers in (first, last)
                )
                assert row["outcome"] == (("right" if now else "corrupted") if was else ("learned" if now else "wrong"))


def test_co_rewarding_i_with_more_votes_than_it_trains_on(toy: Path) -> None:
    run = start("I", toy, "votes_I", f"trainer.total_training_steps={STEPS}", VAL_FILE="", TEST_FREQ="1", **COUNTS)
    finish(run, toy / "votes_I.log")
    check_votes(toy / "runs/co-rewarding/votes_I", views=2)
