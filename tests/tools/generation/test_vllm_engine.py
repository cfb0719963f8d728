# SPDX-License-Identifier: Apache-2.0
"""What is known of a model before vLLM loads it: its tokenizer, its context, the GPUs it can be split over."""

from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig

from co_rewarding.tools.generation.engine import EngineDown, EngineError, LocalOptions, Request, Sampling
from co_rewarding.tools.generation.vllm_engine import (
    VLLMEngine,
    _visible_gpus,
    context_length,
    load_config,
    load_tokenizer,
    prompt_ids,
    prompt_text,
)
from co_rewarding.tools.quickstart.tiny_model import build_tokenizer


def test_a_model_that_cannot_be_used_is_reported_in_one_line(tmp_path: Path) -> None:
    nowhere = str(tmp_path / "none" / "at" / "all")
    with pytest.raises(EngineError, match=r"^model \S+: cannot be loaded \(.*\); name a model folder") as error:
        load_config(nowhere)
    assert "\n" not in str(error.value)
    with pytest.raises(EngineError, match=r"^tokenizer \S+: cannot be loaded \(.*\); name a model folder"):
        load_tokenizer(nowhere)
    with pytest.raises(EngineError, match=r"^model \S+: no such folder; "):  # its folder is here: the hub is not asked
        load_config(str(tmp_path / "tiny"))
    tokenizer = build_tokenizer()
    tokenizer.chat_template = None
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(EngineError, match=r"^tokenizer \S+: has no chat template; .*: --chat_template FILE "):
        load_tokenizer(str(tmp_path))


def test_a_folder_in_which_vllm_finds_no_weights(tmp_path: Path) -> None:
    (tmp_path / "a[b]").mkdir()
    with pytest.raises(EngineError, match=r"^model \S+: vLLM finds no weights in a path with one of \[ \* \?; rename"):
        VLLMEngine(str(tmp_path / "a[b]"), LocalOptions(), lambda _: 1)


def test_the_prompt_opens_the_assistants_turn(tmp_path: Path) -> None:
    build_tokenizer().save_pretrained(tmp_path)
    tokenizer = load_tokenizer(str(tmp_path))
    messages = [{"role": "user", "content": "2 + 3?"}]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    ids = prompt_ids(tokenizer, messages, enable_thinking=False)
    assert tokenizer.decode(ids) == text and "2 + 3?" in text


def test_a_template_of_ones_own_and_a_system_message_that_it_refuses(tmp_path: Path) -> None:
    tokenizer, template = build_tokenizer(), tmp_path / "own.jinja"
    tokenizer.chat_template = None
    tokenizer.save_pretrained(tmp_path)
    template.write_text(
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
        "[{{ m.content }}]{% endfor %}{% if add_generation_prompt %}{{ enable_thinking }}{% endif %}"
    )
    loaded = load_tokenizer(str(tmp_path), template)
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2 + 3?"}]
    assert prompt_text(loaded, messages, enable_thinking=False) == "[Be brief.\n\n2 + 3?]False"
    assert prompt_text(loaded, messages[1:], enable_thinking=True) == "[2 + 3?]True"
    for wrong in (tmp_path, tmp_path / "none.jinja"):
        with pytest.raises(ValueError, match="no such file"):
            LocalOptions(chat_template=wrong)


@pytest.mark.parametrize(("heads", "visible", "used"), [(14, 8, 7), (32, 8, 8), (3, 2, 1), (8, 0, 1)])
def test_gpus_divide_the_heads(monkeypatch, heads: int, visible: int, used: int) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: visible)
    assert _visible_gpus(LlamaConfig(num_attention_heads=heads, hidden_size=heads * 8)) == used


def test_context_length() -> None:
    assert context_length(LlamaConfig(max_position_embeddings=777)) == 777


class Dying:
    """vLLM's engine, which takes a request and dies."""

    def __init__(self, error: Exception) -> None:
        self.error, self.asked = error, 0

    def add_request(self, *_) -> None:
        self.asked += 1
        if self.asked > 1:
            raise self.error

    def has_unfinished_requests(self) -> bool:
        return True

    def step(self) -> list:
        raise self.error


@pytest.mark.parametrize("of_vllm", [False, True])
def test_an_engine_that_dies_is_down(of_vllm: bool) -> None:
    error: Exception = RuntimeError("out of\nmemory")
    if of_vllm:
        error = pytest.importorskip("vllm.v1.engine.exceptions").EngineDeadError()
    engine = VLLMEngine.__new__(VLLMEngine)
    engine._tokenizer, engine._vllm, engine._refused = build_tokenizer(), Dying(error), []
    engine._max_len, engine._under_way, engine._count, engine._on_cpu = 4096, {}, 0, True
    request = Request((0,), [{"role": "user", "content": "2 + 3?"}], Sampling())
    engine.submit(request)
    message = "^vLLM stopped: " + ("EngineCore encountered" if of_vllm else "out of memory$")
    with pytest.raises(EngineDown, match=message):
        engine.collect()
    with pytest.raises(EngineDown, match=message):
        engine.submit(request)
