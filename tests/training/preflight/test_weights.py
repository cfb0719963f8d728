# SPDX-License-Identifier: Apache-2.0
"""A model folder whose weights are missing, damaged or another model's: one line says so before Ray."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig
from transformers import AutoConfig, AutoModelForCausalLM, BertConfig, BertForMaskedLM, GPT2Config, GPT2LMHeadModel

from co_rewarding.training.preflight.check import check_config
from co_rewarding.training.preflight.weights import check_weights, model_folder

MODEL = "actor_rollout_ref.model.path"


@pytest.fixture
def model(config: DictConfig, sample_folder: Path, tmp_path: Path) -> Path:
    """The sample's model, to be spoilt; `config` uses it."""
    shutil.copytree(sample_folder / "model", tmp_path / "model")
    config.actor_rollout_ref.model.path = str(tmp_path / "model")
    return tmp_path / "model"


def edit_config(model: Path, **values: object) -> None:
    file = model / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def in_shards(model: Path) -> list[Path]:
    """The same weights in several files with an index."""
    loaded = AutoModelForCausalLM.from_pretrained(model)
    (model / "model.safetensors").unlink()
    loaded.save_pretrained(model, max_shard_size="500KB")
    shards = sorted(model.glob("model-*.safetensors"))
    assert len(shards) > 2
    return shards


def test_whole_weights_pass(config: DictConfig, model: Path) -> None:
    check_config(config)
    in_shards(model)
    check_config(config)
    for file in model.glob("model*safetensors*"):
        file.unlink()
    (model / "pytorch_model.bin").write_bytes(b"a pickle, which is not opened")
    check_config(config)


def test_no_weights(model: Path, refusal: Callable[..., str]) -> None:
    (model / "model.safetensors").unlink()
    refusal(f"{MODEL}={model}: holds no weights (model.safetensors or pytorch_model.bin)")


@pytest.mark.parametrize("size", [0, 4, 8, 100, -1])
def test_weights_that_are_cut_short(model: Path, refusal: Callable[..., str], size: int) -> None:
    file = model / "model.safetensors"
    file.write_bytes(file.read_bytes()[:size])
    refusal(f"{MODEL}={model}: model.safetensors is damaged or cut short; download")


@pytest.mark.parametrize("header", [b"{", b"[]", b"null", b'{"a": 1}', b'{"a": {"shape": 1, "data_offsets": [0, 0]}}'])
def test_a_header_that_is_none(model: Path, refusal: Callable[..., str], header: bytes) -> None:
    (model / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    refusal("model.safetensors is damaged or cut short")


def test_a_missing_shard(model: Path, refusal: Callable[..., str]) -> None:
    shards = in_shards(model)
    shards[1].unlink()
    refusal(f"{MODEL}={model}: {shards[1].name}, which its index names, is missing")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"weight_map": []}'])
def test_a_damaged_index(model: Path, refusal: Callable[..., str], text: str) -> None:
    in_shards(model)
    (model / "model.safetensors.index.json").write_text(text)
    refusal("model.safetensors.index.json is damaged")


@pytest.mark.parametrize(
    ("key", "value"), [("vocab_size", 300), ("hidden_size", 256), ("num_hidden_layers", 9), ("intermediate_size", 8)]
)
def test_weights_of_another_model(model: Path, refusal: Callable[..., str], key: str, value: int) -> None:
    edit_config(model, **{key: value})
    refusal(f"{MODEL}={model}: its weights do not match its config.json", "num_hidden_layers=")


@pytest.mark.parametrize(
    ("config_class", "model_class"), [(BertConfig, BertForMaskedLM), (GPT2Config, GPT2LMHeadModel)]
)
def test_another_architecture(config_class: type, model_class: type, tmp_path: Path) -> None:
    # verl 0.9.1 goes by the name; of another one it makes a model without an output layer
    model_class(config_class(**{"vocab_size": 10, "hidden_size": 12, "num_hidden_layers": 1})).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=rf"config\.json names the architecture {model_class.__name__}; must be one"):
        check_weights("model", tmp_path, AutoConfig.from_pretrained(tmp_path).to_dict())


def test_no_architecture(model: Path, refusal: Callable[..., str]) -> None:
    edit_config(model, architectures=None)
    refusal("names the architecture none")


def test_a_model_in_the_cache_of_the_hub(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = "0" * 40
    repo = tmp_path / "hub/models--me--mine"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs/main").write_text(commit)
    shutil.copytree(model, repo / "snapshots" / commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    folder = model_folder("me/mine")
    assert folder == repo / "snapshots" / commit
    assert model_folder("me/other") is None
    config = AutoConfig.from_pretrained(model).to_dict()
    check_weights("model", folder, config, may_download=True)
    (folder / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(ValueError, match="damaged or cut short"):
        check_weights("model", folder, config, may_download=True)
    (folder / "model.safetensors").unlink()
    check_weights("model", folder, config, may_download=True)  # not downloaded yet
