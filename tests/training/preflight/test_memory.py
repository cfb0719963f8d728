# SPDX-License-Identifier: Apache-2.0
"""The check of a start against the machine: read from a configuration, in one line. There is no GPU here: its size is
given to the check where one is asked for."""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hydra import compose, initialize_config_module
from omegaconf import DictConfig, OmegaConf

from co_rewarding.training.estimate import GIB
from co_rewarding.training.preflight import machine, memory
from co_rewarding.training.preflight.memory import check_memory, free_disk, memory_of_this_machine, setting_of

RECIPES = Path(__file__).resolve().parents[3] / "recipes/models"


def enlarge(config: DictConfig, folder: Path) -> DictConfig:
    """The run of `config` with the shapes of Qwen3-4B-Base, and checkpoints in a folder of the test's."""
    shutil.copy(RECIPES / "qwen3-4b-base.json", folder / "config.json")
    config.actor_rollout_ref.model.path = str(folder)
    config.trainer.default_local_dir = str(folder / "runs/checkpoints")
    return config


@pytest.fixture(scope="module")
def composed_for_gpus(sample_overrides: list[str]) -> bytes:
    """The sample run's configuration for GPUs, with micro-batches of 8,192 tokens; pickled."""
    packed = ["actor_rollout_ref.actor.use_dynamic_bsz=True", "actor_rollout_ref.actor.ppo_max_token_len_per_gpu=8192"]
    share = ["actor_rollout_ref.rollout.gpu_memory_utilization=0.6", "trainer.max_actor_ckpt_to_keep=2"]
    share += ["actor_rollout_ref.rollout.tensor_model_parallel_size=1"]
    with initialize_config_module("co_rewarding_i.config", version_base=None):
        return pickle.dumps(
            compose("co_rewarding_i", overrides=["platform=gpu", *sample_overrides[1:], *packed, *share])
        )


@pytest.fixture
def on_gpus(composed_for_gpus: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., DictConfig]:
    """on_gpus(gpus, GiB of each visible one, host=GiB): the configuration, on a machine that reports these."""

    def run(gpus: int, *gib: float, host: float = 1000) -> DictConfig:
        monkeypatch.setattr(memory, "memory_of_gpus", lambda: [size * GIB for size in gib])
        monkeypatch.setattr(memory, "memory_of_this_machine", lambda: host * GIB)
        monkeypatch.setattr(memory, "free_disk", lambda folder: 1000 * GIB)
        config = enlarge(pickle.loads(composed_for_gpus), tmp_path)
        config.trainer.n_gpus_per_node = gpus
        return config

    return run


def test_the_sample_run_fits_here(config: DictConfig, capsys: pytest.CaptureFixture[str]) -> None:
    check_memory(config)
    assert capsys.readouterr().out == ""


def test_a_model_for_which_this_machine_is_too_small(config: DictConfig, tmp_path: Path) -> None:
    # 16 bytes of 4.02 billion weights and 4 each for reference and vLLM: 90 GiB
    if memory_of_this_machine() > 80 * GIB:
        pytest.skip("this machine may have room for it")
    with pytest.raises(ValueError, match=r"needs 89.9 GiB .*; use a smaller model") as refused:
        check_memory(enlarge(config, tmp_path))
    assert len(str(refused.value).splitlines()) == 1


def test_gpus_on_which_it_fits(on_gpus: Callable[..., DictConfig], capsys: pytest.CaptureFixture[str]) -> None:
    check_memory(on_gpus(4, 79.1))
    assert capsys.readouterr().out == ""


