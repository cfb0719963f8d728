# SPDX-License-Identifier: Apache-2.0
"""verl's FSDP2 engine with per-token log-probabilities and, on request, certainty statistics computed in chunks.

Replaces verl 0.9.1's processing of the logits, for three reasons. Without flash-attn verl computes log-probabilities
row by row, and a row is a token: 25 times the time of chunks on one H100 (docs/GPU.md). For the entropy it takes the
logarithm of the partition function in the logits' type, so that with bf16 it is off by up to a few hundredths of a nat,
and without removed padding it widens the logits of a whole micro-batch (sequences × longest × vocabulary). And the two
methods that reward a token statistic need the logits, which exist only in this pass.

How it is reached: `actor_rollout_ref.model.external_lib: co_rewarding.training.engine`. verl looks for an engine by
(device, vendor) before it looks by device, and registers its own by device only, so that ours is found first and
nothing is replaced; the CPU platform's engine (co_rewarding.cpu.engine) builds on it. The batch decides whether
statistics are computed: only if `extra_info` requests them (`requesting_token_statistics`). A device not listed here
gets verl's engine, and the column is missing: readers must report that.

verl imports `external_lib` in every process that builds a model's configuration, rollout workers included, so the
import below registers our loop there.
"""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from tensordict import TensorDict
from verl.utils import tensordict_utils as tu
from verl.utils.device import get_device_id
from verl.workers.engine import EngineRegistry
from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithLMHead

from co_rewarding.algo.token_statistics import token_statistics
from co_rewarding.training import agent_loop, loopback_store, weight_sync  # noqa: F401 - they register themselves, see above
from co_rewarding.training.old_log_probs import source_of, with_own

