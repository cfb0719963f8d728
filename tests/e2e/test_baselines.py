# SPDX-License-Identifier: Apache-2.0
"""Every baseline and control, and Co-rewarding-III, through the whole stack on the CPU; rewards against the dump."""

import math
import re
from collections import Counter, defaultdict
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from e2e_runs import QUESTIONS, ROLLOUTS, box, finish, metrics_of, readable, rows_of, shards_of, start
from transformers import AutoModelForCausalLM, AutoTokenizer

from co_rewarding.tools.quickstart.policy import log_distributions

pytestmark = [pytest.mark.e2e, pytest.mark.long]

SHORT = ("trainer.total_training_steps=2", "trainer.val_before_train=False", "trainer.test_freq=-1")


def run_baseline(toy: Path, method: str, **environment: str) -> Path:
    """Two steps; the run's directory."""
    without_validation = {"VAL_FILE": "", "TEST_FREQ": "1", "SAVE_FREQ": "-1"}  # no file is no validation, ever
    run = start("baseline", toy, method, SHORT[0], METHOD=method, **without_validation | environment)
    text = finish(run, toy / f"{method}.log")
    assert "data.val_files: none, so nothing is validated" in text
    run_dir = toy / "runs/co-rewarding" / method
    assert not (run_dir / "validation").exists() and 0 not in metrics_of(run_dir)
    return run_dir


@pytest.mark.parametrize(("method", "ranks"), [("self_certainty", 2), ("entropy", 1)])
def test_a_reward_from_logits_is_what_the_policy_computes_in_float64(toy: Path, method: str, ranks: int) -> None:
    run_dir = run_baseline(toy, method, SAVE_FREQ="1", GPUS_PER_NODE=str(ranks))
    # the second step's policy: by then it is another one than the reference, which has a pass of its own
    rows = rows_of(run_dir / "rollouts/2.jsonl")
    assert len(rows) == QUESTIONS * ROLLOUTS
    chosen = [row for row in rows if "\ufffd" not in row["response"]][::4]  # text that gives its tokens back
    assert len(chosen) >= 12
    policy = shards_of(run_dir / "checkpoints/global_step_1/actor", "model", ranks)
    reference = AutoModelForCausalLM.from_pretrained(toy / "model").state_dict()
    assert not all(torch.equal(policy[name], value) for name, value in reference.items())
    for row, log_pi in log_distributions(toy / "model", policy, chosen, 32):
        match method:
            case "self_certainty":  # KL(U ‖ π) = −(1/|V|) Σ_v log(|V| π_v), mean over the response's tokens
                expected = -(log_pi + math.log(log_pi.shape[-1])).mean(dim=-1).mean()
            case "entropy":  # Σ_v π_v log π_v, mean over the response's tokens
                expected = (log_pi.exp() * log_pi).sum(dim=-1).mean()
        assert row["reward"] == pytest.approx(float(expected), rel=1e-4, abs=1e-6)
    metrics = metrics_of(run_dir)[2]
    assert "label/accuracy" not in metrics  # nobody votes
    assert "reward/accuracy" not in metrics  # nats are neither right nor wrong
    assert 0 < metrics["answer/accuracy"] <= 1
    tokenizer = AutoTokenizer.from_pretrained(toy / "model")
    lengths = [len(tokenizer(row["response"])["input_ids"]) + 1 for row in rows_of(run_dir / "rollouts/2.jsonl")]
    assert metrics["collapse/length"] == pytest.approx(sum(lengths) / len(lengths), abs=1.0)


@pytest.mark.parametrize("method", ["ground_truth", "majority_voting", "format_only", "incorrect", "random"])
def test_a_reward_from_text_is_what_the_dump_implies(toy: Path, method: str) -> None:
    run_dir = run_baseline(toy, method)
    rewards: list[float] = []
    for step in (1, 2):
        rows = readable(rows_of(run_dir / f"rollouts/{step}.jsonl"))
        groups = defaultdict(list)
        for row in rows:
            assert (row["view"], row["voter"]) == ("original", "student")
            groups[row["question"]].append(row)
        for group in groups.values():
            assert len(group) == ROLLOUTS
            votes = Counter(int(answer) for row in group if (answer := box(row)) is not None)
            for row in group:
                answer = box(row)
                right = answer is not None and int(answer) == int(row["ground_truth"])
                match method:
                    case "ground_truth":
                        assert row["reward"] == float(right)
                    case "incorrect":
                        assert row["reward"] == float(answer is not None and not right)
                    case "format_only":
                        assert row["reward"] == float(answer is not None)
                    case "majority_voting":  # Counter keeps the first of equals first, as the vote does
                        label = votes.most_common(1)[0][0] if votes else None
                        assert row["reward"] == float(answer is not None and int(answer) == label)
                    case "random":
                        assert row["reward"] in (0.0, 1.0)
                rewards.append(row["reward"])
    if method == "random":  # fair coins: five standard errors
        assert abs(sum(rewards) / len(rewards) - 0.5) < 5 * 0.5 / math.sqrt(len(rewards))
    assert sum(rewards) > 0
    assert ("label/accuracy" in metrics_of(run_dir)[2]) == (method in ("ground_truth", "majority_voting"))