def test_gpus_that_are_too_small(on_gpus: Callable[..., DictConfig]) -> None:
    with pytest.raises(ValueError) as refused:
        check_memory(on_gpus(1, 79.1))
    # 0.6 of 79.1 is 47.5, 12 bytes of 4.02 billion weights 44.9, and 2.2
    assert str(refused.value) == (
        "actor_rollout_ref.rollout.gpu_memory_utilization=0.6: while vLLM works a GPU needs 94.6 GiB and has 79.1 "
        "(vLLM's share 47.5, moments 30.0, weights 15.0, CUDA, NCCL 2.2); use "
        "actor_rollout_ref.actor.fsdp_config.param_offload=True "
        "actor_rollout_ref.actor.fsdp_config.optimizer_offload=True"
    )


def test_the_advice_is_taken(on_gpus: Callable[..., DictConfig], capsys: pytest.CaptureFixture[str]) -> None:
    config = on_gpus(1, 79.1)
    config.actor_rollout_ref.actor.fsdp_config.param_offload = True
    config.actor_rollout_ref.actor.fsdp_config.optimizer_offload = True
    check_memory(config)
    assert capsys.readouterr().out == ""


def test_tight_is_said(on_gpus: Callable[..., DictConfig], capsys: pytest.CaptureFixture[str]) -> None:
    config = on_gpus(4, 79.1)
    config.actor_rollout_ref.rollout.gpu_memory_utilization = 0.8
    check_memory(config)
    assert capsys.readouterr().out.startswith(
        "memory: tight, actor_rollout_ref.rollout.gpu_memory_utilization=0.8: while vLLM works a GPU needs 76.7 GiB"
    )


def test_no_advice_where_nothing_fits(on_gpus: Callable[..., DictConfig]) -> None:
    with pytest.raises(ValueError, match="no sizes fit: use a smaller model, more GPUs, or LoRA"):
        check_memory(on_gpus(1, 15.0))


def test_host_memory_of_a_gpu_machine(on_gpus: Callable[..., DictConfig]) -> None:
    config = on_gpus(1, 79.1, host=64)
    config.actor_rollout_ref.actor.fsdp_config.param_offload = True
    config.actor_rollout_ref.actor.fsdp_config.optimizer_offload = True
    with pytest.raises(ValueError, match=r"offload_policy=False: this machine needs 84\.\d GiB .* has 64.0 "):
        check_memory(config)


def test_a_driver_that_sees_no_gpu(on_gpus: Callable[..., DictConfig], capsys: pytest.CaptureFixture[str]) -> None:
    check_memory(on_gpus(1, host=1))
    assert capsys.readouterr().out == (
        "memory: GPUs and host memory not checked, no GPU is visible to this process (RAY_ADDRESS is set)\n"
    )


