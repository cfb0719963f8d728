# SPDX-License-Identifier: Apache-2.0
"""More votes than trained rollouts, through the whole stack on the CPU: labels, rewards and the batch that is trained
on, each recomputed from the dump by other lines."""

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
    finish(run, toy / "votes.log")
    check_votes(toy / "runs/co-rewarding/votes", views=1)


def test_co_rewarding_i_with_more_votes_than_it_trains_on(toy: Path) -> None:
    run = start("I", toy, "votes_I", f"trainer.total_training_steps={STEPS}", VAL_FILE="", TEST_FREQ="1", **COUNTS)
    finish(run, toy / "votes_I.log")
    check_votes(toy / "runs/co-rewarding/votes_I", views=2)
