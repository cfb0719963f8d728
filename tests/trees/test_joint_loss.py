# SPDX-License-Identifier: Apache-2.0
"""How the loss that verl minimises over a batch of both views relates to the paper's J(original) + J(rephrased).

Everything is computed by verl's own functions, in float64, and compared with a reference written here from the paper:

    J(view) = mean over the view's sequences of mean over tokens of  min(ρ A, clip(ρ, 1 - ε, 1 + ε) A) - β k3    (Eq. 4)
    ρ = π / π_old,   k3 = π_ref / π - log(π_ref / π) - 1    (low_var_kl)

These are the claims of the docstring of `co_rewarding_i.trainer`. Axes: N sequences, T response tokens.
"""

import math
import pickle
import uuid
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from tensordict import TensorDict
from verl.trainer.ppo.core_algos import compute_grpo_outcome_advantage
from verl.utils import tensordict_utils as tu
from verl.utils.config import omega_conf_to_dataclass
from verl.workers.utils.losses import ppo_loss

CLIP, KL_COEF = 0.2, 0.005  # Table 5
# 2 questions, 3 rollouts each; responses to the rephrased questions are longer: 12 and 33 tokens in all
LENGTHS = {"original": [1, 2, 3, 1, 2, 3], "rephrased": [4, 5, 6, 7, 5, 6]}
NUM_TOKENS = {"original": 12, "rephrased": 33}
REWARDS = {"original": [1, 0, 0, 1, 1, 0], "rephrased": [0, 0, 1, 1, 1, 1]}


@pytest.fixture(scope="module")
def actor_config(composed_sample: bytes) -> dict[str, Any]:
    """The actor's configuration as our composed YAML makes it, for each way to average its loss."""
    actor = pickle.loads(composed_sample).actor_rollout_ref.actor
    paper = {"ppo_micro_batch_size_per_gpu": 2, "kl_loss_coef": KL_COEF, "clip_ratio": CLIP}
    return {
        mode: omega_conf_to_dataclass(OmegaConf.merge(actor, paper, {"loss_agg_mode": mode}))
        for mode in ("seq-mean-token-mean", "token-mean")
    }


class Rows:
    """Sequences of a policy with a few weights; the same rows whichever way they are batched."""

    def __init__(self) -> None:
        random = torch.Generator().manual_seed(0)

        def normal(*shape: int) -> torch.Tensor:
            return torch.randn(*shape, generator=random, dtype=torch.float64)

        self.views = [view for view in LENGTHS for _ in LENGTHS[view]]
        self.lengths = [length for view in LENGTHS for length in LENGTHS[view]]
        self.weights = normal(3, 5).requires_grad_()
        self.features = [normal(length, 3) for length in self.lengths]
        self.tokens = [torch.randint(5, (length,), generator=random) for length in self.lengths]
        # old and reference policy differ from the current one, so that some ratios ρ are clipped; none comes near 3,
        # where verl's dual clip, which the paper has not, would act
        self.old = [(logp + 0.2 * normal(len(logp))).detach() for logp in self.log_probs()]
        self.ref = [(logp + 0.3 * normal(len(logp))).detach() for logp in self.log_probs()]
        self.advantages = [advantage for view in LENGTHS for advantage in reference_advantages(REWARDS[view])]

    def log_probs(self) -> list[torch.Tensor]:
        return [
            torch.log_softmax(features @ self.weights, -1).gather(1, tokens[:, None])[:, 0]
            for features, tokens in zip(self.features, self.tokens, strict=True)
        ]

    def of(self, view: str) -> list[int]:
        return [n for n, name in enumerate(self.views) if name == view]

    def verl_loss(self, configs: dict[str, Any], rows: Sequence[int], mode: str, **normalizers: int) -> torch.Tensor:
        """verl's actor loss of one micro-batch; `normalizers` are what its engine hands over with the batch."""
        log_probs = self.log_probs()
        jagged = {
            # a prompt of one token; verl takes the log-probability of token t from the position before it
            "prompts": [torch.zeros(1) for _ in rows],
            "responses": [torch.zeros(self.lengths[n]) for n in rows],
            "response_mask": [torch.ones(self.lengths[n]) for n in rows],
            "old_log_probs": [self.old[n] for n in rows],
            "ref_log_prob": [self.ref[n] for n in rows],
            "advantages": [torch.full((self.lengths[n],), self.advantages[n], dtype=torch.float64) for n in rows],
        }
        data = TensorDict({key: nested(value) for key, value in jagged.items()}, batch_size=len(rows))
        tu.assign_non_tensor(data, **{"dp_size": 1, "batch_num_tokens": None, "global_batch_size": None, **normalizers})
        outputs = {"log_probs": nested([torch.cat([log_probs[n], torch.zeros(1, dtype=torch.float64)]) for n in rows])}
        return ppo_loss(configs[mode], outputs, data)[0]

    def objective(self, view: str, token_mean: bool = False) -> torch.Tensor:
        """J(view) of Eq. 4, or its variant with one mean over all tokens of the view."""
        log_probs = self.log_probs()
        sequences = []
        for n in self.of(view):
            tokens = []
            for logp, old, ref in zip(log_probs[n], self.old[n], self.ref[n], strict=True):
                ratio = torch.exp(logp - old)
                clipped = torch.clamp(ratio, 1 - CLIP, 1 + CLIP)
                gain = torch.minimum(ratio * self.advantages[n], clipped * self.advantages[n])
                tokens.append(gain - KL_COEF * (torch.exp(ref - logp) - (ref - logp) - 1))
            sequences.append(torch.stack(tokens))
        if token_mean:
            return torch.cat(sequences).mean()
        return torch.stack([tokens.mean() for tokens in sequences]).mean()

    def gradient(self, loss: torch.Tensor) -> torch.Tensor:
        return torch.autograd.grad(loss, self.weights, retain_graph=True)[0]