@pytest.mark.parametrize("method", ["majority_voting_both_views", "co_rewarding_I_same_wording"])
def test_controls_of_co_rewarding_i_by_one_word(toy: Path, method: str) -> None:
    run = start(
        "I", toy, method, "trainer.total_training_steps=3", METHOD=method, VAL_FILE="", TEST_FREQ="1", SAVE_FREQ="-1"
    )
    text = finish(run, toy / f"{method}.log")
    repeats = method == "co_rewarding_I_same_wording"
    assert ("train_rephrased.parquet: is ignored" in text) == repeats
    wording = {}
    for view, file in (("original", "train"), ("rephrased", "train" if repeats else "train_rephrased")):
        for row in pq.read_table(toy / f"data/{file}.parquet", columns=["prompt", "extra_info"]).to_pylist():
            wording[str(row["extra_info"]["index"]), view] = row["prompt"][-1]["content"]
    run_dir, disagreements = toy / "runs/co-rewarding" / method, 0
    for step in (1, 2, 3):
        dumped = rows_of(run_dir / f"rollouts/{step}.jsonl")
        assert len(dumped) == QUESTIONS * 2 * ROLLOUTS
        groups = defaultdict(list)
        for row in dumped:
            assert row["prompt"] == wording[row["question"], row["view"]] and row["voter"] == "student"
            groups[row["question"], row["view"]].append(row)
        assert len(groups) == QUESTIONS * 2 and {len(group) for group in groups.values()} == {ROLLOUTS}
        readable_questions = {row["question"] for row in readable(dumped)}
        for (question, view), group in groups.items():
            if question not in readable_questions:
                continue
            own, other = (
                Counter(int(answer) for row in groups[question, of] if (answer := box(row)) is not None).most_common(1)
                for of in (view, {"original": "rephrased", "rephrased": "original"}[view])
            )
            votes = other if repeats else own  # the first of equals is the first that came, as in the vote
            label = votes[0][0] if votes else None
            disagreements += bool(own and other and own[0][0] != other[0][0])
            for row in group:
                answer = box(row)
                assert (row["label"] is None) == (label is None) and (label is None or int(row["label"]) == label)
                assert row["reward"] == float(answer is not None and int(answer) == label)
        mean = sum(row["reward"] for row in dumped) / len(dumped)
        assert metrics_of(run_dir)[step]["critic/score/mean"] == pytest.approx(mean)  # what verl trained on
    assert disagreements > 0  # else either rule would have passed


def test_test_time_training_asks_and_measures_the_benchmark_itself(toy: Path) -> None:
    benchmark = toy / "data/test.parquet"  # 32 questions
    run = start(
        "ttt", toy, "ttt", "trainer.total_training_steps=2", "trainer.val_before_train=True",
        METHOD="majority_voting", FILE=str(benchmark), SAVE_FREQ="-1", TEST_FREQ="2",
        TRAIN_FILE="", TRAIN_AUG_FILE="", VAL_FILE="",
    )  # fmt: skip
    finish(run, toy / "ttt.log")
    run_dir = toy / "runs/co-rewarding/ttt"
    asked = {row["prompt"] for step in (1, 2) for row in rows_of(run_dir / f"rollouts/{step}.jsonl")}
    questions = {row["prompt"][-1]["content"] for row in pq.read_table(benchmark, columns=["prompt"]).to_pylist()}
    assert len(questions) == 2 * QUESTIONS and asked == questions  # an epoch is two steps
    for step in (0, 2):  # avg@8, as the mean over the dumped responses says
        scores = [row["acc"] for row in rows_of(run_dir / f"validation/{step}.jsonl")]
        assert len(scores) == 8 * len(questions)
        assert metrics_of(run_dir)[step]["val-core/toy_arithmetic/acc/mean@8"] == pytest.approx(
            sum(scores) / len(scores)
        )


