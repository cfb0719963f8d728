# SPDX-License-Identifier: Apache-2.0
"""Co-rewarding-I for real: Ray, FSDP2 and vLLM on the CPU, a tiny model, a few steps.

Three runs of the shipped run script: one that is killed with SIGKILL while it saves a checkpoint, the same command
again, which resumes from the one before, and a control with learning rate 0.
"""

import json
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


@pytest.fixture(scope="module")
def resumed(toy: Path) -> dict:
    """A run killed while it saves step 4, with the two checkpoints before kept, then run again to its end."""
    run_dir = toy / "runs/co-rewarding/resumed"
    killed_after_step(3, start("I", toy, "resumed", SAVE_FREQ="1"), run_dir, toy / "resumed.log", while_saving=True)
    checkpoints = run_dir / "checkpoints"
    left = {
        "resumes from": (checkpoints / "latest_checkpointed_iteration.txt").read_text(),
        "checkpoints": {
            folder.name: (folder / "save_state.txt").read_text() for folder in checkpoints.glob("global_step_*")
        },
    }
    left["recorded"] = json.loads((run_dir / "leftovers.json").read_text())
    output = finish(start("I", toy, "resumed", SAVE_FREQ="1"), toy / "resumed.log")
    return {"run_dir": run_dir, "output": output, "left": left}


def test_the_run_says_what_it_did(resumed: dict) -> None:
    # steps 1 to 3 stand in the checkpoint of step 3, so the second start does the fourth
    assert "Steps: 4 planned, 4 done, 1 of them in this run." in resumed["output"]
    assert resumed["output"].count("Steps: ") == 1  # the killed start did not get to its end


def test_what_the_killed_start_left_is_gone(resumed: dict) -> None:
    left = resumed["left"]["recorded"]
    assert "The last start was killed; removed its leftovers (processes: " in resumed["output"]
    assert left["segments"] and not [name for name in left["segments"] if Path("/dev/shm", name).exists()]
    assert not Path(left["folder"]).exists()
    assert not (resumed["run_dir"] / "leftovers.json").exists()


def test_two_checkpoints_are_kept_and_a_half_saved_one_is_not_resumed_from(resumed: dict) -> None:
    left = resumed["left"]
    assert left["resumes from"] == "3"
    assert left["checkpoints"] == {"global_step_2": "whole", "global_step_3": "whole", "global_step_4": "begun"}
    checkpoints = resumed["run_dir"] / "checkpoints"
    assert (checkpoints / "latest_checkpointed_iteration.txt").read_text() == "4"
    names = {folder.name: (folder / "save_state.txt").read_text() for folder in checkpoints.glob("global_step_*")}
    assert names == {"global_step_3": "whole", "global_step_4": "whole"}


def test_a_resumed_run_asks_no_question_again(resumed: dict) -> None:
    again = {row["question"] for row in rows_of(resumed["run_dir"] / "rollouts/4.jsonl")}
    earlier = {row["question"] for step in (1, 2, 3) for row in rows_of(resumed["run_dir"] / f"rollouts/{step}.jsonl")}
    assert not again & earlier  # 4 steps of 16 questions are a quarter of one epoch of 256: no question twice


def test_every_step_rolls_out_both_wordings(resumed: dict) -> None:
    for step in range(1, STEPS + 1):
        rows = rows_of(resumed["run_dir"] / f"rollouts/{step}.jsonl")
        groups = Counter((row["question"], row["view"]) for row in rows)
        assert len(groups) == 2 * QUESTIONS
        assert set(groups.values()) == {ROLLOUTS}
        wordings = {(row["question"], row["view"]): row["prompt"] for row in rows}
        assert all(wordings[q, "original"] != wordings[q, "rephrased"] for q, _ in groups)


