#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Co-rewarding-II's step against GRPO's: the teacher after the student, and beside it on separate replicas.

One run, whose steps alternate on the same questions, models and vLLM replicas:

    alone    the student alone, rewarded by the ground truth: a GRPO step
    after    the teacher rolls out after the student, both on all replicas
    beside   both at once, the student on the first replicas and the teacher on the others

The learning rate is almost 0, so the work of a step stays the same. Prints the median seconds of each phase and turn,
without the first round, and the ratios of complete steps to `alone` of the same round: median, least and greatest. Each
turn sends its weights to vLLM at its beginning, so its step includes all its costs.

`--tail P` makes an artificial long tail: the responses to the first P prompts of a batch, of the student and the
teacher, have at least `--tail_tokens` tokens each. The others end where the model ends them.

    python benchmarks/teacher_beside.py --toy FOLDER --work FOLDER [--tail 1 --tail_tokens 384]

FOLDER has data/ and model/ as the quickstart makes them. Two replicas share the machine's cores.
"""

from __future__ import annotations

import argparse
import os
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from omegaconf import DictConfig
from tensordict import TensorDict
from verl.utils.debug import marked_timer

from co_rewarding.algo.methods import method
from co_rewarding.storage.run_dir import RunDir
from co_rewarding.tools.report.runs import STEP_TIME, Run, read_run
from co_rewarding.training import launch as shipped
from co_rewarding.training import rollout_io
from co_rewarding.training.agent_loop import SAMPLING
from co_rewarding.training.rollout_io import Response
from co_rewarding.training.trainer import GroupRewardTrainer
from co_rewarding_ii.orders import TeacherAfterStudent, TeacherBesideStudent
from co_rewarding_ii.trainer import CoRewardingIITrainer

TAIL, TAIL_TOKENS = "TEACHER_BESIDE_TAIL", "TEACHER_BESIDE_TAIL_TOKENS"  # environment of the process that trains
ROLLOUTS = ("gen", "teacher_update", "teacher_sync", "teacher_gen", "update_weights")
PHASES = (*ROLLOUTS, "old_log_prob", "ref", "adv", "update_actor")


class LongTail(GroupRewardTrainer):
    """Below both orders: the last to see the submitted rows."""

    def _submit_batch_to_rollout(self, batch: TensorDict) -> int:
        prompts, tokens = int(os.environ[TAIL]), int(os.environ[TAIL_TOKENS])
        if prompts:
            given = rollout_io.column(batch, SAMPLING) if SAMPLING in batch.keys() else [{}] * len(batch)  # noqa: SIM118
            longer = [row | ({"min_tokens": tokens} if i < prompts else {}) for i, row in enumerate(given)]
            batch = rollout_io.with_column(batch, SAMPLING, longer.__getitem__)
        return super()._submit_batch_to_rollout(batch)


class Turn(CoRewardingIITrainer):
    """A step of one of the classes below, which takes over for it. vLLM sleeps between them."""

    reward = "co_rewarding_II"

    def on_init_end(self) -> None:
        pass

    def _send_weights(self) -> None:
        pass

    def on_step_begin(self) -> None:
        super().on_step_begin()
        self.__class__ = TURNS[(self.global_steps - 1) % len(TURNS)]
        self.method = self.reward_manager.method = method(self.reward)
        self._teacher_metrics = {}

    def student_everywhere(self) -> None:
        with marked_timer("update_weights", self.timing_raw):
            self.checkpoint_manager.update_weights(self.global_steps - 1)


class Alone(Turn, LongTail):
    reward = "ground_truth"

    def prepare_step(self) -> dict:
        self.student_everywhere()
        return super().prepare_step()

    def _responses_that_only_vote(self) -> list[Response]:
        return []


class After(Turn, TeacherAfterStudent, LongTail):
    def prepare_step(self) -> dict:
        self.student_everywhere()
        return super().prepare_step()


class Beside(Turn, TeacherBesideStudent, LongTail):
    pass


TURNS: tuple[type[Turn], ...] = (Alone, After, Beside)


def first_turn(config: DictConfig) -> Turn:
    return Beside(config)  # which shares the replicas


def table(run: Run) -> str:
    """Phases of each turn, and whole steps against those of `alone`."""
    names = [turn.__name__.lower() for turn in TURNS]
    rounds = [run.trained_steps[i : i + len(TURNS)] for i in range(len(TURNS), len(run.trained_steps), len(TURNS))]
    steps_of = dict(zip(names, zip(*rounds, strict=True), strict=True))
    keys = [f"timing_s/{name}" for name in PHASES] + [STEP_TIME]
    lines = [f"{'median seconds':<20}" + "".join(f"{name:>12}" for name in names)]
    for key in keys:
        seconds = [median(run.steps[step].get(key, 0.0) for step in steps_of[name]) for name in names]
        lines.append(f"{key.partition('/')[2]:<20}" + "".join(f"{value:>12.3f}" for value in seconds))
    for name in names[1:]:
        pairs = zip(steps_of[name], steps_of[names[0]], strict=True)
        ratios = sorted(run.steps[step][STEP_TIME] / run.steps[alone][STEP_TIME] for step, alone in pairs)
        least = min(run.steps[step][STEP_TIME] for step in steps_of[name])
        least /= min(run.steps[step][STEP_TIME] for step in steps_of[names[0]])
        lines.append(
            f"{name} / {names[0]}: {median(ratios):.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f}, {len(ratios)} rounds), "
            f"least by least {least:.2f}"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--toy", type=Path, required=True, help="folder with data/ and model/")
    parser.add_argument("--work", type=Path, required=True, help="folder for the run")
    parser.add_argument("--rounds", type=int, default=7, help="of three steps each, the first not counted")
    parser.add_argument("--questions", type=int, default=16, help="a step")
    parser.add_argument("--rollouts", type=int, default=8, help="of a question, by the student and by the teacher")
    parser.add_argument("--max_response_length", type=int, default=32)
    parser.add_argument("--tail", type=int, default=0, metavar="P", help="prompts with long responses")
    parser.add_argument("--tail_tokens", type=int, default=0)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="of the configuration")
    args = parser.parse_args(arguments)
    here = str(Path(__file__).resolve().parent)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))
    os.environ |= {"RUNS_DIR": str(args.work), TAIL: str(args.tail), TAIL_TOKENS: str(args.tail_tokens)}
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    launch, name = shipped.launch, f"tail_{args.tail}_{args.tail_tokens}"
    shipped.launch = lambda config, trainer, checks: launch(config, f"{Path(__file__).stem}.first_turn", checks)
    data = args.toy.resolve() / "data"
    actor, model = "actor_rollout_ref", args.toy.resolve() / "model"
    sys.argv[1:] = [
        "platform=cpu", "trainer.n_gpus_per_node=2", f"trainer.experiment_name={name}", "trainer.logger=[file]",
        f"{actor}.model.path={model}", f"data.train_files={data}/train.parquet", "data.val_files=null",
        f"data.train_batch_size={args.questions}", f"{actor}.actor.ppo_mini_batch_size={args.questions}",
        f"{actor}.rollout.n={args.rollouts}", f"{actor}.teacher.n={args.rollouts}", f"{actor}.actor.optim.lr=1e-7",
        f"{actor}.rollout.max_num_batched_tokens=4096", "data.max_prompt_length=64",
        f"data.max_response_length={args.max_response_length}", "trainer.save_freq=-1", "trainer.test_freq=-1",
        f"trainer.total_training_steps={args.rounds * len(TURNS)}", "trainer.total_epochs=1000", *args.overrides,
    ]  # fmt: skip
    runpy.run_module("co_rewarding_ii.main", run_name="__main__", alter_sys=True)
    print(table(read_run(RunDir(args.work / "co-rewarding" / name).path)))


if __name__ == "__main__":
    main()
