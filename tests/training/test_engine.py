# SPDX-License-Identifier: Apache-2.0
"""Self-Certainty and Entropy: verl's FSDP2 engine computes them in the pass of the old log-probabilities.

A random Llama of two layers in one process (gloo), through verl's own engine, micro-batches and padding included,
against a float64 reference: one forward pass a sequence, alone, without padding.
"""

import math
from collections.abc import Iterator
from operator import eq
from pathlib import Path
from typing import Any

import pytest
import torch
from tensordict import TensorDict
from transformers import LlamaConfig, LlamaForCausalLM
from verl.trainer.config import CheckpointConfig
from verl.utils import tensordict_utils as tu
from verl.workers.config import FSDPEngineConfig, HFModelConfig
from verl.workers.engine import EngineRegistry
from verl.workers.utils.padding import response_from_nested

from co_rewarding.algo.methods import METHODS, score_rollouts
from co_rewarding.algo.rollouts import RewardInputs, Rollout
from co_rewarding.algo.token_statistics import response_means
from co_rewarding.cpu.engine import FSDPEngineOnCPU
from co_rewarding.training.engine import REQUEST, TokenStatisticsOnGPU, requesting_token_statistics

LENGTHS = [(3, 5), (2, 9), (6, 1), (4, 4)]  # tokens of prompt and response; two micro-batches of two sequences
VOCABULARY = 61


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model")
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=64,
        initializer_range=0.3,  # far from uniform
    )
    LlamaForCausalLM(config).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def process_group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    rendezvous = tmp_path_factory.mktemp("group") / "file"
    torch.distributed.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def make_engine(model_dir: Path, process_group: None) -> Any:
    def make(dtype: str = "fp32") -> Any:
        model = HFModelConfig(
            path=str(model_dir),
            load_tokenizer=False,
            external_lib="co_rewarding.cpu.engine",
            override_config={"attn_implementation": "sdpa"},
            enable_gradient_checkpointing=False,
        )
        engine_config = FSDPEngineConfig(
            strategy="fsdp2",
            forward_only=True,
            use_torch_compile=False,
            mixed_precision={"param_dtype": dtype, "reduce_dtype": "fp32"},
        )
        made = EngineRegistry.new("language_model", "fsdp2", model, engine_config, None, CheckpointConfig())
        made.initialize()
        return made

    return make


@pytest.fixture(scope="module")
def engine(make_engine: Any) -> Any:
    return make_engine()


def rows() -> list[torch.Tensor]:
    random = torch.Generator().manual_seed(1)
    return [torch.randint(VOCABULARY, (sum(lengths),), generator=random) for lengths in LENGTHS]


def batch(temperature: float, use_remove_padding: bool, **flags: Any) -> TensorDict:
    """What verl's worker hands its engine for the old log-probabilities."""

    def nested(values: list[torch.Tensor]) -> torch.Tensor:
        return torch.nested.as_nested_tensor(values, layout=torch.jagged)

    data = TensorDict(
        {
            "input_ids": nested(rows()),
            "position_ids": nested([torch.arange(len(row)) for row in rows()]),
            "loss_mask": nested([torch.ones(response) for _, response in LENGTHS]),
        },
        batch_size=len(LENGTHS),
    )
    tu.assign_non_tensor(
        data,
        calculate_entropy=True,
        compute_loss=False,
        temperature=temperature,
        use_remove_padding=use_remove_padding,
        use_dynamic_bsz=False,
        micro_batch_size_per_gpu=2,
        use_fused_kernels=False,
        **flags,
    )
    return data


def infer(engine: Any, *args: Any, **flags: Any) -> dict[str, torch.Tensor]:
    with engine.eval_mode():
        return engine.infer_batch(batch(*args, **flags))["model_output"]


def reference(model_dir: Path, temperature: float) -> list[dict[str, torch.Tensor]]:
    """Of each sequence: its log-probabilities and the two statistics, as the formulas have them, in float64."""
    model = LlamaForCausalLM.from_pretrained(model_dir, dtype=torch.float64)
    found = []
    for row in rows():
        with torch.no_grad():
            log_probs = torch.log_softmax(model(row[None]).logits[0] / temperature, dim=-1)
        found.append(
            {
                "log_probs": log_probs[:-1].gather(1, row[1:, None])[:, 0],
                "self_certainty": -(math.log(VOCABULARY) + log_probs).mean(-1),
                "entropy": -(log_probs.exp() * log_probs).sum(-1),
            }
        )
    return found


@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize("use_remove_padding", [False, True])
def test_columns_beside_the_log_probs(
    engine: Any, model_dir: Path, temperature: float, use_remove_padding: bool
) -> None:
    output = infer(engine, temperature, use_remove_padding, **{REQUEST: "self_certainty,entropy"})
    assert set(output) == {"log_probs", "self_certainty", "entropy"}
    for row, expected in enumerate(reference(model_dir, temperature)):
        length = sum(LENGTHS[row])
        for name in ("self_certainty", "entropy"):
            assert output[name].unbind()[row].shape == (length,)
            torch.testing.assert_close(output[name].unbind()[row].double(), expected[name], rtol=1e-4, atol=1e-5)
        # the last position predicts what is not there
        found = output["log_probs"].unbind()[row][: length - 1].double()
        torch.testing.assert_close(found, expected["log_probs"], rtol=1e-4, atol=1e-5)
    spread = torch.cat([expected["self_certainty"] for expected in reference(model_dir, temperature)]).std()
    assert spread > 0.05  # the comparison is not one of constants