def test_another_clusters_gpus_are_not_refused_for_those_of_this_machine(
    on_gpus: Callable[..., DictConfig], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = on_gpus(1, 79.1, host=16)
    config.ray_kwargs.ray_init.address = "10.0.0.1:6379"  # as RAY_ADDRESS makes it
    check_memory(config)
    gpu, host = capsys.readouterr().out.splitlines()
    assert gpu.startswith(
        "memory: does not fit on this machine's GPU, actor_rollout_ref.rollout.gpu_memory_utilization=0.6: while vLLM "
        "works a GPU needs 94.6 GiB and has 79.1 "
    )
    assert host.startswith("memory: does not fit on this machine, ") and "and has 16.0 " in host
    assert all(line.endswith("; RAY_ADDRESS is set, the cluster may have more") for line in (gpu, host))
    config.trainer.save_freq = 20
    monkeypatch.setattr(memory, "free_disk", lambda folder: GIB)  # the disk is the same
    with pytest.raises(ValueError, match="a checkpoint takes"):
        check_memory(config)


def test_gpus_that_differ(on_gpus: Callable[..., DictConfig], capsys: pytest.CaptureFixture[str]) -> None:
    check_memory(on_gpus(2, 139.7, 79.1))
    assert capsys.readouterr().out == (
        "memory: visible GPUs have 79.1 to 139.7 GiB, the smallest counts (CUDA_VISIBLE_DEVICES chooses)\n"
    )


def test_on_a_cpu_no_key_is_named(
    config: DictConfig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(memory, "memory_of_this_machine", lambda: 91 * GIB)  # 89.9, and 6 for processes
    check_memory(enlarge(config, tmp_path))
    assert capsys.readouterr().out.startswith("memory: tight, this machine needs 89.9 GiB and about 6 for processes ")
    monkeypatch.setattr(memory, "memory_of_this_machine", lambda: 89 * GIB)
    with pytest.raises(ValueError, match=r"^this machine needs 89.9 GiB .*; use a smaller model$"):
        check_memory(config)


def test_disk(on_gpus: Callable[..., DictConfig], monkeypatch: pytest.MonkeyPatch) -> None:
    config = on_gpus(4, 79.1)
    config.trainer.save_freq, config.trainer.max_actor_ckpt_to_keep = 20, 2
    monkeypatch.setattr(memory, "free_disk", lambda folder: 40 * GIB)
    with pytest.raises(ValueError) as refused:  # 12 bytes of 4.02 billion
        check_memory(config)
    assert str(refused.value) == (
        "trainer.max_actor_ckpt_to_keep=2: a checkpoint takes 45.0 GiB and 40.0 GiB are free, while 2 are kept and the "
        "next is written; free some, or set RUNS_DIR to a folder on another disk"
    )
    config.trainer.save_freq = -1
    check_memory(config)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (
            "actor_rollout_ref.actor.optim.optimizer",
            "AdamW8bit",
            "optim.optimizer=AdamW8bit: the estimate supports only AdamW",
        ),
        (
            "actor_rollout_ref.actor.fsdp_config.model_dtype",
            "bf16",
            "model_dtype=bf16: the estimate supports only fp32",
        ),
        (
            "actor_rollout_ref.model.override_config.attn_implementation",
            "eager",
            "=eager: the estimate supports only sdpa",
        ),
    ],
)
def test_what_the_estimate_does_not_know_is_not_refused(
    on_gpus: Callable[..., DictConfig], capsys: pytest.CaptureFixture[str], key: str, value: str, message: str
) -> None:
    config = on_gpus(1, 15.0)
    OmegaConf.update(config, key, value)
    check_memory(config)
    assert message in capsys.readouterr().out


def test_a_family_that_the_estimate_does_not_know(
    on_gpus: Callable[..., DictConfig], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    config = on_gpus(1, 15.0)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    check_memory(config)
    assert capsys.readouterr().out == (
        "memory: not checked, model_type=gpt2: memory is estimated for llama, qwen2, qwen3 alone\n"
    )


def test_what_decides_about_memory(config: DictConfig) -> None:
    setting = setting_of(config, 0.0)
    assert (setting.sequence, setting.on_cpu) == (128 + 64, True)
    assert setting.tokens == config.actor_rollout_ref.actor.ppo_max_token_len_per_gpu
    assert (setting.offload, setting.is_teacher, setting.has_reference, setting.is_fused) == ("none", False, True, True)
    actor = config.actor_rollout_ref.actor
    actor.use_dynamic_bsz, actor.ppo_micro_batch_size_per_gpu = False, 4  # sequences, all as long as can be
    assert setting_of(config, 0.0).tokens == 4 * 192


def test_this_machine(tmp_path: Path) -> None:
    meminfo = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    total = int(meminfo["MemTotal"].split()[0]) * 1024
    assert 0 < memory_of_this_machine() <= total
    assert free_disk(tmp_path / "not/there/yet") == pytest.approx(shutil.disk_usage(tmp_path).free, abs=GIB)


def test_memory_of_a_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "CGROUPS", tmp_path)
    monkeypatch.setattr(machine, "OWN_CGROUPS", tmp_path / "own")
    (tmp_path / "own").write_text("0::/job\n")
    (tmp_path / "job").mkdir()
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "job/memory.max").write_text("1048576\n")
    assert memory_of_this_machine() == 2**20
