#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Train with unmodified verl 0.9.1 and the settings of one of our runs: the reference of step_phases.py.

Trainer, agent loop, reward loop and GRPO are verl's: each response goes to its reward loop singly and is compared with
the ground truth there. Still ours: the engine, without which verl does not train on a CPU, the comparison of answers,
and the polling interval for responses (verl's 2 s are longer than a tiny model's rollout).

    bash scripts/run_baseline.sh --cfg job > plain.yaml      # METHOD=ground_truth and the settings to measure with
    python benchmarks/plain_verl.py plain.yaml
"""

from __future__ import annotations

import argparse
import os
from functools import cached_property
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from verl.trainer.ppo.reward import resolve_reward_manager_cls
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync

from co_rewarding.training.launch import launch, run_main


class PlainTrainer(PPOTrainerSync):
    """verl's trainer with the interface that `launch` uses at the end."""

    stopped_early_after = None
    steps_done = 0

    @cached_property
    def reward_manager(self) -> Any:
        return resolve_reward_manager_cls(self.config)(self.config, self.tokenizer)

    def _build_replay_buffer(self) -> Any:
        buffer = super()._build_replay_buffer()
        buffer.poll_interval = self.config.co_rewarding.poll_interval_s
        return buffer

    def on_step_end(self) -> None:
        super().on_step_end()
        self.steps_done += 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path, help="output of `--cfg job` of a run script")
    config = OmegaConf.load(parser.parse_args().config)
    assert isinstance(config, DictConfig)
    config.trainer.rollout_data_dir = None  # verl's dump has neither view nor label
    config.trainer.experiment_name = "plain_verl"
    # the run's processes import the trainer, too
    here = str(Path(__file__).resolve().parent)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))
    run_main(lambda: launch(config, trainer=f"{Path(__file__).stem}.PlainTrainer"))


if __name__ == "__main__":
    main()
