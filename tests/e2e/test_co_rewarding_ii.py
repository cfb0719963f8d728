# SPDX-License-Identifier: Apache-2.0
"""Co-rewarding-II for real: Ray, FSDP2 and vLLM on the CPU, a tiny model, a few steps.

A run that is killed with SIGKILL, the same command again, which resumes from the checkpoint, and runs with two FSDP2
ranks, in both orders of the teacher's rollouts. Every checkpoint is kept, so that the teacher can be worked out again
from the students it followed.
"""

import re
import shutil
import subprocess
from collections import Counter, defaultdict
from pathlib import Path

import pytest
import torch
from e2e_runs import (
    QUESTIONS,
    ROLLOUTS,
    STEPS,
    box,
    check_checkpoint_size,
    finish,
    killed_after_step,
    metrics_of,
    rows_of,
    shards_of,
    start,
)
from safetensors.torch import load_file

pytestmark = pytest.mark.e2e

TEACHER_ROLLOUTS = 6  # another number than the student's, so that they cannot be mixed up unseen
DECAY_START, DECAY_END = 0.7, 0.9
SETTINGS = (
    f"actor_rollout_ref.teacher.n={TEACHER_ROLLOUTS}",
    f"actor_rollout_ref.teacher.decay_start={DECAY_START}",
    f"actor_rollout_ref.teacher.decay_end={DECAY_END}",
    "actor_rollout_ref.teacher.check_log_probs=True",
    "trainer.val_before_train=False",
    "trainer.max_actor_ckpt_to_keep=null",
)

GREEDY = (
    "actor_rollout_ref.rollout.top_k=1",
    "actor_rollout_ref.rollout.logprobs_mode=raw_logprobs",  # before top_k, which leaves one token with probability 1
    "actor_rollout_ref.actor.entropy_coeff=0.1",  # moves the student: rewards of a group are alike, and teach nothing
    "trainer.test_freq=-1",
)


def begin(toy: Path, name: str, *overrides: str, **environment: str) -> subprocess.Popen:
    # micro-batches divide the student's 16 x 4 sequences and the teacher's 16 x 6
    settings = {"SAVE_FREQ": "1", "LEARNING_RATE": "1e-3"}
    return start("II", toy, name, *SETTINGS, *overrides, **settings | environment)


@pytest.fixture(scope="module")
def resumed(toy: Path) -> dict:
    """A run killed in step 4 (after the checkpoint and the dump of step 3), then run again to its end."""
    run_dir = toy / "runs/co-rewarding/teacher"
    killed_after_step(3, begin(toy, "teacher"), run_dir, toy / "teacher.log")
    before = shards_of(run_dir / "checkpoints/global_step_3/teacher", "model")
    output = finish(begin(toy, "teacher"), toy / "teacher.log")
    return {"run_dir": run_dir, "output": output, "teacher_of_step_3": before}


def decay(step: int) -> float:
    """Eq. 11 on its own: four steps, k = 0 … 3."""
    cosine = torch.cos(torch.tensor(torch.pi * (step - 1) / STEPS, dtype=torch.float64)).item()
    return DECAY_END - (DECAY_END - DECAY_START) / 2 * (1 + cosine)


def relative_errors(toy: Path, run_dir: Path, ranks: int) -> list[float]:
    """‖teacher − teacher worked out‖ / ‖teacher worked out‖ for each step, in float64, from the saved students."""
    student = load_file(toy / "model/model.safetensors")
    teacher = {name: value.double() for name, value in student.items()}
    errors = []
    for step in range(1, STEPS + 1):
        # the student that the step begins with, θ_old
        teacher = {n: decay(step) * t + (1 - decay(step)) * student[n].double() for n, t in teacher.items()}
        folder = run_dir / f"checkpoints/global_step_{step}"
        saved, student = shards_of(folder / "teacher", "model", ranks), shards_of(folder / "actor", "model", ranks)
        off = sum(float((saved[name].double() - value).pow(2).sum()) for name, value in teacher.items())
        errors.append((off / sum(float(value.pow(2).sum()) for value in teacher.values())) ** 0.5)
    return errors


def test_the_teacher_is_the_average_worked_out_by_hand(toy: Path, resumed: dict) -> None:
    # the run was killed and resumed between steps 3 and 4, so the last one says that the average survived, and where
    # the schedule stood
    errors = relative_errors(toy, resumed["run_dir"], ranks=1)
    print("relative error of the teacher after each step:", [f"{error:.1e}" for error in errors])
    assert max(errors) < 1e-6
    # the direction: after a step the teacher is nearer to the old teacher than to the new student
    old, new = (shards_of(resumed["run_dir"] / f"checkpoints/global_step_{step}/teacher", "model") for step in (2, 3))
    student = shards_of(resumed["run_dir"] / "checkpoints/global_step_3/actor", "model")

    def apart(one: dict, other: dict) -> float:
        return sum(float((one[name] - other[name]).double().pow(2).sum()) for name in one) ** 0.5

    assert 0 < apart(new, old) < apart(new, student)
    # what the resumed run started from is what the killed one had saved
    assert all(torch.equal(value, resumed["teacher_of_step_3"][name]) for name, value in new.items())


