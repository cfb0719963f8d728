# SPDX-License-Identifier: Apache-2.0
"""verl's FSDP2 engine that can say, beside a token's log-probability, how sure the policy was when it chose it.

The pass in which verl 0.9.1 computes the old log-probabilities has the logits in its hands and hands on two numbers a
token: the log-probability and, if asked, the entropy. For the method that rewards it, this adds the self-certainty to
the same pass, so that no second forward is needed. It takes over the entropy, for two reasons: without removed padding
verl widens the logits of a whole micro-batch (sequences × longest × vocabulary) and ignores its own chunking option;
and it takes the logarithm of the partition function in the logits' type, so that with bf16 the entropy is off by up to
a few hundredths of a nat.

How it is reached: `actor_rollout_ref.model.external_lib: co_rewarding.training.engine`. verl looks for an engine by
(device, vendor) before it looks by device, and registers its own by device only, so that ours is found first and
nothing is replaced; the CPU platform's engine (co_rewarding.cpu.engine) builds on it. What it does is decided by the
batch: nothing unless `extra_info` says so (`requesting_token_statistics`). A device that is not listed here gets verl's
own engine, and the column is missing: whoever reads it must say so.

verl imports `external_lib` in every process that builds a model's configuration, the workers of rollout loops included,
so that the import of our loop below is what registers it there.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from tensordict import TensorDict
from verl.utils import tensordict_utils as tu
from verl.workers.engine import EngineRegistry
from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithLMHead

from co_rewarding.algo.token_statistics import token_statistics
from co_rewarding.training import agent_loop  # noqa: F401 - registers the rollout loop, see above

REQUEST = "token_statistics"  # non-tensor entry of a batch: names, with a comma between


@contextmanager
def requesting_token_statistics(extra_info: dict[str, Any], names: Collection[str]) -> Iterator[None]:
    """For the length of the block, a batch with this `extra_info` requests these of token_statistics.STATISTICS.

    Only the pass of the old log-probabilities may: the reference's pass writes to columns of the same names.
    """
    extra_info[REQUEST] = ",".join(names)
    try:
        yield
    finally:
        del extra_info[REQUEST]


class TokenStatisticsEngine(FSDPEngineWithLMHead):
    """Overrides `prepare_model_outputs`: a column for each requested statistic, jagged like `log_probs`."""

    def prepare_model_outputs(
        self, output: Any, output_args: dict[str, Any], micro_batch: TensorDict, logits_processor_func: Any
    ) -> dict[str, torch.Tensor]:
        request = tu.get_non_tensor_data(data=micro_batch, key=REQUEST, default=None)
        if request is None:
            return super().prepare_model_outputs(output, output_args, micro_batch, logits_processor_func)
        if tu.get_non_tensor_data(data=micro_batch, key="use_fused_kernels", default=False):
            raise ValueError(
                "actor_rollout_ref.model.use_fused_kernels=True: token statistics need the logits, which fused kernels "
                "never make; set it to False"
            )
        names = request.split(",")
        offsets_N = micro_batch["input_ids"].offsets()
        without_entropy = micro_batch.copy()
        tu.assign_non_tensor(without_entropy, calculate_entropy=False)
        model_output = super().prepare_model_outputs(output, output_args, without_entropy, logits_processor_func)
        if tu.get_non_tensor_data(data=micro_batch, key="use_remove_padding", default=True):
            # (1, T, V): the sequences one after another, this rank's part of them under Ulysses, then padding
            packed = token_statistics(output.logits.squeeze(0), output_args["temperature_rmpad"], names)
            columns = {
                name: self._gather_and_unpad_packed(column_T, output_args["pad_size"])
                for name, column_T in packed.items()
            }
        else:
            # (N, longest, V): the padding is on the right and is never looked at
            longest, vocabulary = output.logits.shape[1:]
            lengths_N = offsets_N.diff()
            row_T = torch.repeat_interleave(torch.arange(len(lengths_N), device=lengths_N.device), lengths_N)
            token_T = torch.arange(len(row_T), device=row_T.device) - offsets_N[row_T]
            columns = token_statistics(
                output.logits.reshape(-1, vocabulary),
                output_args["temperature"][row_T],
                names,
                row_T * longest + token_T,
            )
        for name, column_T in columns.items():
            model_output[name] = torch.nested.nested_tensor_from_jagged(column_T, offsets_N)
        return model_output


@EngineRegistry.register(model_type="language_model", backend="fsdp2", device="cuda", vendor=["nvidia", "amd"])
class TokenStatisticsOnGPU(TokenStatisticsEngine):
    """verl's own engine with the statistics."""
