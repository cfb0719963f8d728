# SPDX-License-Identifier: Apache-2.0
"""verl's FSDP2 engine that can say, beside a token's log-probability, how sure the policy was when it chose it.

The pass in which verl 0.9.1 computes the old log-probabilities has the logits in its hands and hands on two numbers a
token: the log-probability and, if asked, the entropy. This adds the self-certainty to the same pass, so that no second
forward is needed, and takes over the entropy, for two reasons: without removed padding verl widens the logits of a
whole micro-batch (sequences × longest × vocabulary) and ignores its own chunking option; and it takes the logarithm of
the partition function in the logits' type, so that with bf16 the entropy is off by up to a few hundredths of a nat.

How it is reached: `actor_rollout_ref.model.external_lib: co_rewarding.training.engine`. verl looks for an engine by
(device, vendor) before it looks by device, and registers its own by device only, so that ours is found first and
nothing is replaced; the CPU platform's engine (co_rewarding.cpu.engine) builds on it. What it does is decided by the
batch: nothing unless `extra_info` says so (`asked_for`). A device that is not listed here gets verl's own engine, and
the column is missing: whoever reads it must say so.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from tensordict import TensorDict
from verl.utils import tensordict_utils as tu
from verl.workers.engine import EngineRegistry
from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithLMHead

from co_rewarding.algo.token_statistics import token_statistics

ASKED = "token_statistics"  # non-tensor entry of a batch


@contextmanager
def asked_for(extra_info: dict[str, Any]) -> Iterator[None]:
    """For the length of the block, a batch with this `extra_info` asks for the statistics.

    Only the pass of the old log-probabilities may ask: the reference's pass writes to columns of the same names.
    """
    extra_info[ASKED] = True
    try:
        yield
    finally:
        del extra_info[ASKED]


class TokenStatisticsEngine(FSDPEngineWithLMHead):
    """Overrides `prepare_model_outputs`: columns `self_certainty` and `entropy`, jagged like `log_probs`."""

    def prepare_model_outputs(
        self, output: Any, output_args: dict[str, Any], micro_batch: TensorDict, logits_processor_func: Any
    ) -> dict[str, torch.Tensor]:
        if not tu.get_non_tensor_data(data=micro_batch, key=ASKED, default=False):
            return super().prepare_model_outputs(output, output_args, micro_batch, logits_processor_func)
        if tu.get_non_tensor_data(data=micro_batch, key="use_fused_kernels", default=False):
            raise ValueError(
                "actor_rollout_ref.model.use_fused_kernels=True: self-certainty needs the logits, which fused kernels "
                "never make; set it to False"
            )
        offsets_N = micro_batch["input_ids"].offsets()
        without_entropy = micro_batch.copy()
        tu.assign_non_tensor(without_entropy, calculate_entropy=False)
        model_output = super().prepare_model_outputs(output, output_args, without_entropy, logits_processor_func)
        if tu.get_non_tensor_data(data=micro_batch, key="use_remove_padding", default=True):
            # (1, T, V): the sequences one after another, this rank's part of them under Ulysses, then padding
            found = token_statistics(output.logits.squeeze(0), output_args["temperature_rmpad"])
            certainty_T, entropy_T = (
                self._gather_and_unpad_packed(column, output_args["pad_size"])
                for column in (found.self_certainty_T, found.entropy_T)
            )
        else:
            # (N, longest, V): the padding is on the right and is never looked at
            longest, vocabulary = output.logits.shape[1:]
            lengths_N = offsets_N.diff()
            row_T = torch.repeat_interleave(torch.arange(len(lengths_N), device=lengths_N.device), lengths_N)
            token_T = torch.arange(len(row_T), device=row_T.device) - offsets_N[row_T]
            found = token_statistics(
                output.logits.reshape(-1, vocabulary), output_args["temperature"][row_T], row_T * longest + token_T
            )
            certainty_T, entropy_T = found.self_certainty_T, found.entropy_T
        model_output["self_certainty"] = torch.nested.nested_tensor_from_jagged(certainty_T, offsets_N)
        model_output["entropy"] = torch.nested.nested_tensor_from_jagged(entropy_T, offsets_N)
        return model_output


@EngineRegistry.register(model_type="language_model", backend="fsdp2", device="cuda", vendor=["nvidia", "amd"])
class TokenStatisticsOnGPU(TokenStatisticsEngine):
    """verl's own engine with the statistics."""