def test_rewards_are_what_the_dumped_answers_imply(resumed: dict) -> None:
    rewards, skipped = [], 0
    for step in range(1, STEPS + 1):
        rows = rows_of(resumed["run_dir"] / f"rollouts/{step}.jsonl")
        # on purpose none of the package: where all answers are plain integers, two are the same if the numbers are
        answers = defaultdict(list)
        for row in rows:
            answer = box(row)
            assert row["answer"] == answer
            answers[row["question"], row["view"]].append(answer)
        odd = {
            q for (q, _), group in answers.items() if not all(answer is None or answer.isdigit() for answer in group)
        }
        for row in rows:
            if row["question"] in odd:
                skipped += 1
                continue
            other = "rephrased" if row["view"] == "original" else "original"
            votes = Counter(int(answer) for answer in answers[row["question"], other] if answer is not None)
            label = votes.most_common(1)[0][0] if votes else None  # most_common keeps first-come order in a tie
            assert (row["label"] is None) == (label is None)
            assert label is None or int(row["label"]) == label
            expected = float(label is not None and row["answer"] is not None and int(row["answer"]) == label)
            assert row["reward"] == expected
            rewards.append(expected)
    assert skipped < len(rewards) / 4  # a half-trained model now and then boxes something like "=11"
    assert 0 < sum(rewards) < len(rewards)  # the check had both kinds to look at


def test_metrics_agree_with_the_dump(resumed: dict) -> None:
    metrics, compared = metrics_of(resumed["run_dir"]), 0
    for step in range(1, STEPS + 1):
        rows = rows_of(resumed["run_dir"] / f"rollouts/{step}.jsonl")
        mean = sum(row["reward"] for row in rows) / len(rows)
        assert metrics[step]["reward/mean"] == pytest.approx(mean)
        assert metrics[step]["critic/score/mean"] == pytest.approx(mean)  # what verl trained on is what we assigned
        labels = {(row["question"], row["view"]): (row["label"], row["ground_truth"]) for row in rows if row["label"]}
        if all(label.isdigit() for label, _ in labels.values()):
            compared += 1
            right = sum(int(label) == int(truth) for label, truth in labels.values())
            assert metrics[step]["label/accuracy"] == pytest.approx(right / len(labels))
        # engine and trainer in float32: the same policy to rounding
        assert metrics[step]["training/rollout_probs_diff_max"] < 1e-3
    assert compared > 0


def test_validation_is_accuracy_on_the_original_questions(resumed: dict) -> None:
    rows = rows_of(resumed["run_dir"] / f"validation/{STEPS}.jsonl")
    assert len(rows) == 32
    right = [f"\\boxed{{{row['gts']}}}" in row["output"] for row in rows]
    assert [bool(row["score"]) for row in rows] == right
    accuracy = metrics_of(resumed["run_dir"])[STEPS]["val-core/toy_arithmetic/acc/mean@1"]
    assert accuracy == pytest.approx(sum(right) / 32)


def test_training_moves_the_weights_and_learning_rate_0_does_not(toy: Path, resumed: dict) -> None:
    control = start("I", toy, "control", "actor_rollout_ref.actor.optim.lr=0", "trainer.val_before_train=False")
    finish(control, toy / "control.log")
    before = load_file(toy / "model/model.safetensors")

    def weights(run: str) -> dict[str, torch.Tensor]:
        return shards_of(toy / f"runs/co-rewarding/{run}/checkpoints/global_step_{STEPS}/actor", "model")

    assert weights("control").keys() == before.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights("control").items())
    assert any(not torch.equal(tensor, before[name]) for name, tensor in weights("resumed").items())
    # nothing moves, so neither may the difference between the rollout's probabilities and the trainer's
    metrics = metrics_of(toy / "runs/co-rewarding/control")
    assert max(metrics[step]["training/rollout_probs_diff_mean"] for step in range(1, STEPS + 1)) < 1e-5


def test_a_checkpoint_takes_what_the_estimate_says(resumed: dict) -> None:
    check_checkpoint_size(resumed["run_dir"] / f"checkpoints/global_step_{STEPS}", is_teacher=False)
