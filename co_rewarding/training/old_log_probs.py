# SPDX-License-Identifier: Apache-2.0
"""The old log-probabilities of a step with one update, taken from that update instead of a separate forward pass.

    ρ_t = π_θ(y_t) / π_old(y_t)        loss of a token: −min(ρ_t A_t, clip(ρ_t) A_t)        (verl's; GRPO, PPO)
    θ = θ_old:    ρ_t = 1, nothing is clipped, and the gradient is −A_t ∇ log π_θ(y_t)

With one mini-batch and one epoch θ moves once, after the gradients of all micro-batches are summed, so that every
token's loss is taken at θ = θ_old and π_old is π_θ with no gradient through it. The loss is verl's own, given that. It
is exact, up to rounding, for a model without dropout, as all models of the recipes are. (verl's π_old comes from other
micro-batches, so its ρ is 1 up to rounding; here it is 1.)

verl still logs what it takes from that pass (entropy, the gap between rollout and training engine): the engine keeps
the update's per-token results and returns them when log-probabilities are requested after it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from omegaconf import DictConfig
from tensordict import TensorDict
from verl.utils import tensordict_utils as tu
from verl.workers.utils.padding import response_from_nested

from co_rewarding.algo.methods import method
from co_rewarding.training.settings import Settings

SOURCE = "old_log_probs_of"  # non-tensor entry of a batch
Source = Literal["this_update", "last_update"]

Loss = Callable[..., tuple[torch.Tensor, dict[str, Any]]]
"""verl's loss of a micro-batch: (model_output, data, dp_group) → loss and metrics."""


def updates_own_suffice(config: DictConfig) -> bool:
    """Whether a step has one update and nothing before it needs the old log-probabilities or their pass.

    In `config`, `ppo_mini_batch_size` counts questions.
    """
    settings, actor, correction = Settings.read(config), config.actor_rollout_ref.actor, _correction(config)
    one_update = (
        actor.ppo_mini_batch_size == config.data.train_batch_size
        and actor.ppo_epochs == 1
        and not actor.shuffle  # the rows would come back in another order
        and config.trainer.critic_warmup == 0  # steps without an update
    )
    corrected = correction.get("bypass_mode") or correction.get("rollout_is") or correction.get("rollout_rs")
    return (
        settings.old_log_probs == "auto"
        and config.trainer.device in ("cpu", "cuda")  # whose engine is ours
        and one_update
        and not method(settings.method).statistics
        and not config.algorithm.use_kl_in_reward
        and not corrected
    )


def _correction(config: DictConfig) -> Any:
    return config.algorithm.get("rollout_correction") or {}


@contextmanager
def old_log_probs_of(extra_info: dict[str, Any], source: Source) -> Iterator[None]:
    """Within the block, a batch with this `extra_info` uses the old log-probabilities of

    - this_update: an update's loss uses its own, and the engine keeps them and the entropy of each token;
    - last_update: a request for log-probabilities returns the kept values without a pass.
    """
    extra_info[SOURCE] = source
    if source == "last_update":
        extra_info["disable_auto_offload"] = True  # no weight is needed on the device
    try:
        yield
    finally:
        del extra_info[SOURCE]
        extra_info.pop("disable_auto_offload", None)


@contextmanager
def without_rollout_correction(config: DictConfig) -> Iterator[None]:
    """Within the block, verl does not log the gap to log-probabilities that do not exist yet.

    It corrects nothing where `updates_own_suffice`; rollout_io.engine_gap logs the same after the update.
    """
    algorithm = config.algorithm
    correction, algorithm.rollout_correction = algorithm.rollout_correction, None
    try:
        yield
    finally:
        algorithm.rollout_correction = correction


def source_of(batch: TensorDict) -> Source | None:
    return tu.get_non_tensor_data(data=batch, key=SOURCE, default=None)


def with_own(loss: Loss, with_entropy: bool) -> Loss:
    """The loss with the micro-batch's own log-probabilities as the old ones.

    Args:
        with_entropy: whether the loss itself asked for the entropy (`entropy_coeff`); the loss does not see one that is
            computed for the log alone.
    """

    def own(model_output: dict[str, torch.Tensor], data: TensorDict, **options: Any) -> Any:
        data = data.copy()
        data["old_log_probs"] = response_from_nested(model_output["log_probs"].detach(), data["response_mask"])
        if not with_entropy:
            model_output = {name: column for name, column in model_output.items() if name != "entropy"}
        return loss(model_output=model_output, data=data, **options)

    return own
