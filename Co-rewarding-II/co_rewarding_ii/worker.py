# SPDX-License-Identifier: Apache-2.0
"""verl's hybrid worker (actor, rollout, reference) with a reference that follows the actor: the teacher.

The teacher lives in the reference slot: sharded like the actor, forward only, in host memory on a GPU machine. So the
KL term of the loss is against the moving teacher, as in the paper's code; with kl_anchor=start the starting model takes
the teacher's place for the pass that this term needs (co_rewarding.algo.second_weights).
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
    """What it overrides of verl 0.9.1: `init_model` (starts the teacher's moving average, keeps the starting model),
    `save_checkpoint` and `load_checkpoint` (the teacher beside the actor). What it adds: `update_teacher`,
    `send_weights` and `exchange_teacher_and_start`.
    """

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)
    def init_model(self) -> None:
        settings = self.config.teacher
        super().init_model()
        # before a checkpoint is loaded: the reference is what the run starts from, in a start that resumes, too
        keeps_start = settings.update and settings.kl_anchor == "start"
        self.start = SecondWeights(lambda: _parameters(self.ref), device=get_device_name()) if keeps_start else None
        # on verl's device, also where it keeps the teacher, and between steps the student, in host memory
        self.average = TeacherAverage(_parameters(self.ref), device=get_device_name()) if settings.update else None

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)
    def update_teacher(self, decay: float) -> Distance:
        """teacher ← decay · teacher + (1 − decay) · student, on this rank's shards; how far apart they are then."""
        distance = self.average.update(_parameters(self.actor), decay)
        self._forget_gathered_weights()
        return distance

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)
    def exchange_teacher_and_start(self) -> None:
        """The starting model comes into the reference slot, the teacher goes beside it; a second time, back."""
        self.start.exchange()
        self._forget_gathered_weights()

    @register(dispatch_mode=Dispatch.ONE_TO_ALL, blocking=False)
    async def send_weights(self, global_steps: int, students: int = 0) -> None:
        """verl's `update_weights`, with the student for the first `students` replicas and the teacher for the others.

        Like there, the rollout must sleep before, and is awake after. `update_weights` sends the weights of
        `self.actor`, whatever that is, for the length of the call. To go when verl lets the caller name the engine.
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
            return  # a teacher that never moves is the model that the run starts from
        # the serving weights in verl's format, so that verl's tools take the teacher for a model, and its limit on
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
    """Two engines of which one sends its weights, while both gather theirs.

    A weight is gathered from the shards of all ranks, so all must do it, in one order, whichever they send.
    """

    def __init__(self, student: Any, teacher: Any, is_teachers: bool):
        self.student, self.teacher, self.is_teachers = student, teacher, is_teachers

    def get_per_tensor_param(self, **options: Any) -> tuple[Iterator[tuple[str, torch.Tensor]], Any]:
        """As verl's engine: names with whole tensors, of which no more than two are there at a time."""
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

    def __getattr__(self, name: str) -> Any:  # what else verl asks, and does to the engine that is trained
        return getattr(self.student, name)


@contextmanager
def engine_of_actor(worker: ActorRolloutRefWorker, engine: Any) -> Iterator[None]:
    """For the length of the block `worker.actor` has this engine, whose weights verl's `update_weights` then sends."""
    actor, worker.actor = worker.actor, SimpleNamespace(engine=engine)
    try:
        yield
    finally:
        worker.actor = actor


def load_average(average: TeacherAverage, actor_dir: str, rank: int, world_size: int) -> None:
    """Resume the average of a process from the checkpoint that has the actor in `actor_dir`.

    Raises:
        FileNotFoundError: the checkpoint has no teacher, or one of another number of processes.
    """
    folder = teacher_dir(actor_dir)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: the checkpoint holds no teacher, which the run must resume with")
    # tensors only: a file from elsewhere must not run code; of its own files, in actor/, verl unpickles all
    serving, state = (
        torch.load(existing(folder / name(rank, world_size)), weights_only=True) for name in (shard_file, average_file)
    )
    average.load_state_dict(state, serving)


def forget_gathered(module: torch.nn.Module) -> None:
    """FSDP2 may hold full parameters of a root from its last forward pass, which are from before a change of shards."""
    for part in module.modules():
        if isinstance(part, FSDPModule):
            part.reshard()


def _parameters(worker) -> dict[str, torch.Tensor]:
    return dict(worker.engine.module.named_parameters())