def test_metrics_say_where_the_schedule_stands_and_how_far_apart_they_are(resumed: dict) -> None:
    metrics = metrics_of(resumed["run_dir"])
    for step in range(1, STEPS + 1):
        assert metrics[step]["teacher/decay"] == pytest.approx(decay(step), abs=1e-12)
        for phase in ("teacher_update", "teacher_sync", "teacher_gen", "gen", "update_weights"):
            assert metrics[step][f"timing_s/{phase}"] > 0
    assert metrics[1]["teacher/distance"] == 0.0  # the student has not moved yet
    assert "teacher: the decay of step" not in resumed["output"]  # the schedule of the resumed run is that of the first
    folder = resumed["run_dir"] / "checkpoints"
    # in step 4 the teacher has moved, and the student is still that of checkpoint 3
    student = shards_of(folder / "global_step_3/actor", "model")
    teacher = shards_of(folder / "global_step_4/teacher", "model")
    off = sum(float((student[name] - teacher[name]).double().pow(2).sum()) for name in student)
    expected = (off / sum(float(value.double().pow(2).sum()) for value in student.values())) ** 0.5
    assert metrics[4]["teacher/distance"] == pytest.approx(expected, rel=1e-3)


def test_vllm_has_the_students_weights_for_the_student_and_the_teachers_for_the_teacher(resumed: dict) -> None:
    metrics = metrics_of(resumed["run_dir"])
    gaps = defaultdict(list)
    for step in range(2, STEPS + 1):
        gaps["student"].append(metrics[step]["training/rollout_probs_diff_max"])
        gaps["teacher"].append(metrics[step]["teacher/rollout_probs_diff_max"])
        # they are different models by now: on the student's tokens their log-probabilities differ visibly
        assert metrics[step]["actor/kl_loss"] > 1e-3
    print("largest gap of a token's probability, vLLM against the training engine:", dict(gaps))
    assert max(gaps["student"]) < 1e-4
    assert max(gaps["teacher"]) < 1e-4


def test_the_teacher_votes_and_the_student_is_rewarded(resumed: dict) -> None:
    rewards, skipped = [], 0
    for step in range(1, STEPS + 1):
        rows = rows_of(resumed["run_dir"] / f"rollouts/{step}.jsonl")
        groups = Counter((row["question"], row["voter"]) for row in rows)
        assert Counter(groups.values()) == {ROLLOUTS: QUESTIONS, TEACHER_ROLLOUTS: QUESTIONS}
        assert all((row["reward"] is None) == (row["voter"] == "teacher") for row in rows)
        answers = defaultdict(list)
        for row in rows:
            assert row["answer"] == box(row)
            answers[row["question"], row["voter"]].append(row["answer"])
        odd = {q for (q, _), group in answers.items() if not all(a is None or a.isdigit() for a in group)}
        for row in rows:
            if row["voter"] == "teacher":
                continue
            if row["question"] in odd:
                skipped += 1
                continue
            votes = Counter(int(answer) for answer in answers[row["question"], "teacher"] if answer is not None)
            label = votes.most_common(1)[0][0] if votes else None
            assert (None if row["label"] is None else int(row["label"])) == label
            expected = float(label is not None and row["answer"] is not None and int(row["answer"]) == label)
            assert row["reward"] == expected
            rewards.append(expected)
        # what verl trained on are the student's responses alone
        metrics = metrics_of(resumed["run_dir"])[step]
        student = [row["reward"] for row in rows if row["voter"] == "student"]
        assert metrics["critic/score/mean"] == pytest.approx(sum(student) / len(student))
    assert skipped < len(rewards) / 4
    assert 0 < sum(rewards) < len(rewards)


def test_a_resumed_run_goes_on_where_it_was(resumed: dict) -> None:
    # steps 1 to 3 stand in the checkpoint of step 3, so the second start does the fourth
    assert "Steps: 4 planned, 4 done, 1 of them in this run." in resumed["output"]
    assert re.search(r"\[co-rewarding\] Resuming from step 3 of 4, saved \d{4}-\d\d-\d\d \d\d:\d\d ", resumed["output"])
    seen = [{row["question"] for row in rows_of(resumed["run_dir"] / f"rollouts/{step}.jsonl")} for step in range(1, 5)]
    assert sum(map(len, seen)) == len(set().union(*seen))  # no question twice in a quarter of an epoch


def test_a_run_without_a_teacher_is_not_resumed_as_one_with_it(toy: Path, resumed: dict) -> None:
    folder = toy / "runs/co-rewarding/plain/checkpoints"
    saved = resumed["run_dir"] / "checkpoints/global_step_2"
    shutil.copytree(saved, folder / saved.name, ignore=shutil.ignore_patterns("teacher"))
    (folder / "latest_checkpointed_iteration.txt").write_text("2")
    message = refused(toy, "plain")
    assert message.startswith("error: trainer.default_local_dir=")
    assert "global_step_2 has no teacher" in message


