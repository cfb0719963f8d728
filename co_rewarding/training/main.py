# SPDX-License-Identifier: Apache-2.0
"""`python -m co_rewarding.training.main co_rewarding.method=NAME …` trains with a baseline; `--cfg job` prints the
configuration."""

import hydra
from omegaconf import DictConfig

from co_rewarding.training.launch import launch, run_main


@hydra.main(config_path="pkg://co_rewarding.training.config", config_name="baseline", version_base=None)
def main(config: DictConfig) -> None:
    launch(config, trainer="co_rewarding.training.trainer.GroupRewardTrainer")


if __name__ == "__main__":
    run_main(main)
