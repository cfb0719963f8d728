# SPDX-License-Identifier: Apache-2.0
"""scripts/estimate.py: what it prints and its exit status. The numbers are tested where they are made."""

import json
import re
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
    assert out.startswith("Qwen/Qwen3-8B-Base: 8,190,735,360 weights, II, on 2x80 GB (79.1 GiB of each to be used)\n")
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
    assert out.endswith("use LoRA (LORA_RANK=32, Co-rewarding-I alone), a smaller model, or more or larger GPUs\n")


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
    assert "actor_rollout_ref.model.lora_rank=16" in line and "load_format=safetensors" in line
    line = command("qwen2.5-7b", "--gpus", "1x80", "--method", "I", "--lora_rank", "16")[1].splitlines()[-1]
    assert line == "LORA_RANK=16 bash recipes/train.sh I qwen2.5-7b 1x80gb"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("qwen3-4b-base",), "--gpus None: must be like 2x48"),
        (("qwen3-4b-base", "--gpus", "2x32"), "--gpus 2x32: must be like 2x48, with cards of 24, 40, 48, 80, 141 GB"),
        (
            ("no-such-model", "--gpus", "2x48"),
            "no-such-model: no such folder, not a hub name (owner/name), and not one",
        ),
        (("/no/such/config.json", "--gpus", "2x48"), "No such file or directory: '/no/such/config.json'"),
        ((), "name a model"),
        (("qwen3-4b-base", "--gpus", "2x48", "--lora_rank", "8"), "LORA_RANK is only for Co-rewarding-I"),
        (("qwen3-4b-base", "--gpus", "2x48", "--max_tokens_per_gpu", "2048"), "must hold a sequence of 3584 tokens"),
        (("qwen3-4b-base", "--gpus", "2x48", "--memory_utilization", "60"), "must be a share between 0 and 1"),
        (("qwen3-4b-base", "--gpus", "2x48", "--nodes", "0"), "must be a whole number from 1"),
    ],
)
def test_what_is_wrong_is_told(command: Run, arguments: tuple[Any, ...], message: str) -> None:
    code, out, err = command(*arguments)
    assert (code, out) == (2, "")
    assert message in err


def test_the_hubs_silence_is_one_line(command: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    code, out, err = command("nobody/nothing", "--gpus", "1x24")
    assert (code, out) == (2, "")
    assert err.startswith("error: nobody/nothing: no config.json from the hub (") and len(err.splitlines()) == 1


def test_the_table_in_the_documentation(command: Run) -> None:
    code, out, _ = command("--table")
    assert code == 0
    assert out.strip() in (REPO / "docs/CLUSTER.md").read_text()