def nested(rows: Sequence[torch.Tensor]) -> torch.Tensor:
    return torch.nested.as_nested_tensor(list(rows), layout=torch.jagged)


def reference_advantages(rewards: Sequence[float], group: int = 3) -> list[float]:
    """(reward - group mean) / group std (n - 1 in the denominator), 0 in a group of equal rewards."""
    advantages = []
    for start in range(0, len(rewards), group):
        rewards_G = rewards[start : start + group]
        mean = sum(rewards_G) / group
        std = math.sqrt(sum((reward - mean) ** 2 for reward in rewards_G) / (group - 1))
        advantages += [(reward - mean) / std if std else 0.0 for reward in rewards_G]
    return advantages


@pytest.fixture(scope="module")
def rows() -> Rows:
    made = Rows()
    ratios = [torch.exp(logp - old) for logp, old in zip(made.log_probs(), made.old, strict=True)]
    assert any((abs(ratio - 1) > CLIP).any() for ratio in ratios)  # the clip acts in the data …
    assert max(ratio.max() for ratio in ratios) < 3  # … and the dual clip does not
    assert {view: sum(lengths) for view, lengths in LENGTHS.items()} == NUM_TOKENS
    return made


def assert_same(found: torch.Tensor, expected: torch.Tensor) -> None:
    # verl adds 1e-8 to each token count (at least 1 here): a relative error of at most 1e-8 in a sequence's mean
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)


def test_seq_mean_token_mean_is_half_the_papers_objective(actor_config: dict[str, Any], rows: Rows) -> None:
    # as many sequences in each view (6): mean over 12 = ½ (mean over 6 + mean over 6)
    joint = rows.verl_loss(actor_config, range(12), "seq-mean-token-mean", global_batch_size=12)
    expected = -(rows.objective("original") + rows.objective("rephrased")) / 2
    assert_same(joint, expected)
    gradient = rows.gradient(joint)
    assert_same(gradient, rows.gradient(expected))
    assert gradient.abs().max() > 1e-2  # the comparison is not one of zeros


def test_verls_loss_of_one_view_is_the_papers_objective_of_it(actor_config: dict[str, Any], rows: Rows) -> None:
    for view in LENGTHS:
        loss = rows.verl_loss(actor_config, rows.of(view), "seq-mean-token-mean", global_batch_size=6)
        assert_same(loss, -rows.objective(view))
        assert_same(rows.gradient(loss), -rows.gradient(rows.objective(view)))


def test_order_of_rows_and_micro_batches_do_not_matter(actor_config: dict[str, Any], rows: Rows) -> None:
    # verl's load balancing mixes the views; its engine adds the losses of micro-batches, each divided by the same
    # number of sequences (seq-mean) or tokens (token-mean)
    mixed = [n for pair in zip(range(6), range(6, 12), strict=True) for n in pair]
    for mode, normalizer in (
        ("seq-mean-token-mean", {"global_batch_size": 12}),
        ("token-mean", {"batch_num_tokens": 45}),
    ):
        whole = rows.verl_loss(actor_config, range(12), mode, **normalizer)
        parts = [rows.verl_loss(actor_config, mixed[i : i + 4], mode, **normalizer) for i in (0, 4, 8)]
        assert_same(sum(parts), whole)
        assert_same(sum(rows.gradient(part) for part in parts), rows.gradient(whole))


