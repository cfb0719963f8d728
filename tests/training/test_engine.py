# SPDX-License-Identifier: Apache-2.0
"""What verl's FSDP2 engine, as we extend it, makes of the logits (log-probabilities, self-certainty, entropy), and how
it forms micro-batches.

A random Llama of two layers in one process (gloo), through verl's own engine, micro-batches and padding included,
against a float64 reference: one pass a sequence, alone, without padding.
"""

import math
import pickle
from functools import partial
from operator import eq
from pathlib import Path
from typing import Any

import pytest
import torch
from tensordict import TensorDict
from torch.distributed.tensor import DTensor
from transformers import LlamaConfig, LlamaForCausalLM
from verl.trainer.config import CheckpointConfig
from verl.utils import tensordict_utils as tu
from verl.utils.config import omega_conf_to_dataclass
from verl.workers.config import FSDPEngineConfig, FSDPOptimizerConfig, HFModelConfig
from verl.workers.engine import EngineRegistry
from verl.workers.utils.losses import ppo_loss
from verl.workers.utils.padding import response_from_nested

from co_rewarding.algo.methods import METHODS, score_rollouts
from co_rewarding.algo.rollouts import RewardInputs, Rollout
from co_rewarding.algo.token_statistics import response_means
from co_rewarding.cpu.engine import FSDPEngineOnCPU
from co_rewarding.training.engine import (
    REQUEST,
    TokenStatisticsOnGPU,
    requesting_token_statistics,
    rows_at_once,
)
from co_rewarding.training.old_log_probs import SOURCE

LENGTHS = [(3, 5), (2, 9), (6, 1), (4, 4)]  # tokens of prompt and response; two micro-batches of two sequences
VOCABULARY = 61


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("model"))


def save_model(path: Path, tie_word_embeddings: bool = False) -> Path:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=64,
        initializer_range=0.3,  # far from uniform
        tie_word_embeddings=tie_word_embeddings,
    )
    LlamaForCausalLM(config).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def make_engine(model_dir: Path, process_group: None) -> Any:
    def make(
        dtype: str = "fp32", trained: bool = False, path: Path = model_dir, lr: float = 1e-3, **settings: Any
    ) -> Any:
        model = HFModelConfig(
            path=str(path),
            load_tokenizer=False,
            external_lib="co_rewarding.cpu.engine",
            override_config={"attn_implementation": "sdpa"},
            enable_gradient_checkpointing=False,
            **settings,
        )
        engine_config = FSDPEngineConfig(
            strategy="fsdp2",
            forward_only=not trained,
            use_torch_compile=False,
            mixed_precision={"param_dtype": dtype, "reduce_dtype": "fp32"},
        )
        optimizer = FSDPOptimizerConfig(lr=lr, total_training_steps=1) if trained else None
        made = EngineRegistry.new("language_model", "fsdp2", model, engine_config, optimizer, CheckpointConfig())
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
    given: dict[str, Any] = {
        "calculate_entropy": True,
        "compute_loss": False,
        "temperature": temperature,
        "use_remove_padding": use_remove_padding,
        "use_dynamic_bsz": False,
        "micro_batch_size_per_gpu": 2,
        "use_fused_kernels": False,
    }
    tu.assign_non_tensor(data, **{**given, **flags})
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
    certainty = score_rollouts(METHODS["self_certainty"], RewardInputs(rollouts, eq, statistics=means)).rewards
    negative_entropy = score_rollouts(METHODS["entropy"], RewardInputs(rollouts, eq, statistics=means)).rewards
    for row, ((prompt, response), expected) in enumerate(zip(LENGTHS, reference(model_dir, 1.0), strict=True)):
        # the distribution over response token t is at the position before it: prompt − 1 … prompt + response − 2
        own = slice(prompt - 1, prompt + response - 1)
        assert certainty[row] == pytest.approx(expected["self_certainty"][own].mean().item(), rel=1e-4)
        assert negative_entropy[row] == pytest.approx(-expected["entropy"][own].mean().item(), rel=1e-4)


def test_rows_at_once() -> None:
    # 12 rows of at most 10 tokens: 1, 2, 3, 4, 6 or 12 of them are 10, 20, 30, 40, 60 or 120 tokens
    found = {tokens: rows_at_once(12, 10, tokens) for tokens in (9, 10, 39, 40, 59, 60, 119, 120, 8192)}
    assert found == {9: 1, 10: 1, 39: 3, 40: 4, 59: 4, 60: 6, 119: 6, 120: 12, 8192: 12}
    assert rows_at_once(7, 10, 60) == 1  # all at once or one by one


