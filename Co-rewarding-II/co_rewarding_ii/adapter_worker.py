# SPDX-License-Identifier: Apache-2.0
"""verl's hybrid worker with a teacher for LoRA training: the moving average of the student's adapter.

There is one model: frozen base weights, and the student's adapter. The teacher is a second set of values for that
adapter (co_rewarding.algo.second_weights), a few megabytes, sharded like it. vLLM has both adapters at once
(adapters.py). For log-probabilities, sending and saving, the teacher briefly replaces the student; without an adapter
the model is the starting model, the KL term's reference by default.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import torch
from tensordict import TensorDict
from verl.single_controller.base.decorator import Dispatch, make_nd_compute_dataproto_dispatch_fn, register
from verl.utils import tensordict_utils as tu
from verl.utils.device import get_device_name
from verl.workers.engine_workers import ActorRolloutRefWorker

from co_rewarding.algo.ema import Distance, TeacherAverage, local_shard
from co_rewarding.algo.second_weights import SecondWeights
from co_rewarding.storage.run_dir import ADAPTER_FACTS, shard_file
from co_rewarding_ii.adapters import both
from co_rewarding_ii.checkpoint import average_file, teacher_dir
from co_rewarding_ii.worker import engine_of_actor, forget_gathered, load_average

TEACHERS = "of_teacher"  # non-tensor entry of a batch: requests the teacher's log-probabilities


class AdapterTeacherWorker(ActorRolloutRefWorker):
    """Overrides of verl 0.9.1: `init_model` (the teacher and its average), `compute_log_prob` (the teacher's on
    request), `save_checkpoint` and `load_checkpoint` (with the teacher). Added: `update_teacher` and `send_weights`.
    """

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)
    def init_model(self) -> None:
        super().init_model()
        self.teacher = SecondWeights(self._adapter, device=get_device_name())
        moves = self.config.teacher.update
        self.average = TeacherAverage(self.teacher.beside, device=get_device_name()) if moves else None

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)
    def update_teacher(self, decay: float) -> Distance:
        """teacher ← decay · teacher + (1 − decay) · student, on this rank's shards; returns their distance."""
        return self.average.update({name: local_shard(weight) for name, weight in self._adapter().items()}, decay)

    @register(dispatch_mode=make_nd_compute_dataproto_dispatch_fn(mesh_name="actor"))
    def compute_log_prob(self, data: TensorDict) -> TensorDict | None:
        if not tu.pop(data, key=TEACHERS, default=False):
            return super().compute_log_prob(data)
        tu.assign_non_tensor(data, no_lora_adapter=False)
        with self._teacher_in_place():
            return super().compute_log_prob(data)

    @register(dispatch_mode=Dispatch.ONE_TO_ALL, blocking=False)
    async def send_weights(self, global_steps: int) -> None:
        """verl's `update_weights` with both adapters. The rollout must be asleep before, and is awake after."""
        with engine_of_actor(self, TwoAdapters(self.actor.engine, self._teacher_in_place)):
            await super().update_weights(global_steps=global_steps, mode="naive")

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)
    def save_checkpoint(
        self, local_path: str, hdfs_path: str | None = None, global_step: int = 0, max_ckpt_to_keep: int | None = None
    ) -> None:
        super().save_checkpoint(local_path, hdfs_path, global_step, max_ckpt_to_keep)
        if self.average is None:
            return  # a teacher that never moves is the starting adapter
        folder, actor = teacher_dir(local_path), Path(local_path)
        folder.mkdir(parents=True, exist_ok=True)
        with self._teacher_in_place():
            adapter = {name: weight.detach() for name, weight in self._adapter().items()}
            torch.save(adapter, folder / shard_file(self.rank, self.world_size))
        torch.save(self.average.state_dict(), folder / average_file(self.rank, self.world_size))
        if self.rank == 0:
            for name in (ADAPTER_FACTS, "fsdp_config.json"):
                shutil.copyfile(actor / name, folder / name)
            shutil.copytree(actor / "huggingface", folder / "huggingface", dirs_exist_ok=True)
        torch.distributed.barrier()

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)
    def load_checkpoint(
        self, local_path: str, hdfs_path: str | None = None, del_local_after_load: bool = False
    ) -> None:
        super().load_checkpoint(local_path, hdfs_path, del_local_after_load)
        if self.average is not None:
            load_average(self.average, local_path, self.rank, self.world_size)

    @contextmanager
    def _teacher_in_place(self) -> Iterator[None]:
        """Within the block the engine's adapter is the teacher's."""
        with self.teacher.in_place():
            yield
            forget_gathered(self.actor.engine.module)

    def _adapter(self) -> dict[str, torch.Tensor]:
        """The trained weights, on whichever device the engine currently has them."""
        forget_gathered(self.actor.engine.module)
        named = self.actor.engine.module.named_parameters()
        return {name: parameter for name, parameter in named if parameter.requires_grad}


class TwoAdapters:
    """The student's engine, which sends the teacher's adapter after the student's."""

    def __init__(self, student: Any, teacher_in_place: Callable[[], AbstractContextManager[None]]) -> None:
        self.student, self.teacher_in_place = student, teacher_in_place

    def get_per_tensor_param(self, **options: Any) -> tuple[Iterator[tuple[str, torch.Tensor]], Any]:
        """As verl's engine, except that the base model's weights are sent unchanged."""
        student, facts = self.student.get_per_tensor_param(**options)
        if facts is None or not options.get("base_sync_done"):
            return student, facts
        return both(student, self._teachers(options)), facts

    def _teachers(self, options: dict[str, Any]) -> Iterator[tuple[str, torch.Tensor]]:
        with self.teacher_in_place():  # from sending the student's
            yield from self.student.get_per_tensor_param(**options)[0]

    def __getattr__(self, name: str) -> Any:  # verl's other accesses to the trained engine
        return getattr(self.student, name)
