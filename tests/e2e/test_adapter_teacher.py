# SPDX-License-Identifier: Apache-2.0
"""Co-rewarding-II where student and teacher are LoRA adapters of one model and one vLLM engine, for real on the CPU.

A run that is killed with SIGKILL and resumed. Every checkpoint is kept, so that the teacher can be worked out again
from the students it followed.
"""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from e2e_runs import (
    QUESTIONS,
    REPO,
    ROLLOUTS,
    STEPS,
    check_checkpoint_size,
    finish,
    killed_after_step,
    metrics_of,
    rows_of,
    shards_of,
    start,
)
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

pytestmark = pytest.mark.e2e

RANK, ALPHA, TEACHER_ROLLOUTS, DECAY = 8, 16, 6, 0.6
SETTINGS = (
    f"actor_rollout_ref.teacher.n={TEACHER_ROLLOUTS}",
    f"actor_rollout_ref.teacher.decay_start={DECAY}",
    f"actor_rollout_ref.teacher.decay_end={DECAY}",
    "actor_rollout_ref.teacher.check_log_probs=True",
    "trainer.val_before_train=False",
    "trainer.max_actor_ckpt_to_keep=null",
)
GIVEN = {"LORA_RANK": str(RANK), "LORA_ALPHA": str(ALPHA), "LEARNING_RATE": "3e-3", "SAVE_FREQ": "1"}


@pytest.fixture(scope="module")
def resumed(toy: Path) -> dict:
    """A run killed in step 4 (after the checkpoint and the dump of step 3), then run again to its end."""
    run_dir, log = toy / "runs/co-rewarding/adapter", toy / "adapter.log"

    def begin() -> subprocess.Popen:
        return start("II", toy, "adapter", *SETTINGS, KL_ANCHOR="teacher", **GIVEN)

    killed_after_step(3, begin(), run_dir, log)
    before = shards_of(run_dir / "checkpoints/global_step_3/teacher", "model")
    return {"run_dir": run_dir, "output": finish(begin(), log), "teacher_of_step_3": before}


def adapters(run_dir: Path, step: int, ranks: int = 1) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """The student's and the teacher's of a checkpoint."""
    folder = run_dir / f"checkpoints/global_step_{step}"
    student, teacher = (shards_of(folder / who, "model", ranks) for who in ("actor", "teacher"))
    return {name: weight for name, weight in student.items() if ".lora_" in name}, teacher


def check_average(run_dir: Path, ranks: int = 1) -> None:
    student, teacher = adapters(run_dir, 1, ranks)
    assert student.keys() == teacher.keys() and len(teacher) > 2
    # in step 1 the student was the model as it was: B is 0, and so is the teacher's
    assert all(not weight.any() for name, weight in teacher.items() if ".lora_B." in name)
    worked_out = {name: weight.double() for name, weight in teacher.items()}
    for step in range(2, STEPS + 1):
        worked_out = {n: DECAY * weight + (1 - DECAY) * student[n].double() for n, weight in worked_out.items()}
        student, teacher = adapters(run_dir, step, ranks)
        for name, weight in worked_out.items():
            assert torch.allclose(teacher[name].double(), weight, rtol=1e-6, atol=1e-9), (step, name)


def test_the_teachers_adapter_is_the_average_worked_out_by_hand(resumed: dict) -> None:
    check_average(resumed["run_dir"])
    # step 4 was done by the start that resumed, from what the killed one had saved
    _, third = adapters(resumed["run_dir"], 3)
    assert all(torch.equal(weight, resumed["teacher_of_step_3"][name]) for name, weight in third.items())
    assert "Steps: 4 planned, 4 done, 1 of them in this run." in resumed["output"]


def test_each_rollout_is_of_the_adapter_that_it_was_asked_of(resumed: dict) -> None:
    assert "teacher: an adapter beside the student's, in the same vLLM engine" in resumed["output"]
    for step, metrics in metrics_of(resumed["run_dir"]).items():
        rows = rows_of(resumed["run_dir"] / f"rollouts/{step}.jsonl")
        groups = Counter((row["question"], row["voter"]) for row in rows)
        assert Counter(groups.values()) == {ROLLOUTS: QUESTIONS, TEACHER_ROLLOUTS: QUESTIONS}
        # on the tokens that vLLM drew as the student the training engine with the student's adapter agrees with it, on
        # those that it drew as the teacher the engine with the teacher's
        assert metrics["training/rollout_probs_diff_max"] < 1e-4, step
        assert metrics["teacher/rollout_probs_diff_max"] < 1e-4, step
        # and the two are not the same: KL is about half the mean square of the gaps between their log-probabilities, so
        # one taken for the other would show gaps of sqrt(2e-5) = 4e-3, 40 times what is allowed above
        if step > 1:
            assert metrics["actor/kl_loss"] > 1e-5, step
        assert "timing_s/teacher_gen" not in metrics and metrics["timing_s/gen"] > 0  # one batch for both


@pytest.mark.parametrize("who", ["student", "teacher"])
def test_an_export_is_the_model_with_the_adapter_in_it(toy: Path, resumed: dict, tmp_path: Path, who: str) -> None:
    run_dir = resumed["run_dir"]
    command = [sys.executable, REPO / "scripts/export_checkpoint.py", run_dir, "--weights", who]
    subprocess.run([*map(str, command), "--output_dir", str(tmp_path / "model")], check=True)
    base, merged = load_file(toy / "model/model.safetensors"), load_file(tmp_path / "model/model.safetensors")
    adapter = adapters(run_dir, STEPS)[who == "teacher"]
    for name, weight in base.items():
        part = f"base_model.model.{name.removesuffix('.weight')}.lora_"
        if f"{part}A.default.weight" in adapter:  # W + alpha / r · B A
            weight = weight + ALPHA / RANK * adapter[f"{part}B.default.weight"] @ adapter[f"{part}A.default.weight"]
        assert torch.allclose(merged[name], weight, atol=1e-6), name
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "model").num_parameters() > 0
    facts = json.loads((tmp_path / "model/lora_adapter/adapter_config.json").read_text())
    assert (facts["r"], facts["lora_alpha"]) == (RANK, ALPHA)


def test_a_checkpoint_takes_what_the_estimate_says(resumed: dict) -> None:
    folder = resumed["run_dir"] / f"checkpoints/global_step_{STEPS}"
    check_checkpoint_size(folder, is_teacher=True, lora_rank=RANK)


@pytest.mark.long
def test_two_ranks_and_two_wordings(toy: Path) -> None:
    """Co-rewarding-III: each rank has a vLLM with both adapters, and a share of the factors and of their average."""
    run_dir, log = toy / "runs/co-rewarding/two_ranks", toy / "two_ranks.log"
    finish(start("III", toy, "two_ranks", *SETTINGS, GPUS_PER_NODE="2", **GIVEN), log)
    check_average(run_dir, ranks=2)
    for step, metrics in metrics_of(run_dir).items():
        rows = rows_of(run_dir / f"rollouts/{step}.jsonl")
        groups = Counter((row["question"], row["view"], row["voter"]) for row in rows)
        assert Counter(groups.values()) == {ROLLOUTS: 2 * QUESTIONS, TEACHER_ROLLOUTS: 2 * QUESTIONS}
        assert metrics["training/rollout_probs_diff_max"] < 1e-4, step
        assert metrics["teacher/rollout_probs_diff_max"] < 1e-4, step