@pytest.mark.parametrize("use_remove_padding", [False, True])
def test_same_pass_and_nothing_unless_asked(engine: Any, use_remove_padding: bool) -> None:
    # one forward pass a micro-batch, asked or not; verl's own columns come out the same
    passes = []
    handle = engine.module.register_forward_hook(lambda *_: passes.append(1))
    asked = infer(engine, 1.0, use_remove_padding, **{REQUEST: "self_certainty,entropy"})
    num_asked = len(passes)
    plain = infer(engine, 1.0, use_remove_padding)
    handle.remove()
    assert num_asked == len(passes) - num_asked == 2
    assert set(plain) == {"log_probs", "entropy"}
    assert torch.equal(asked["log_probs"].values(), plain["log_probs"].values())
    torch.testing.assert_close(asked["entropy"].values(), plain["entropy"].values(), rtol=1e-4, atol=1e-5)


def test_bf16_costs_no_precision_beyond_the_logits(make_engine: Any) -> None:
    engine = make_engine("bf16")
    seen = []
    handle = engine.module.register_forward_hook(lambda _module, _args, output: seen.append(output.logits.clone()))
    output = infer(engine, 1.0, True, **{REQUEST: "self_certainty,entropy"})
    handle.remove()
    assert {logits.dtype for logits in seen} == {torch.bfloat16}
    # packed: the sequences one after another, a micro-batch of two at a time
    log_probs = torch.log_softmax(torch.cat([logits[0] for logits in seen]).double(), dim=-1)
    entropy = -(log_probs.exp() * log_probs).sum(-1)
    certainty = -(math.log(VOCABULARY) + log_probs).mean(-1)
    torch.testing.assert_close(output["entropy"].values().double(), entropy, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(output["self_certainty"].values().double(), certainty, rtol=1e-5, atol=1e-5)


def test_reward_of_a_response_is_the_mean_over_its_own_tokens(engine: Any, model_dir: Path) -> None:
    output = infer(engine, 1.0, False, **{REQUEST: "self_certainty,entropy"})
    masks = [torch.ones(response) for _, response in LENGTHS]
    mask = torch.nested.as_nested_tensor(masks, layout=torch.jagged)
    means = {
        name: response_means(response_from_nested(output[name], mask), mask, name)
        for name in ("self_certainty", "entropy")
    }
    rollouts = [Rollout(question="q", view="original", voter="student", answer=None) for _ in LENGTHS]
    certainty = score_rollouts(
        METHODS["self_certainty"], RewardInputs(rollouts, eq, statistics=means["self_certainty"])
    ).rewards
    negative_entropy = score_rollouts(
        METHODS["entropy"], RewardInputs(rollouts, eq, statistics=means["entropy"])
    ).rewards
    for row, ((prompt, response), expected) in enumerate(zip(LENGTHS, reference(model_dir, 1.0), strict=True)):
        # the distribution over response token t is at the position before it: prompt − 1 … prompt + response − 2
        own = slice(prompt - 1, prompt + response - 1)
        assert certainty[row] == pytest.approx(expected["self_certainty"][own].mean().item(), rel=1e-4)
        assert negative_entropy[row] == pytest.approx(-expected["entropy"][own].mean().item(), rel=1e-4)


def test_fused_kernels_are_refused(engine: Any) -> None:
    data = batch(1.0, False, **{REQUEST: "self_certainty,entropy"})
    tu.assign_non_tensor(data, use_fused_kernels=True)
    with pytest.raises(ValueError, match="use_fused_kernels=True: token statistics need the logits"):
        engine.prepare_model_outputs(None, {}, data, None)


def test_asking_ends_with_the_block() -> None:
    extra_info: dict[str, Any] = {"temperature": 1.0}
    with requesting_token_statistics(extra_info, ["entropy"]):
        assert extra_info[REQUEST] == "entropy"
    assert extra_info == {"temperature": 1.0}
    with pytest.raises(RuntimeError), requesting_token_statistics(extra_info, ["entropy"]):
        raise RuntimeError("the pass failed")
    assert extra_info == {"temperature": 1.0}


def test_verl_finds_our_engine_on_every_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    for device, vendor, expected in (
        ("cpu", "cpu", FSDPEngineOnCPU),
        ("cuda", "nvidia", TokenStatisticsOnGPU),
        ("cuda", "amd", TokenStatisticsOnGPU),
    ):
        monkeypatch.setenv("VERL_ENGINE_DEVICE", device)
        monkeypatch.setenv("VERL_ENGINE_VENDOR", vendor)
        assert EngineRegistry.get_engine_cls("language_model", "fsdp2") is expected


def test_rewards_of_rows_that_have_none() -> None:
    student = Rollout(question="q", view="original", voter="student", answer="1")
    teacher = Rollout(question="q", view="original", voter="teacher", answer="1")
    step = RewardInputs([student, student, teacher], eq, statistics=[12.5, None, 3.0])
    assert score_rollouts(METHODS["self_certainty"], step).rewards == (12.5, None, None)
    assert score_rollouts(METHODS["entropy"], step).rewards == (-12.5, None, None)
    assert score_rollouts(METHODS["entropy"], step).row_labels == (None, None, None)
