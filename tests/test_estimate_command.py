# SPDX-License-Identifier: Apache-2.0
"""scripts/estimate.py: what it prints and its exit status. The numbers are tested where they are made."""

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., tuple[int, str, str]]
REPO = Path(__file__).resolve().parents[1]


@pytest.fixture
def command(run_script: Run) -> Run:
    return lambda *arguments: run_script("estimate.py", *arguments)


def test_it_fits(command: Run) -> None:
    code, out, err = command("Qwen/Qwen3-8B-Base", "--method", "II", "--gpus", "2x80")
    assert (code, err) == (0, "")
    assert out.startswith("Qwen/Qwen3-8B-Base: 8,190,735,360 weights, II, on 2x80 GB (79.1 GiB of each usable)\n")
    assert "OFFLOAD=step" in out.splitlines()[1]
    stages = (
        "while vLLM works",
        "in the weight sync",
        "in the update",
        "in AdamW's step",
        "host memory",
        "a checkpoint",
    )
    assert all(re.search(rf"^  {stage} +\d+\.\d ", out, flags=re.MULTILINE) for stage in stages)
    assert out.endswith("fits\n\nbash recipes/train.sh II qwen3-8b-base 2x80gb\n")


def test_it_does_not_fit(command: Run) -> None:
    code, out, _ = command("qwen3-8b-base", "--gpus", "1x40")
    assert code == 1
    assert "does not fit: in the update a GPU needs " in out
    assert out.endswith("use LoRA (LORA_RANK=32), a smaller model, or more or larger GPUs\n")


def test_what_is_given_does_not_fit_but_something_would(command: Run) -> None:
    code, out, _ = command("qwen3-4b-base", "--gpus", "1x80gb", "--offload", "none", "--memory_utilization", "0.8")
    assert code == 1
    assert "OFFLOAD=none" in out and "ROLLOUT_MEMORY_UTILIZATION=0.8" in out
    assert "what fits: ROLLOUT_MEMORY_UTILIZATION=0.6 " in out and out.endswith("OFFLOAD=step\n")


def test_host_memory_is_judged_if_it_is_said(command: Run) -> None:
    assert command("qwen3-8b-base", "--gpus", "2x80", "--host_memory", "512")[0] == 0
    code, out, _ = command("qwen3-8b-base", "--gpus", "2x80", "--host_memory", "64")
    assert code == 1 and "this machine needs " in out