def test_a_run_whose_answers_vanish_stops_early_and_keeps_the_good_checkpoint(toy: Path) -> None:
    watched = ("co_rewarding.watch_window=2", "co_rewarding.early_stop_after=1", *SHORT[1:])
    settings = {"METHOD": "majority_voting", "SAVE_FREQ": "1"}
    finish(
        start("baseline", toy, "stopped", *watched, "trainer.total_training_steps=2", **settings), toy / "stopped.log"
    )
    # three tokens have no room for an answer. Two windows of 2 are compared: steps 1 and 2 with steps 3 and 4. A run
    # keeps its lengths; to make answers vanish in the middle of this one, its record is bent
    record = toy / "runs/co-rewarding/stopped/started_as.json"
    record.write_text(re.sub(r'(response_length": )\d+', r"\g<1>3", record.read_text()))
    cut_off = start(
        "baseline", toy, "stopped", *watched, "trainer.total_training_steps=9", MAX_RESPONSE_LENGTH="3", **settings
    )
    text = finish(cut_off, toy / "stopped.log")
    assert "WARNING step 4: responses have stopped stating an answer" in text
    assert "stopping early at step 4" in text and "step 2 was the last one without" in text
    assert "Steps: 9 planned, 4 done, stopped early on purpose" in text
    checkpoints = toy / "runs/co-rewarding/stopped/checkpoints"
    assert not (checkpoints / "global_step_4").exists()
    # step 3, the first without answers, was saved before anything was seen: a new start resumes from step 2
    assert (checkpoints / "global_step_3").is_dir() and resumed_from(checkpoints) == 2
    assert f"the last good checkpoint is {checkpoints}/global_step_2" in text


def resumed_from(checkpoints: Path) -> int:
    return int((checkpoints / "latest_checkpointed_iteration.txt").read_text())


def test_in_one_direction_the_teacher_answers_the_wording_that_the_student_does_not(toy: Path) -> None:
    one_direction = "actor_rollout_ref.teacher.one_direction=True"
    finish(start("III", toy, "one", *SHORT, one_direction, SAVE_FREQ="-1", TEACHER_NUM_ROLLOUTS="6"), toy / "one.log")
    run_dir = toy / "runs/co-rewarding/one"
    students_views = set()
    for step in (1, 2):
        rows = rows_of(run_dir / f"rollouts/{step}.jsonl")
        groups = defaultdict(list)
        for row in rows:
            groups[row["question"], row["voter"]].append(row)
        assert len(groups) == 2 * QUESTIONS
        for row in readable(rows):
            student, teacher = groups[row["question"], "student"], groups[row["question"], "teacher"]
            assert (len(student), len(teacher)) == (ROLLOUTS, 6)
            (asked,), (other,) = ({row["view"] for row in group} for group in (student, teacher))
            assert {asked, other} == {"original", "rephrased"}
            students_views.add(asked)
            if row["voter"] == "student":
                votes = Counter(int(answer) for row in teacher if (answer := box(row)) is not None)
                label = votes.most_common(1)[0][0] if votes else None
                assert row["reward"] == float(
                    label is not None and row["answer"] is not None and int(row["answer"]) == label
                )
    assert students_views == {"original", "rephrased"}  # drawn for each question and step
    assert 0 < metrics_of(run_dir)[2]["label/voters_agree"] <= 1


def test_the_teachers_vote_on_one_wording_rewards_the_other(toy: Path) -> None:
    finish(start("III", toy, "three", *SHORT, SAVE_FREQ="-1", TEACHER_NUM_ROLLOUTS="6"), toy / "three.log")
    rewards = []
    for step in (1, 2):
        rows = rows_of(toy / f"runs/co-rewarding/three/rollouts/{step}.jsonl")
        # both answer both wordings
        groups = Counter((row["question"], row["view"], row["voter"]) for row in rows)
        assert Counter((voter, count) for (_, _, voter), count in groups.items()) == {
            ("student", ROLLOUTS): 2 * QUESTIONS,
            ("teacher", 6): 2 * QUESTIONS,
        }
        rows = readable(rows)
        answers = defaultdict(list)
        for row in rows:
            answers[row["question"], row["view"], row["voter"]].append(box(row))
        for row in rows:
            if row["voter"] == "teacher":
                assert row["reward"] is None
                continue
            other = "rephrased" if row["view"] == "original" else "original"
            votes = Counter(int(a) for a in answers[row["question"], other, "teacher"] if a is not None)
            label = votes.most_common(1)[0][0] if votes else None
            assert row["reward"] == float(
                label is not None and row["answer"] is not None and int(row["answer"]) == label
            )
            rewards.append(row["reward"])
    assert 0 < sum(rewards) < len(rewards)
