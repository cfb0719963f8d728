# SPDX-License-Identifier: Apache-2.0
"""verl's hybrid worker (actor, rollout, reference) with a reference that follows the actor: the teacher.

The teacher lives in the reference slot: sharded like the actor, forward only, in host memory on a GPU machine. So the
KL term of the loss is against the moving teacher, as in the paper's code; with kl_anchor=start the starting model
replaces the teacher for that term's pass (co_rewarding.algo.second_weights).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed.tensor  # with it, a DTensor counts as a tensor for torch.load(weights_only=True)
from torch.distributed.fsdp import FSDPModule
from verl.single_controller.base.decorator import Dispatch, register
from verl.utils.device import get_device_name
from verl.workers.engine_workers import ActorRolloutRefWorker

from co_rewarding.algo.ema import Distance, TeacherAverage
from co_rewarding.algo.second_weights import SecondWeights
from co_rewarding.storage.run_dir import shard_file
from co_rewarding_ii.checkpoint import average_file, existing, teacher_dir


class TeacherWorker(ActorRolloutRefWorker):
    """Overrides of verl 0.9.1: `init_model` (starts the teacher's moving average, keeps the starting model),
    `save_checkpoint` and `load_checkpoint` (with the teacher). Added: `update_teacher`, `send_weights` and
    `exchange_teacher_and_start`.
    """

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)
    def init_model(self) -> None:
        settings = self.config.teacher
        super().init_model()
        # before a checkpoint is loaded: the reference is the starting model, in a resuming start too
        keeps_start = settings.update and settings.kl_anchor == "start"
        self.start = SecondWeights(lambda: _parameters(self.ref), device=get_device_name()) if keeps_start else None
        # on verl's device, even if the teacher, and between steps the student, is in host memory
        self.average = TeacherAverage(_parameters(self.ref), device=get_device_name()) if settings.update else None

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)
    def update_teacher(self, decay: float) -> Distance:
        """teacher ← decay · teacher + (1 − decay) · student, on this rank's shards; returns their distance."""
        distance = self.average.update(_parameters(self.actor), decay)
        self._forget_gathered_weights()
        return distance

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)
    def exchange_teacher_and_start(self) -> None:
        """Swap teacher and starting model in the reference slot; a second call swaps them back."""
        self.start.exchange()
        self._forget_gathered_weights()

    @register(dispatch_mode=Dispatch.ONE_TO_ALL, blocking=False)
    async def send_weights(self, global_steps: int, students: int = 0) -> None:
        """verl's `update_weights`, with the student for the first `students` replicas and the teacher for the others.

        The rollout must be asleep before, and is awake after. `update_weights` sends the weights of whatever
        `self.actor` is during the call. Remove this once verl lets the caller name the engine.
        """
        sent = self.ref.engine
        if students:
            sent = OneOfTwo(self.actor.engine, sent, is_teachers=self.rollout.replica_rank >= students)
        with engine_of_actor(self, sent):
            await super().update_weights(global_steps=global_steps, mode="naive")

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)
    def save_checkpoint(
        self, local_path: str, hdfs_path: str | None = None, global_step: int = 0, max_ckpt_to_keep: int | None = None
    ) -> None:
        super().save_checkpoint(local_path, hdfs_path, global_step, max_ckpt_to_keep)
        if self.average is None:
            return  # a teacher that never moves is the starting model
        # the serving weights in verl's format, so that verl's tools treat the teacher as a model, and its limit on
        # kept checkpoints counts it; then, in the same folder, what the weights were rounded from
        folder = teacher_dir(local_path)
        self.ref.save_checkpoint(str(folder), None, global_step, max_ckpt_to_keep)
        torch.save(self.average.state_dict(), folder / average_file(self.rank, self.world_size))
        torch.distributed.barrier()

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)
    def load_checkpoint(
        self, local_path: str, hdfs_path: str | None = None, del_local_after_load: bool = False
    ) -> None:
        super().load_checkpoint(local_path, hdfs_path, del_local_after_load)
        if self.average is None:
            return
        load_average(self.average, local_path, self.rank, self.world_size)
        self._forget_gathered_weights()

    def _forget_gathered_weights(self) -> None:
        forget_gathered(self.ref.engine.module)


class OneOfTwo:
    """Two engines: one sends its weights, while both gather theirs.

    Gathering a weight needs all ranks, so all must gather in the same order, whichever they send.
    """

    def __init__(self, student: Any, teacher: Any, is_teachers: bool):
        self.student, self.teacher, self.is_teachers = student, teacher, is_teachers

    def get_per_tensor_param(self, **options: Any) -> tuple[Iterator[tuple[str, torch.Tensor]], Any]:
        """As verl's engine: names with full tensors, at most two in memory at a time."""
        student, options_of_lora = self.student.get_per_tensor_param(**options)
        teacher, _ = self.teacher.get_per_tensor_param(**options)
        return self._sent(iter(student), iter(teacher)), options_of_lora

    def _sent(self, student: Iterator, teacher: Iterator) -> Iterator[tuple[str, torch.Tensor]]:
        for sent in student:
            other = next(teacher)
            if sent[0] != other[0]:
                raise RuntimeError(f"the student's weight {sent[0]} and the teacher's {other[0]} are gathered at once")
            if self.is_teachers:
                sent = other
            del other
            yield sent

    def __getattr__(self, name: str) -> Any:  # verl's other accesses to the trained engine
        return getattr(self.student, name)


@contextmanager
def engine_of_actor(worker: ActorRolloutRefWorker, engine: Any) -> Iterator[None]:
    """Within the block `worker.actor` has this engine, so verl's `update_weights` sends its weights."""
    actor, worker.actor = worker.actor, SimpleNamespace(engine=engine)
    try:
        yield
    finally:
        worker.actor = actor


def load_average(average: TeacherAverage, actor_dir: str, rank: int, world_size: int) -> None:
    """Resume this process's average from the checkpoint with the actor in `actor_dir`.

    Raises:
        FileNotFoundError: the checkpoint has no teacher, or one from another number of processes.
    """
    folder = teacher_dir(actor_dir)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: the checkpoint has no teacher to resume with")
    # tensors only: a foreign file must not run code; verl unpickles everything in actor/
    serving, state = (
        torch.load(existing(folder / name(rank, world_size)), weights_only=True) for name in (shard_file, average_file)
    )
    average.load_state_dict(state, serving)


def forget_gathered(module: torch.nn.Module) -> None:
    """Drop a root's full parameters from FSDP2's last forward pass, which predate a change of shards."""
    for part in module.modules():
        if isinstance(part, FSDPModule):
            part.reshard()


def _parameters(worker) -> dict[str, torch.Tensor]:
    return dict(worker.engine.module.named_parameters())
