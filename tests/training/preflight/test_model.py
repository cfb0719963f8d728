# SPDX-License-Identifier: Apache-2.0
"""A model that is not there or does not fit: path, tokenizer, chat template, positions, platform. One line says so."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from co_rewarding.tools.quickstart.tiny_model import CHAT_TEMPLATE, build_tokenizer
from co_rewarding.training.asking import settle
from co_rewarding.training.preflight.check import check_config
from co_rewarding.training.preflight.prompts import PLAIN

MODEL = "actor_rollout_ref.model.path"


@pytest.mark.parametrize("path", ["/nowhere/model", "./nowhere", "~/nowhere/model", "a/b/c", "nowhere"])
def test_a_model_that_is_not_there(refused_after: Callable[..., str], path: str) -> None:
    refused_after(MODEL, path, "no such directory", "MODEL_PATH")


@pytest.mark.parametrize("value", [None, "", 7])
def test_a_model_path_that_is_no_path(refused_after: Callable[..., str], value: Any) -> None:
    refused_after(MODEL, value)


def test_a_folder_without_a_model(refused_after: Callable[..., str], tmp_path: Path) -> None:
    refused_after(MODEL, str(tmp_path), "not a loadable model")


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("text", ["{ not json", "[]", '{"model": 5}', '{"hidden_size": "x"}'])
def test_a_model_with_a_broken_file(
    config: DictConfig, refused_after: Callable[..., str], sample_folder: Path, tmp_path: Path, file: str, text: str
) -> None:
    for part in (sample_folder / "model").iterdir():
        (tmp_path / part.name).write_bytes(part.read_bytes())
    (tmp_path / file).write_text(text)
    if file == "tokenizer_config.json" and text.startswith('{"'):
        config.actor_rollout_ref.model.path = str(tmp_path)
        return check_config(config)  # what it says of others' keys is nobody's
    refused_after(MODEL, str(tmp_path), "not a loadable model")


@pytest.fixture
def with_template(sample_folder: Path, tmp_path: Path) -> Callable[[str | None], str]:
    """The good model with another chat template; returns its path."""

    def save(template: str | None) -> str:
        tokenizer = build_tokenizer()
        tokenizer.chat_template = template
        tokenizer.save_pretrained(tmp_path / "other")
        for part in ("config.json", "model.safetensors"):
            (tmp_path / "other" / part).write_bytes((sample_folder / "model" / part).read_bytes())
        return str(tmp_path / "other")

    return save


WITHOUT_SYSTEM = (
    "{% for m in messages %}{% if m['role'] == 'user' %}<|user|>{{ m['content'] }}{% endif %}{% endfor %}<|assistant|>"
)


REFUSES_SYSTEM = (  # as Gemma's does
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
) + CHAT_TEMPLATE


@pytest.mark.parametrize("template", [WITHOUT_SYSTEM, REFUSES_SYSTEM])
def test_a_template_without_a_place_for_the_system_message(
    config: DictConfig, with_template: Callable[[str | None], str], capsys: pytest.CaptureFixture[str], template: str
) -> None:
    config.actor_rollout_ref.model.path = with_template(template)
    check_config(config)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "system message" in line]
    assert "takes no system message: it is put before the user's" in line


def test_a_template_that_loses_the_merged_message_too(
    refused_after: Callable[..., str], with_template: Callable[[str | None], str]
) -> None:
    # the last paragraph alone: of the merged message, the question without what was said before it
    template = WITHOUT_SYSTEM.replace("m['content']", "m['content'].split('\\n\\n')[-1]")
    message = refused_after(MODEL, with_template(template), "chat template leaves out the system message")
    assert "Let's think step by step" in message and "CHAT_TEMPLATE" in message


def test_a_model_without_a_template(
    refusal: Callable[..., str], with_template: Callable[[str | None], str], config: DictConfig, repo: Path
) -> None:
    config.actor_rollout_ref.model.path = with_template(None)
    refusal("co_rewarding.chat_template=None: ", "no chat template", "CHAT_TEMPLATE in the run script", PLAIN)
    config.co_rewarding.chat_template = str(repo / PLAIN)  # what it advises works
    settle(config)
    config.data.max_prompt_length = 512  # the toy's tokens are characters
    check_config(config)


def test_a_template_of_ones_own(
    config: DictConfig, with_template: Callable[[str | None], str], refusal: Callable[..., str], tmp_path: Path
) -> None:
    file = tmp_path / "own.jinja"
    config.co_rewarding.chat_template = str(file)
    file.write_text(CHAT_TEMPLATE)
    settle(config)
    for template in (None, WITHOUT_SYSTEM):
        config.actor_rollout_ref.model.path = with_template(template)
        check_config(config)
    config.actor_rollout_ref.model.custom_chat_template = "{% for m in messages %}"
    refusal(f"co_rewarding.chat_template={file}: this chat template rejects the messages", "TemplateSyntaxError")


def test_thinking_is_switched_where_the_template_reads_the_switch(
    config: DictConfig, with_template: Callable[[str | None], str], refusal: Callable[..., str]
) -> None:
    config.co_rewarding.enable_thinking = False
    settle(config)
    refusal("co_rewarding.enable_thinking=False: the chat template of", "does not read enable_thinking")
    # as Qwen3's
    switch = "{% if enable_thinking is defined and enable_thinking is false %}{{ ' ' }}{% endif %}"
    config.actor_rollout_ref.model.path = with_template(CHAT_TEMPLATE + switch)
    check_config(config)


def test_more_tokens_than_the_model_has_positions(config: DictConfig, refusal: Callable[..., str]) -> None:
    # 1024 positions; 961 + 64 is one more
    config.data.max_prompt_length = 961
    refusal("data.max_prompt_length=961", "data.max_response_length=64", "1024 positions")
    config.data.max_prompt_length = 960
    check_config(config)


@pytest.mark.parametrize("key", ["data.max_prompt_length", "data.max_response_length"])
@pytest.mark.parametrize("value", [0, -1, "many", None])
def test_no_number_of_tokens(refused_after: Callable[..., str], key: str, value: Any) -> None:
    refused_after(key, value)


def test_attention(refused_after: Callable[..., str], config: DictConfig) -> None:
    key = "actor_rollout_ref.model.override_config.attn_implementation"
    for packed in (True, False):  # packed sequences go with each
        config.actor_rollout_ref.model.use_remove_padding = packed
        for attention in ("eager", "sdpa"):
            OmegaConf.update(config, key, attention)
            check_config(config)
    refused_after(key, "flash_attention_2", "flash-attn is not installed", "ATTENTION")
    refused_after(key, "flex_attention", "no backward pass on a CPU", "ATTENTION")
    refused_after(key, "xformers", "must be one of sdpa, flex_attention, flash_attention_2, eager", "ATTENTION")
    refused_after(key, None, "must be one of", "ATTENTION")


@pytest.mark.parametrize("block", ["actor", "ref"])
@pytest.mark.parametrize("place", ["", "fsdp_config."])
def test_a_sequence_split_over_gpus_needs_flash_attention(
    refused_after: Callable[..., str], block: str, place: str
) -> None:
    # verl gives each GPU its part of a sequence, and only flash attention the way to see the others' parts
    refused_after(
        f"actor_rollout_ref.{block}.{place}ulysses_sequence_parallel_size", 2, "flash_attention_2 alone", "sdpa"
    )


def test_fused_kernels(
    config: DictConfig, refused_after: Callable[..., str], sample_folder: Path, tmp_path: Path
) -> None:
    key = "actor_rollout_ref.model.use_fused_kernels"
    refused_after(key, True, "has an output layer of its own")
    for part in (sample_folder / "model").iterdir():
        (tmp_path / part.name).write_bytes(part.read_bytes())
    tied = json.loads((tmp_path / "config.json").read_text()) | {"tie_word_embeddings": True}
    (tmp_path / "config.json").write_text(json.dumps(tied))
    config.actor_rollout_ref.model.path = str(tmp_path)
    check_config(config)
    config.co_rewarding.method = "entropy"
    refused_after(key, True, "entropy needs the logits")