def test_two_data_parallel_ranks_average_to_the_same(actor_config: dict[str, Any], rows: Rows) -> None:
    # FSDP averages gradients over ranks; each rank multiplies its share by the number of ranks
    whole = rows.verl_loss(actor_config, range(12), "seq-mean-token-mean", global_batch_size=12)
    normalizers = {"global_batch_size": 12, "dp_size": 2}
    ranks = [
        rows.verl_loss(actor_config, share, "seq-mean-token-mean", **normalizers) for share in (range(7), range(7, 12))
    ]
    assert_same(sum(ranks) / 2, whole)


def test_token_mean_weighs_each_view_by_its_tokens(actor_config: dict[str, Any], rows: Rows) -> None:
    joint = rows.verl_loss(actor_config, range(12), "token-mean", batch_num_tokens=45)
    original, rephrased = (rows.objective(view, token_mean=True) for view in ("original", "rephrased"))
    expected = -(12 * original + 33 * rephrased) / 45
    assert_same(joint, expected)
    assert_same(rows.gradient(joint), rows.gradient(expected))
    # and is therefore not half the sum: the rephrased view counts 33 / 12 times as much
    assert not torch.allclose(rows.gradient(joint), -rows.gradient(original + rephrased) / 2, rtol=1e-2)


def adamw_steps(gradients: Sequence[torch.Tensor], lr: float = 3e-6) -> torch.Tensor:
    """Movement of parameters at 0 under AdamW with Table 5's settings, no weight decay."""
    parameter = torch.nn.Parameter(torch.zeros_like(gradients[0]))
    optimizer = torch.optim.AdamW([parameter], lr=lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0)
    for gradient in gradients:
        parameter.grad = gradient.clone()
        optimizer.step()
    return parameter.detach()


def test_adamw_cancels_the_factor_of_a_half(actor_config: dict[str, Any], rows: Rows) -> None:
    joint = rows.gradient(rows.verl_loss(actor_config, range(12), "seq-mean-token-mean", global_batch_size=12))
    # three steps with gradients of different sizes and signs, none of whose entries is tiny
    doubled = [2 * joint * scale for scale in (1.0, -0.3, 0.7)]
    halved = [gradient / 2 for gradient in doubled]
    assert min(gradient.abs().min() for gradient in halved) > 1e-4
    # √v is at least √0.001 × the first gradient's size before bias correction and about its size after it, so ε = 1e-8
    # changes a step by at most about 1e-8 / 1e-4 = 1e-4 of itself
    torch.testing.assert_close(adamw_steps(doubled), adamw_steps(halved), rtol=1e-3, atol=0.0)
    # without the second moment the factor would stay: half the gradient, half the way
    assert not torch.allclose(sum(doubled), sum(halved), rtol=0.1)


def test_adamw_cancels_it_only_above_epsilon() -> None:
    # first step of AdamW: lr × g / (|g| + ε). With |g| = ε: lr / 2; with |g| = ε / 2: lr × ½ / 1½ = lr / 3
    at_epsilon = torch.tensor([1e-8], dtype=torch.float64)
    assert adamw_steps([at_epsilon], lr=1.0).item() == pytest.approx(-1 / 2, rel=1e-6)
    assert adamw_steps([at_epsilon / 2], lr=1.0).item() == pytest.approx(-1 / 3, rel=1e-6)


def grpo_advantages(rewards: Sequence[float], uids: Sequence[str], num_tokens: int = 2) -> list[float]:
    """verl's advantage of each row, which it writes on every token."""
    rewards_N_T = torch.zeros(len(rewards), num_tokens, dtype=torch.float64)
    rewards_N_T[:, -1] = torch.tensor(rewards, dtype=torch.float64)
    mask = torch.ones(len(rewards), num_tokens, dtype=torch.float64)
    advantages, _ = compute_grpo_outcome_advantage(rewards_N_T, mask, np.array(uids, dtype=object))
    assert (advantages[:, 0] == advantages[:, 1]).all()
    return advantages[:, 0].tolist()