def test_another_experiment_does_not_resume_it(toy: Path, resumed: dict) -> None:
    message = refused(toy, "teacher", LR_SCHEDULER="cosine", TRAIN_BATCH_SIZE="8")
    assert message.startswith(f"error: co_rewarding_run_dir={resumed['run_dir']}: its run was started with ")
    assert f"data.train_batch_size={QUESTIONS}, now 8 (TRAIN_BATCH_SIZE in the run script)" in message
    assert 'optim.lr_scheduler_type="constant", now "cosine" (LR_SCHEDULER in the run script)' in message


def refused(toy: Path, name: str, **environment: str) -> str:
    """The one line of a start that ends with code 2."""
    assert begin(toy, name, **environment).wait(300) == 2
    return (toy / f"{name}.log").read_text(errors="replace").strip().splitlines()[-1]


@pytest.fixture(scope="module")
def orders(toy: Path) -> dict[str, Path]:
    """Greedy runs of two ranks, each with a vLLM replica: the teacher after the student, and beside it. The second run
    is killed after step 2 and resumed."""
    run_dirs = {}
    for order in ("after", "beside"):
        run_dirs[order], log = toy / "runs/co-rewarding" / order, toy / f"{order}.log"
        if order == "beside":
            killed_after_step(2, begin(toy, order, *GREEDY, GPUS_PER_NODE="2", TEACHER=order), run_dirs[order], log)
        finish(begin(toy, order, *GREEDY, GPUS_PER_NODE="2", TEACHER=order), log)
    assert "teacher: rolls out beside the student, on 1 of 2 vLLM replicas" in log.read_text(errors="replace")
    return run_dirs


@pytest.mark.long
@pytest.mark.parametrize("order", ["after", "beside"])
def test_two_ranks_keep_the_same_teacher(toy: Path, orders: dict[str, Path], order: str) -> None:
    # of the run that was resumed, too: no checkpoint holds a teacher that has moved for the step after it
    errors = relative_errors(toy, orders[order], ranks=2)
    print("relative error of the teacher of two ranks after each step:", [f"{error:.1e}" for error in errors])
    assert max(errors) < 1e-6
    for step, metrics in metrics_of(orders[order]).items():
        assert metrics["training/rollout_probs_diff_max"] < 1e-4, step
        assert metrics["teacher/rollout_probs_diff_max"] < 1e-4, step
        phases = ("teacher_sync", "teacher_gen")
        assert [f"timing_s/{phase}" in metrics for phase in phases] == [order == "after"] * 2


@pytest.mark.long
def test_both_orders_roll_out_the_same(orders: dict[str, Path]) -> None:
    apart = 0
    for step in range(1, STEPS + 1):
        texts = {
            order: Counter(
                (row["question"], row["voter"], row["response"]) for row in rows_of(run_dir / f"rollouts/{step}.jsonl")
            )
            for order, run_dir in orders.items()
        }
        assert texts["after"] == texts["beside"], step
        groups = Counter(texts["after"].values())
        assert groups == {ROLLOUTS: QUESTIONS, TEACHER_ROLLOUTS: QUESTIONS}  # all greedy responses of a voter are alike
        answered = defaultdict(set)
        for question, _, response in texts["after"]:
            answered[question].add(response)
        apart += sum(len(responses) == 2 for responses in answered.values())
    assert apart > 0  # teacher and student are not one model: a request at the wrong replica would show


@pytest.mark.long
def test_decided_votes_are_stopped(toy: Path) -> None:
    run_dir, num_votes = toy / "runs/co-rewarding/decided", 16
    # a few at a time, so that not all responses are there when a vote is decided
    few = ("actor_rollout_ref.rollout.max_num_seqs=8", f"actor_rollout_ref.teacher.n={num_votes}")
    off = ("actor_rollout_ref.teacher.check_log_probs=False", "trainer.test_freq=-1")
    finish(begin(toy, "decided", *few, *off, STOP_DECIDED="True"), toy / "decided.log")
    metrics, num_stopped = metrics_of(run_dir), 0
    for step in range(1, STEPS + 1):
        groups = defaultdict(list)
        for row in rows_of(run_dir / f"rollouts/{step}.jsonl"):
            if row["voter"] == "teacher":
                groups[row["question"]].append(row)
        assert {len(rows) for rows in groups.values()} == {num_votes}
        for rows in groups.values():
            stopped = [row for row in rows if row.get("stopped")]
            num_stopped += len(stopped)
            assert all(row["answer"] is None for row in stopped)
            votes = Counter(row["answer"] for row in rows if row["answer"] is not None)
            # whatever the others had said, the label would be this one
            assert not stopped or votes.most_common(1)[0][1] > num_votes / 2
        rows = [row for group in groups.values() for row in group]
        share = sum(bool(row.get("stopped")) for row in rows) / len(rows)
        assert metrics[step]["teacher/stopped"] == pytest.approx(share)
    assert num_stopped > 0


def test_a_checkpoint_takes_what_the_estimate_says(resumed: dict) -> None:
    check_checkpoint_size(resumed["run_dir"] / f"checkpoints/global_step_{STEPS}", is_teacher=True)