@pytest.mark.parametrize("as_file", [True, False])
def test_a_models_own_folder(command: Run, tmp_path: Path, as_file: bool) -> None:
    config = json.loads((REPO / "recipes/models/qwen2.5-3b.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"_name_or_path": "mine"}))
    code, out, _ = command(tmp_path / "config.json" if as_file else tmp_path, "--gpus", "1x40", "--method", "I")
    assert code == 0
    line = out.splitlines()[-1]
    assert f"MODEL_PATH={tmp_path} GPUS_PER_NODE=1 " in line and "bash Co-rewarding-I/run_corewarding-I.sh " in line
    assert "actor_rollout_ref.actor.fsdp_config.offload_policy=True" in line


def test_lora_in_the_command(command: Run, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text((REPO / "recipes/models/qwen2.5-7b.json").read_text())
    line = command(tmp_path, "--gpus", "1x80", "--method", "I", "--lora_rank", "16")[1].splitlines()[-1]
    assert line.startswith("LORA_RANK=16 MODEL_PATH=") and " bash Co-rewarding-I/run_corewarding-I.sh" in line
    for method in ("I", "II"):
        line = command("qwen2.5-7b", "--gpus", "1x80", "--method", method, "--lora_rank", "16")[1].splitlines()[-1]
        assert line == f"LORA_RANK=16 bash recipes/train.sh {method} qwen2.5-7b 1x80gb"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("qwen3-4b-base",), "--gpus : must be like 2x48"),
        (
            ("qwen3-4b-base", "--gpus", "2x32"),
            "--gpus 2x32: must be like 2x48, with cards of 12, 16, 24, 40, 48, 80, 141 GB",
        ),
        (
            ("no-such-model", "--gpus", "2x48"),
            "no-such-model: no such folder, not a hub name (owner/name), and not one",
        ),
        (("/no/such/config.json", "--gpus", "2x48"), "/no/such/config.json: No such file or directory"),
        ((), "name a model"),
        (("qwen3-4b-base", "--gpus", "2x48", "--max_tokens_per_gpu", "2048"), "must hold a sequence of 3584 tokens"),
        (
            ("qwen3-4b-base", "--gpus", "2x48", "--memory_utilization", "60"),
            "--memory_utilization 60: must be less than 1",
        ),
        (("qwen3-4b-base", "--gpus", "2x48", "--nodes", "0"), "--nodes 0: must be greater than or equal to 1"),
        (
            ("qwen3-4b-base", "--gpus", "2x48", "--lora_rank", "-1"),
            "--lora_rank -1: must be greater than or equal to 0",
        ),
        (("qwen3-4b-base", "--gpus", "2x48", "--host_memory", "0"), "--host_memory 0: must be greater than 0"),
        (("qwen3-4b-base", "--gpus", "2x48", "--host_memory", "nan"), "must be a finite number"),
        (("qwen3-4b-base", "--gpus", "2x48", "--host_memory", "inf"), "must be a finite number"),
        (("qwen3-4b-base", "--gpus", "2x48", "--tensor_parallel", "4"), "must divide the 2 GPUs of a machine"),
        (("qwen2.5-7b", "--gpus", "8x48", "--tensor_parallel", "8"), "the model's 28 heads"),
    ],
)
def test_what_is_wrong_is_reported(command: Run, arguments: tuple[Any, ...], message: str) -> None:
    code, out, err = command(*arguments)
    assert (code, out) == (2, "")
    assert message in err and err.startswith("estimate.py: error: ") and len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "config.json: Expecting"), ("[]", "config.json: a model's"), ("\xff", "config.json: 'utf-8' codec can't")],
)
def test_a_file_that_cannot_be_read_is_named(command: Run, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "config.json").write_bytes(text.encode("latin-1"))
    code, out, err = command(tmp_path, "--gpus", "1x24")
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert f"{tmp_path}/{message}" in err


def test_gpus_over_which_the_papers_batch_does_not_divide(command: Run) -> None:
    # 1,024 sequences; over 6 GPUs 3 questions x 8 do, 43 x 3 = 129
    out = command("qwen3-1.7b-base", "--gpus", "3x80", "--nodes", "2")[1]
    assert (
        "TRAIN_BATCH_SIZE=128 must be changed: 128 questions x 8 rollouts do not divide over 6 GPUs; a multiple of 3 "
        "does, 129 is the nearest\n"
    ) in out
    assert "TRAIN_BATCH_SIZE" not in command("qwen3-1.7b-base", "--gpus", "4x80", "--nodes", "2")[1]


def test_recipes_are_for_up_to_eight_gpus(command: Run) -> None:
    assert "recipes/train.sh" not in command("qwen3-1.7b-base", "--gpus", "16x80")[1]


def test_sizes_that_a_start_does_not_refuse(command: Run) -> None:
    code, out, _ = command("qwen3-4b-base", "--gpus", "1x24")
    assert code == 0
    assert "tight: in the update a GPU needs 22.5 GiB and has 22.0\n" in out and "\nmay fit: it exceeds " in out


def test_a_folder_with_a_space(command: Run, tmp_path: Path) -> None:
    folder = tmp_path / "my model; $HOME"
    folder.mkdir()
    (folder / "config.json").write_text((REPO / "recipes/models/qwen3-1.7b-base.json").read_text())
    line = command(folder, "--gpus", "1x80", "--method", "I")[1].splitlines()[-1]
    assert f"MODEL_PATH={folder}" in shlex.split(line)


def test_the_hubs_silence_is_one_line(command: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    code, out, err = command("nobody/nothing", "--gpus", "1x24")
    assert (code, out) == (2, "")
    assert (
        err.startswith("estimate.py: error: nobody/nothing: no config.json from the hub (")
        and len(err.splitlines()) == 1
    )


def test_the_table_in_the_documentation(command: Run) -> None:
    code, out, _ = command("--table")
    assert code == 0
    assert out.strip() in (REPO / "docs/CLUSTER.md").read_text()