def test_advantages_are_normalised_inside_each_view() -> None:
    # original: 1 1 0 0, mean 1/2, std √(4 × ¼ / 3) = 1/√3: ±½ √3 = ±0.8660
    # rephrased: 1 0 0 0, mean 1/4, std √((9/16 + 3 × 1/16) / 3) = 1/2: (3/4) / (1/2) = 1.5 and -0.5
    rewards = [1, 1, 0, 0, 1, 0, 0, 0]
    half_root_3 = math.sqrt(3) / 2
    expected = [half_root_3, half_root_3, -half_root_3, -half_root_3, 1.5, -0.5, -0.5, -0.5]
    uids = ["q-original"] * 4 + ["q-rephrased"] * 4
    assert grpo_advantages(rewards, uids) == pytest.approx(expected, rel=1e-5)  # verl adds 1e-6 to each std
    # rows may come in any order: only the uid says who belongs together
    order = [4, 0, 5, 1, 6, 2, 7, 3]
    mixed = grpo_advantages([rewards[n] for n in order], [uids[n] for n in order])
    assert mixed == pytest.approx([expected[n] for n in order], rel=1e-5)
    # one uid for both views would mix them: mean 3/8, so the first row would not get 0.866
    assert grpo_advantages(rewards, ["q"] * 8)[0] != pytest.approx(half_root_3, rel=0.1)


def test_a_group_of_equal_rewards_has_no_advantage() -> None:
    # all wrong or no label (0 0 0), all right (1 1 1); the other view of the same question is not touched by it
    found = grpo_advantages([0, 0, 0, 1, 1, 1, 1, 0, 0], ["a"] * 3 + ["b"] * 3 + ["c"] * 3)
    assert found[:6] == [0.0] * 6
    # 1 0 0: mean 1/3, std √((4/9 + 2/9) / 2) = 1/√3: (2/3) √3 and -(1/3) √3
    root_3 = math.sqrt(3)
    assert found[6:] == pytest.approx([2 / 3 * root_3, -root_3 / 3, -root_3 / 3], rel=1e-5)


def test_reference_advantages_are_verls() -> None:
    uids = [f"{view}{n // 3}" for view in LENGTHS for n in range(6)]
    rewards = [reward for view in LENGTHS for reward in REWARDS[view]]
    expected = [advantage for view in LENGTHS for advantage in reference_advantages(REWARDS[view])]
    assert grpo_advantages(rewards, uids) == pytest.approx(expected, rel=1e-5, abs=1e-9)


def test_every_question_and_view_gets_a_uid_of_its_own() -> None:
    # verl's own step that fetches prompts, fed with a dataloader's batch by hand
    from co_rewarding.training.settings import Settings
    from co_rewarding_i.trainer import CoRewardingITrainer

    trainer = object.__new__(CoRewardingITrainer)
    trainer.settings = Settings("co_rewarding_I")
    trainer.train_dataloader_it = iter(
        [
            {
                "dummy_tensor": torch.zeros(2, 1, dtype=torch.uint8),
                "raw_prompt": objects([[{"role": "user", "content": "1+2?"}], [{"role": "user", "content": "3+4?"}]]),
                "rephrased_prompt": objects(
                    [[{"role": "user", "content": "2+1?"}], [{"role": "user", "content": "4+3?"}]]
                ),
                "reward_model": objects(
                    [{"style": "rule", "ground_truth": "3"}, {"style": "rule", "ground_truth": "7"}]
                ),
                "index": objects([10, 11]),
            }
        ]
    )
    from co_rewarding.training import rollout_io

    batch = trainer._fetch_one_gen_batch()
    assert len(batch) == 4
    uids = rollout_io.column(batch, "uid")
    assert len(set(uids)) == 4
    assert all(uuid.UUID(uid) for uid in uids)
    assert not any("_" in uid for uid in uids)  # verl makes row keys of them, split at underscores
    assert rollout_io.column(batch, rollout_io.VIEW) == ["original", "original", "rephrased", "rephrased"]
    assert rollout_io.column(batch, rollout_io.QUESTION) == ["10", "11", "10", "11"]
    contents = [messages[-1]["content"] for messages in rollout_io.column(batch, "raw_prompt")]
    assert contents == ["1+2?", "3+4?", "2+1?", "4+3?"]
    assert rollout_io.column(batch, rollout_io.GROUND_TRUTH) == ["3", "7", "3", "7"]
    assert {row["ground_truth"] for row in rollout_io.column(batch, "reward_model")} == {""}


def objects(values: Sequence[Any]) -> np.ndarray:
    """A column as verl's collate function makes it: one object a row."""
    return np.fromiter(values, dtype=object, count=len(values))