REQUEST = "token_statistics"  # non-tensor entry of a batch: names, with a comma between
LEFT_TO_VERL = ("use_fused_kernels", "calculate_sum_pi_squared", "distillation_use_topk", "distillation_only")


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
    """Overrides `prepare_model_outputs`: what verl makes of the logits, and a column for each requested statistic;
    `forward_backward_batch`: micro-batches where sequences are padded, and an update with its own old log-probabilities
    (old_log_probs.py); and `load_checkpoint`: a changed learning rate of a resumed run.
    """

    _kept: tuple[torch.Tensor, dict[str, torch.Tensor]] | None = None  # tokens and columns of the last such update

    def load_checkpoint(
        self, local_path: str, hdfs_path: str | None = None, del_local_after_load: int = True, **kwargs: Any
    ) -> None:
        super().load_checkpoint(local_path, hdfs_path, del_local_after_load, **kwargs)
        if self.lr_scheduler is not None:  # the reference has none
            set_learning_rate(self.lr_scheduler, self.optimizer_config.lr)

    def forward_backward_batch(
        self, data: TensorDict, loss_function: Callable | None, forward_only: bool = False
    ) -> dict[str, Any]:
        source = source_of(data)
        if source == "last_update":
            return {"model_output": self._columns_of_last_update(data), "loss": [0.0], "metrics": {}}
        if source != "this_update" or forward_only:
            return self._in_micro_batches(data, loss_function, forward_only)
        with_entropy = tu.get_non_tensor_data(data=data, key="calculate_entropy", default=False)
        tu.assign_non_tensor(data, calculate_entropy=True, return_model_output=True)
        output = self._in_micro_batches(data, with_own(loss_function, with_entropy), forward_only)
        columns = {name: output["model_output"].pop(name).cpu() for name in ("log_probs", "entropy")}
        self._kept = data["input_ids"].cpu(), columns
        return output

    def _columns_of_last_update(self, data: TensorDict) -> dict[str, torch.Tensor]:
        """Per-token results of the last update, returned once; RuntimeError if they are of other rows."""
        kept, self._kept = self._kept, None
        if kept is None or not torch.equal(kept[0].values(), data["input_ids"].values().cpu()):
            raise RuntimeError(
                "the rows are not those of the last update; compute log-probabilities in a pass of their own with "
                "co_rewarding.old_log_probs=always"
            )
        return kept[1]

    def _in_micro_batches(self, data: TensorDict, loss_function: Callable | None, forward_only: bool) -> dict[str, Any]:
        """Micro-batches of padded sequences, sorted by length, each within `max_token_len_per_gpu` including padding.

        verl's dynamic micro-batches count tokens without padding and mix long and short sequences. Packed sequences and
        micro-batches of a fixed size are left to verl.
        """
        packed = tu.get_non_tensor_data(data=data, key="use_remove_padding", default=True)
        dynamic = tu.get_non_tensor_data(data=data, key="use_dynamic_bsz", default=True)
        if packed or not dynamic:
            return super().forward_backward_batch(data, loss_function, forward_only)
        lengths_N = data["input_ids"].offsets().diff()
        longest = lengths_N.max().to(get_device_id())  # over all ranks: each must do the same number of passes
        torch.distributed.all_reduce(longest, torch.distributed.ReduceOp.MAX, self.get_data_parallel_group())
        max_tokens = tu.get_non_tensor_data(data=data, key="max_token_len_per_gpu", default=None)
        by_length_N = lengths_N.argsort(stable=True)
        batch = tu.index_select_tensor_dict(data, by_length_N)
        tu.assign_non_tensor(
            batch, use_dynamic_bsz=False, micro_batch_size_per_gpu=rows_at_once(len(data), int(longest), max_tokens)
        )
        output = super().forward_backward_batch(batch, loss_function, forward_only)
        place_N = by_length_N.argsort().tolist()  # of each row among those by length
        for name, column in output["model_output"].items():
            rows = column.unbind()
            in_order = [rows[place] for place in place_N]
            output["model_output"][name] = torch.nested.as_nested_tensor(in_order, layout=torch.jagged)
        return output

    def prepare_model_outputs(
        self, output: Any, output_args: dict[str, Any], micro_batch: TensorDict, logits_processor_func: Any
    ) -> dict[str, torch.Tensor]:
        """Columns by name, jagged like `input_ids`: `log_probs`, `entropy` if requested, requested statistics."""

        def asked(key: str, default: Any = False) -> Any:
            return tu.get_non_tensor_data(data=micro_batch, key=key, default=default)

        request = asked(REQUEST, "")
        if any(asked(key) for key in LEFT_TO_VERL):
            if request:
                raise ValueError(
                    "actor_rollout_ref.model.use_fused_kernels=True: token statistics need the logits, which fused "
                    "kernels never make; set it to False"
                )
            return super().prepare_model_outputs(output, output_args, micro_batch, logits_processor_func)
        names = {"log_probs": None, **({"entropy": None} if asked("calculate_entropy") else {})}
        names |= dict.fromkeys(request.split(",") if request else ())
        offsets_N, labels_T = micro_batch["input_ids"].offsets(), output_args["input_ids_rmpad_rolled"]
        plain = output_args["temperature_is_one"]
        if asked("use_remove_padding", True):
            # (1, T, V): the sequences one after another, this rank's part of them under Ulysses, then padding
            packed = token_statistics(
                output.logits.squeeze(0), None if plain else output_args["temperature_rmpad"], names, labels_T=labels_T
            )
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
                None if plain else output_args["temperature"][row_T],
                names,
                row_T * longest + token_T,
                labels_T,
            )
        return {name: torch.nested.nested_tensor_from_jagged(column_T, offsets_N) for name, column_T in columns.items()}


def set_learning_rate(scheduler: torch.optim.lr_scheduler.LambdaLR, lr: float) -> None:
    """Set `lr` in a restored schedule, which has the learning rate it was saved with."""
    if scheduler.base_lrs == [lr] * len(scheduler.base_lrs):
        return
    scheduler.base_lrs = [lr] * len(scheduler.base_lrs)
    scheduler._last_lr = [lr * factor(scheduler.last_epoch) for factor in scheduler.lr_lambdas]
    for group, now in zip(scheduler.optimizer.param_groups, scheduler._last_lr, strict=True):
        group["initial_lr"], group["lr"] = lr, now


def rows_at_once(num_rows: int, longest: int, max_tokens: int) -> int:
    """The largest divisor d ≥ 1 of `num_rows` such that d rows of the longest length fit into `max_tokens`."""
    return max((d for d in range(1, num_rows + 1) if num_rows % d == 0 and d * longest <= max_tokens), default=1)


@EngineRegistry.register(model_type="language_model", backend="fsdp2", device="cuda", vendor=["nvidia", "amd"])
class TokenStatisticsOnGPU(TokenStatisticsEngine):
    """verl's own engine with the statistics."""
