# SPDX-License-Identifier: Apache-2.0
"""Co-rewarding-I for real: Ray, FSDP2 and vLLM on the CPU, a tiny model, a few steps.

Three runs of the shipped run script: one that is killed with SIGKILL in the middle, the same command again, which goes
on from the checkpoint, and a control with learning rate 0.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file

pytestmark = pytest.mark.e2e

QUESTIONS, ROLLOUTS, STEPS, TIMEOUT_S = 16, 4, 4, 600


@pytest.fixture(scope="module")
def toy(repo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """data/ and model/ as the quickstart makes them, with fewer questions."""
    folder = tmp_path_factory.mktemp("toy")
    for script, *arguments in (
        ("make_toy_data.py", "--local_dir", folder / "data", "--num_train", "256", "--num_test", "32"),
        ("make_toy_model.py", "--data_dir", folder / "data", "--output_dir", folder / "model"),
    ):
        subprocess.run([sys.executable, repo / "scripts" / script, *map(str, arguments)], check=True)
    return folder


def start(repo: Path, toy: Path, name: str, *overrides: str) -> subprocess.Popen:
    """The run script with small settings, in the folder of `toy`; its output goes to <name>.log there."""
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PLATFORM": "cpu",
        "MODEL_PATH": str(toy / "model"),
        "TRAIN_FILE": str(toy / "data/train.parquet"),
        "TRAIN_AUG_FILE": str(toy / "data/train_rephrased.parquet"),
        "VAL_FILE": str(toy / "data/test.parquet"),
        "RUN_NAME": name,
        "TRAIN_BATCH_SIZE": str(QUESTIONS),
        "NUM_ROLLOUTS": str(ROLLOUTS),
        "MICRO_BATCH_SIZE": str(2 * QUESTIONS * ROLLOUTS),
        "MAX_PROMPT_LENGTH": "64",
        "MAX_RESPONSE_LENGTH": "32",
        "LEARNING_RATE": "1e-4",
        "LR_SCHEDULER": "constant",
        "LR_WARMUP_RATIO": "0",
        "GPUS_PER_NODE": "1",
        "LOGGER": "[console,file,tensorboard]",
        "TEST_FREQ": str(STEPS),
        "SAVE_FREQ": "2",
    }
    script = repo / "Co-rewarding-I/run_corewarding-I.sh"
    with (toy / f"{name}.log").open("ab") as log:
        return subprocess.Popen(
            ["bash", script, f"trainer.total_training_steps={STEPS}", *overrides],
            cwd=toy, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip


def finish(run: subprocess.Popen, log: Path) -> str:
    """Wait for the run to end well; its output."""
    try:
        code = run.wait(TIMEOUT_S)
    finally:
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGKILL)
    text = log.read_text(errors="replace")
    assert code == 0, text[-4000:]
    return text


def kill(run: subprocess.Popen) -> None:
    """SIGKILL for the run and, since a machine that fails takes all with it, everything that it had started."""
    processes = psutil.Process(run.pid).children(recursive=True)
    for process in [psutil.Process(run.pid), *processes]:
        process.kill()
    run.wait()
    psutil.wait_procs(processes, timeout=60)


def rows_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def metrics_of(run_dir: Path) -> dict[int, dict[str, float]]:
    """Metrics of each step, a later start over an earlier one."""
    merged: dict[int, dict[str, float]] = defaultdict(dict)
    for path in sorted((run_dir / "metrics").glob("*.jsonl")):
        for row in rows_of(path):
            merged[row["step"]] |= row["data"]
    return merged


@pytest.fixture(scope="module")
def resumed(repo: Path, toy: Path) -> dict:
    """A run killed in step 4 (after the checkpoint of step 2 and the dump of step 3), then run again to its end."""
    shared_memory = set(Path("/dev/shm").iterdir())
    run_dir = toy / "runs/co-rewarding/resumed"
    first = start(repo, toy, "resumed")
    deadline = time.monotonic() + TIMEOUT_S
    while not (run_dir / "rollouts/3.jsonl").exists():
        assert first.poll() is None, (toy / "resumed.log").read_text(errors="replace")[-4000:]
        assert time.monotonic() < deadline, "no third step in time"
        time.sleep(0.2)
    time.sleep(1)  # the dump is small; let it be written whole
    kill(first)
    for segment in set(Path("/dev/shm").iterdir()) - shared_memory:  # what a killed run cannot remove
        segment.unlink(missing_ok=True)
    questions_of_step_3 = {row["question"] for row in rows_of(run_dir / "rollouts/3.jsonl")}
    output = finish(start(repo, toy, "resumed"), toy / "resumed.log")
    return {"run_dir": run_dir, "output": output, "questions_of_step_3": questions_of_step_3}


def test_the_run_says_what_it_did(resumed: dict) -> None:
    # steps 1 and 2 stand in the checkpoint of step 2, so the second start does 3 and 4
    assert "Steps: 4 planned, 4 done, 2 of them in this run." in resumed["output"]
    assert resumed["output"].count("Steps: ") == 1  # the killed start got no further than its third step


def test_a_resumed_run_goes_on_with_the_same_questions(resumed: dict) -> None:
    again = {row["question"] for row in rows_of(resumed["run_dir"] / "rollouts/3.jsonl")}
    assert again == resumed["questions_of_step_3"]
    earlier = {row["question"] for step in (1, 2) for row in rows_of(resumed["run_dir"] / f"rollouts/{step}.jsonl")}
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
            boxes = re.findall(r"\\boxed\{([^{}]*)\}", row["response"])
            answer = boxes[-1].strip() or None if boxes else None
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


def test_training_moves_the_weights_and_learning_rate_0_does_not(repo: Path, toy: Path, resumed: dict) -> None:
    control = start(repo, toy, "control", "actor_rollout_ref.actor.optim.lr=0", "trainer.val_before_train=False")
    finish(control, toy / "control.log")
    before = load_file(toy / "model/model.safetensors")

    def weights(run: str) -> dict[str, torch.Tensor]:
        path = toy / f"runs/co-rewarding/{run}/checkpoints/global_step_{STEPS}/actor/model_world_size_1_rank_0.pt"
        state = torch.load(path, weights_only=False)
        return {name: getattr(tensor, "_local_tensor", tensor) for name, tensor in state.items()}

    assert weights("control").keys() == before.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights("control").items())
    assert any(not torch.equal(tensor, before[name]) for name, tensor in weights("resumed").items())
    # nothing moves, so neither may the difference between the rollout's probabilities and the trainer's
    metrics = metrics_of(toy / "runs/co-rewarding/control")
    assert max(metrics[step]["training/rollout_probs_diff_mean"] for step in range(1, STEPS + 1)) < 1e-5