# sequences of 8, 11, 7 and 8 tokens, each way to put them into micro-batches → (rows, tokens a row) of each
WAYS = {
    "padded, one by one": (False, {"micro_batch_size_per_gpu": 1}, [(1, 8), (1, 11), (1, 7), (1, 8)]),
    "padded, as they come": (False, {"micro_batch_size_per_gpu": 2}, [(2, 11), (2, 8)]),
    "padded, by length": (False, {"max_token_len_per_gpu": 22}, [(2, 8), (2, 11)]),
    "padded, all": (False, {"max_token_len_per_gpu": 44}, [(4, 11)]),
    # verl balances the work: 34 tokens in two micro-batches of 15 to 19
    "packed": (True, {"max_token_len_per_gpu": 20}, None),
    "packed, all": (True, {"max_token_len_per_gpu": 34}, [(1, 34)]),
}
WAY = "padded, as they come"


@pytest.fixture(scope="module")
def trained_engine(make_engine: Any) -> Any:
    return make_engine(trained=True)


@pytest.mark.parametrize("way", WAYS)
def test_order_of_rows_survives_micro_batches(trained_engine: Any, model_dir: Path, way: str) -> None:
    packed, sizes, expected_shapes = WAYS[way]
    shapes = []
    handle = trained_engine.module.register_forward_pre_hook(
        lambda _module, _args, inputs: shapes.append(tuple(inputs["input_ids"].shape)), with_kwargs=True
    )
    output = infer(trained_engine, 1.0, packed, use_dynamic_bsz="max_token_len_per_gpu" in sizes, **sizes)
    handle.remove()
    if expected_shapes is not None:
        assert shapes == expected_shapes
    else:
        assert sorted(tokens for _, tokens in shapes) in ([15, 19], [16, 18])
    for row, expected in enumerate(reference(model_dir, 1.0)):
        found = output["log_probs"].unbind()[row][:-1].double()
        torch.testing.assert_close(found, expected["log_probs"], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(output["entropy"].unbind()[row].double(), expected["entropy"], rtol=1e-4, atol=1e-5)


ADVANTAGES = [1.5, -0.5, -1.0, 0.25]


def policy_batch(**flags: Any) -> TensorDict:
    """What verl's worker hands its engine for an update; old and reference policy are a little off."""
    data = batch(1.0, False, calculate_entropy=False, dp_size=1, global_batch_size=len(LENGTHS))
    tu.assign_non_tensor(data, **flags)
    random = torch.Generator().manual_seed(2)

    def response(make: Any) -> torch.Tensor:
        rows_T = [make(row, length) for row, (_, length) in enumerate(LENGTHS)]
        return torch.nested.as_nested_tensor(rows_T, layout=torch.jagged)

    for key in ("old_log_probs", "ref_log_prob"):
        data[key] = response(lambda _, length: -4 + torch.randn(length, generator=random))
    data["advantages"] = response(lambda row, length: torch.full((length,), ADVANTAGES[row]))
    data["response_mask"] = response(lambda _, length: torch.ones(length))
    data["responses"] = response(lambda row, length: rows()[row][-length:])
    data["prompts"] = torch.nested.as_nested_tensor(
        [rows()[row][:prompt] for row, (prompt, _) in enumerate(LENGTHS)], layout=torch.jagged
    )
    return data


def policy_reference(path: Path, own_old: bool = False) -> dict[str, torch.Tensor]:
    """Gradient of Eq. 4's loss by parameter, in float64, a sequence at a time: mean over the sequences of the mean over
    their tokens of −min(ρ A, clip(ρ) A) + β k3. With `own_old` at θ = θ_old: ρ = 1, whose gradient is that of log π."""
    model = LlamaForCausalLM.from_pretrained(path, dtype=torch.float64)
    data = policy_batch()
    losses = []
    for row, (prompt, length) in enumerate(LENGTHS):
        logits = model(rows()[row][None]).logits[0]
        tokens = rows()[row][prompt:]
        log_probs = torch.log_softmax(logits[prompt - 1 : prompt + length - 1], dim=-1).gather(1, tokens[:, None])[:, 0]
        old, ref = (data[key].unbind()[row].double() for key in ("old_log_probs", "ref_log_prob"))
        ratio, advantage = torch.exp(log_probs - old), ADVANTAGES[row]
        gain = torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage)
        if advantage < 0:  # verl's dual clip, at 3
            gain = torch.maximum(gain, torch.full_like(gain, 3 * advantage))
        if own_old:
            gain = advantage * log_probs
        k3 = torch.exp(ref - log_probs) - (ref - log_probs) - 1
        losses.append((-gain + 0.005 * k3.clamp(-10, 10)).mean())
    torch.stack(losses).mean().backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def update(
    engine: Any, composed_sample: bytes, data: TensorDict, **actor_settings: Any
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Gradient by parameter and metrics of an update, without the step that follows."""
    actor = pickle.loads(composed_sample).actor_rollout_ref.actor
    actor.kl_loss_coef = 0.005
    actor.merge_with(actor_settings)
    with engine.train_mode():
        engine.optimizer_zero_grad()
        output = engine.forward_backward_batch(data, partial(ppo_loss, omega_conf_to_dataclass(actor)))
        found = {name: parameter.grad for name, parameter in engine.module.named_parameters()}
        return {
            name: (gradient.full_tensor() if isinstance(gradient, DTensor) else gradient).double()
            for name, gradient in found.items()
        }, output["metrics"]


def check_gradient(engine: Any, expected: dict[str, torch.Tensor], composed_sample: bytes, **flags: Any) -> None:
    found, _ = update(engine, composed_sample, policy_batch(**flags))
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-3, atol=1e-5)
    assert max(gradient.abs().max() for gradient in expected.values()) > 0.1  # the comparison is not one of zeros


@pytest.mark.parametrize("way", WAYS)
def test_gradient_does_not_depend_on_micro_batches(
    trained_engine: Any, model_dir: Path, composed_sample: bytes, way: str
) -> None:
    packed, sizes, _ = WAYS[way]
    by_tokens = "max_token_len_per_gpu" in sizes
    expected = policy_reference(model_dir)
    check_gradient(
        trained_engine, expected, composed_sample, use_remove_padding=packed, use_dynamic_bsz=by_tokens, **sizes
    )


def own(way: str) -> dict[str, Any]:
    packed, sizes, _ = WAYS[way]
    by_tokens = "max_token_len_per_gpu" in sizes
    return {"use_remove_padding": packed, "use_dynamic_bsz": by_tokens, SOURCE: "this_update", **sizes}


@pytest.mark.parametrize("way", WAYS)
def test_an_update_with_its_own_old_log_probs(
    trained_engine: Any, model_dir: Path, composed_sample: bytes, way: str
) -> None:
    """Loss, gradient and what is kept for the metrics, with no pass of its own; verl's loss does the rest."""
    passes = []
    handle = trained_engine.module.register_forward_hook(lambda *_: passes.append(1))
    data = policy_batch(**own(way))
    del data["old_log_probs"]  # they are not in the queue
    found, metrics = update(trained_engine, composed_sample, data)
    num_micro_batches = len(passes)
    kept = infer(trained_engine, 1.0, **own(way) | {SOURCE: "last_update"})
    handle.remove()
    assert len(passes) == num_micro_batches
    expected = policy_reference(model_dir, own_old=True)
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-3, atol=1e-5)
    # Σ over sequences of −A / 4 with ρ = 1: −(1.5 − 0.5 − 1 + 0.25) / 4; nothing is clipped, the policy has not moved
    assert sum(metrics["actor/pg_loss"].values) == pytest.approx(-0.0625)
    assert not any(metrics["actor/ppo_kl"].values)
    assert "actor/entropy_loss" not in metrics, "the entropy is there to be logged, not for the loss"
    for row, of_row in enumerate(reference(model_dir, 1.0)):
        torch.testing.assert_close(
            kept["log_probs"].unbind()[row][:-1].double(), of_row["log_probs"], rtol=1e-4, atol=1e-5
        )
        torch.testing.assert_close(kept["entropy"].unbind()[row].double(), of_row["entropy"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("settings", [{}, {"entropy_coeff": 0.01, "loss_agg_mode": "token-mean"}])
def test_own_old_log_probs_are_those_of_a_pass(trained_engine: Any, composed_sample: bytes, settings: dict) -> None:
    """verl's two passes and our one: the same gradient and the same metrics."""
    flags = {"calculate_entropy": "entropy_coeff" in settings}
    data = policy_batch(**flags)
    before = infer(trained_engine, 1.0, False)["log_probs"]
    data["old_log_probs"] = response_from_nested(before, data["response_mask"])
    theirs, metrics = update(trained_engine, composed_sample, data, **settings)
    ours, own_metrics = update(trained_engine, composed_sample, policy_batch(**flags, **own(WAY)), **settings)
    for name, gradient in ours.items():
        torch.testing.assert_close(gradient, theirs[name], rtol=1e-5, atol=1e-7)
    assert own_metrics.keys() == metrics.keys()
    for name in metrics.keys() - {"kl_coef"}:
        torch.testing.assert_close(own_metrics[name].values, metrics[name].values, rtol=1e-5, atol=1e-6)


def test_what_an_update_kept_is_of_its_rows_and_given_once(trained_engine: Any, composed_sample: bytes) -> None:
    update(trained_engine, composed_sample, policy_batch(**own(WAY)))
    infer(trained_engine, 1.0, **own(WAY) | {SOURCE: "last_update"})
    with pytest.raises(RuntimeError, match="old_log_probs=always"):
        infer(trained_engine, 1.0, **own(WAY) | {SOURCE: "last_update"})
    update(trained_engine, composed_sample, policy_batch(**own(WAY)))
    other = batch(1.0, **own(WAY) | {SOURCE: "last_update"})
    other["input_ids"] = torch.nested.as_nested_tensor([row + 1 for row in rows()], layout=torch.jagged)
    with trained_engine.eval_mode(), pytest.raises(RuntimeError, match="not those of the last update"):
        trained_engine.infer_batch(other)


def test_fused_kernels(
    make_engine: Any, tmp_path: Path, composed_sample: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    # verl's own, where no statistic needs the logits; it needs tied embeddings (preflight.check_model)
    path = save_model(tmp_path, tie_word_embeddings=True)
    expected_log_probs, expected_gradient = reference(path, 0.6), policy_reference(path)
    own_gradient, own_columns = policy_reference(path, own_old=True), reference(path, 1.0)
    monkeypatch.setattr(LlamaForCausalLM, "forward", LlamaForCausalLM.forward)  # verl replaces it: undone at the end
    engine = make_engine(
        trained=True, path=path, use_fused_kernels=True, fused_kernel_options={"impl_backend": "torch"}
    )
    output = infer(engine, 0.6, True, use_fused_kernels=True)
    for row, expected in enumerate(expected_log_probs):
        found = output["log_probs"].unbind()[row][:-1].double()
        torch.testing.assert_close(found, expected["log_probs"], rtol=1e-4, atol=1e-5)
    check_gradient(engine, expected_gradient, composed_sample, use_fused_kernels=True, use_remove_padding=True)
    flags = own("packed, all") | {"use_fused_kernels": True}
    found, _ = update(engine, composed_sample, policy_batch(**flags))
    for name, gradient in own_gradient.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=1e-5)
    kept = infer(engine, 1.0, **flags | {SOURCE: "last_update"})
    for row, expected in enumerate(own_columns):
        torch.testing.assert_close(kept["entropy"].unbind()[row].double(), expected["entropy"], rtol=1e-4, atol=1e-5)


def test_fused_kernels_are_refused(engine: Any) -> None:
    data = batch(1.0, False, **{REQUEST: "self_certainty,entropy"})
    tu.assign_non_tensor(data, use_fused_kernels=True)
    with pytest.raises(ValueError, match="use_fused_kernels=True: token statistics need the logits"):
        engine.prepare_model_outputs(None, {}, data, None)


@pytest.mark.parametrize("lr", [1e-3, 5e-4])
def test_a_resumed_run_has_the_learning_rate_that_it_is_given(make_engine: Any, tmp_path: Path, lr: float) -> None:
    """verl restores the one that the checkpoint was saved with."""
    engine = make_engine(trained=True)
    engine.lr_scheduler_step()
    engine.save_checkpoint(str(tmp_path), None, 1)
    resumed = make_engine(trained=True, lr=lr)
    resumed.load_checkpoint(str(tmp_path), None, False)  # as verl's worker calls it
    assert [group["lr"] for group in resumed.optimizer.param_groups] == [lr]
    assert resumed.lr_scheduler.last_epoch == 1
    assert resumed.lr_scheduler_step() == lr


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
    step = RewardInputs(
        [student, student, teacher], eq, statistics={name: [12.5, None, 3.0] for name in ("self_certainty", "entropy")}
    )
    assert score_rollouts(METHODS["self_certainty"], step).rewards == (12.5, None, None)
    assert score_rollouts(METHODS["entropy"], step).rewards == (-12.5, None, None)
    assert score_rollouts(METHODS["entropy"], step).row_labels == (None, None, None)
