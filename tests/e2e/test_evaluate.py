# SPDX-License-Identifier: Apache-2.0
"""scripts/evaluate.py for real: vLLM on the CPU, a tiny model, a kill in the middle, and training's own validation."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from e2e_runs import REPO, TIMEOUT_S, Surroundings, finish, rows_of, start

pytestmark = [pytest.mark.e2e, pytest.mark.long]

NUM_QUESTIONS, SAMPLES, MAX_TOKENS = 32, 16, 32  # MAX_TOKENS as in the training runs of e2e_runs


def evaluation(toy: Path, name: str, *arguments: str) -> subprocess.Popen:
    command = [
        sys.executable, REPO / "scripts/evaluate.py",
        "--model", toy / "model", "--data", f"toy={toy}/data/test.parquet",
        "--max_tokens", MAX_TOKENS, "--kv_cache_mb", 256, "--output_dir", toy / "evaluation" / name, *arguments,
    ]  # fmt: skip
    with (toy / f"evaluation_{name}.log").open("ab") as log:
        return subprocess.Popen(
            list(map(str, command)), cwd=toy, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdin=subprocess.DEVNULL,
            stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip


def finish_alone(run: subprocess.Popen, log: Path, has_engine: bool = True) -> None:
    """Wait for an evaluation, one process without a Ray, to end well; it is open to no other machine."""
    surroundings = Surroundings(run)
    finish(run, log, has_own_ray=False)
    surroundings.check_no_process_is_left()
    if has_engine:  # which listens
        surroundings.check_no_other_machine_reaches_it()


def generations_of(folder: Path) -> list[dict]:
    """The complete lines of the file after its header."""
    path = folder / "generations/toy.jsonl"
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")[1:-1]
    return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def killed_and_continued(toy: Path) -> dict:
    """An evaluation that is killed once some responses are there, then the same command again."""
    folder, log = toy / "evaluation/sampled", toy / "evaluation_sampled.log"
    run = evaluation(toy, "sampled", "--samples", str(SAMPLES))
    deadline = time.monotonic() + TIMEOUT_S
    while not generations_of(folder):
        assert run.poll() is None, log.read_text(errors="replace")[-4000:]
        assert time.monotonic() < deadline, "no response in time"
        time.sleep(0.01)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    before = generations_of(folder)
    finish_alone(evaluation(toy, "sampled", "--samples", str(SAMPLES)), log)
    return {"folder": folder, "before": before, "log": log}


def test_a_killed_evaluation_goes_on(killed_and_continued: dict) -> None:
    before, after = killed_and_continued["before"], generations_of(killed_and_continued["folder"])
    assert 0 < len(before) < NUM_QUESTIONS * SAMPLES
    assert after[: len(before)] == before
    keys = [(row["index"], row["sample"]) for row in after]
    assert sorted(keys) == [(index, sample) for index in range(NUM_QUESTIONS) for sample in range(SAMPLES)]
    missing = NUM_QUESTIONS * SAMPLES - len(before)
    assert f"{missing:,} responses to generate" in killed_and_continued["log"].read_text()


def test_scores_are_what_the_generations_say(killed_and_continued: dict) -> None:
    folder = killed_and_continued["folder"]
    result = json.loads((folder / "results.json").read_text())
    task = result["tasks"]["toy"]
    # on purpose none of the package: the toy task's answers are plain integers, and so are nearly all boxes
    right = [f"\\boxed{{{row['ground_truth']}}}" in row["response"] for row in generations_of(folder)]
    assert task["accuracy"][f"avg@{SAMPLES}"]["value"] == pytest.approx(sum(right) / len(right), abs=0.01)
    assert task["primary"] == f"avg@{SAMPLES}"
    value = {name: score["value"] for name, score in task["accuracy"].items()}
    assert value["pass@1"] < value["pass@4"] < value[f"pass@{SAMPLES}"]  # half-trained: sampling finds more
    lengths = [row["tokens"] for row in generations_of(folder)]
    assert task["tokens"]["value"] == pytest.approx(sum(lengths) / len(lengths))
    assert max(lengths) <= MAX_TOKENS
    assert task["sampling"] | {"vllm": ""} == {
        "n": SAMPLES, "temperature": 0.8, "top_p": 1.0, "max_tokens": MAX_TOKENS, "seed": 0, "chat_template_kwargs": {},
        "dtype": "float32", "vllm": "", "seeding": "the engine",
    }  # fmt: skip
    assert "\\boxed" in task["prompt"]["system"]
    assert "avg@" in (folder / "table.tex").read_text()
    assert f"toy avg@{SAMPLES}" in (folder / "table.md").read_text()


def test_the_harness_agrees_with_training(toy: Path, killed_and_continued: dict) -> None:
    """The same model and questions, greedily, by training's validation and by the harness."""
    validation = start("I", toy, "validated", "trainer.val_only=True")
    finish(validation, toy / "validated.log")
    (dump,) = (toy / "runs/co-rewarding/validated/validation").glob("*.jsonl")
    log = toy / "evaluation_greedy.log"
    finish_alone(evaluation(toy, "greedy", "--temperature", "0"), log)
    stored = {row["input"].split("}.")[-1]: row for row in rows_of(dump)}
    graded = {row["question"]: row for row in rows_of(toy / "evaluation/greedy/graded/toy.jsonl")}
    assert len(stored) == len(graded) == NUM_QUESTIONS
    # the validation's generations graded again: every verdict is the same, and so is the accuracy
    regraded = toy / "evaluation/regraded"
    command = [sys.executable, str(REPO / "scripts/evaluate.py"), "--regrade", str(dump), "--output_dir", str(regraded)]
    output = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=True).stdout
    assert f"stored verdicts: {NUM_QUESTIONS} of {NUM_QUESTIONS} agree with ours" in output
    task = json.loads((regraded / "results.json").read_text())["tasks"]["validation"]
    assert task["accuracy"]["pass@1"]["value"] == sum(row["score"] for row in stored.values()) / NUM_QUESTIONS
    # and the harness's own generations are the same texts: same prompt, same decoding, same model
    for question, row in graded.items():
        assert row["response"] == stored[question]["output"]
        assert row["correct"] == bool(stored[question]["score"])


def test_a_finished_evaluation_starts_no_engine(toy: Path, killed_and_continued: dict) -> None:
    log = killed_and_continued["log"]
    result = json.loads((killed_and_continued["folder"] / "results.json").read_text())
    started = log.read_text().count("responses to generate")
    finish_alone(evaluation(toy, "sampled", "--samples", "4"), log, has_engine=False)
    assert log.read_text().count("responses to generate") == started
    again = json.loads((killed_and_continued["folder"] / "results.json").read_text())
    assert again["tasks"]["toy"]["samples"] == 4  # the first four of the sixteen
    assert again["model"] == result["model"]
    other = evaluation(toy, "sampled", "--samples", "4", "--temperature", "1")
    assert other.wait(TIMEOUT_S) == 2
    assert "was made with temperature=0.8, now it is 1.0" in log.read_text().splitlines()[-1]
