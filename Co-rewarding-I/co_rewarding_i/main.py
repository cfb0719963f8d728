# SPDX-License-Identifier: Apache-2.0
"""`python -m co_rewarding_i.main KEY=VALUE …` trains with Co-rewarding-I; `--cfg job` prints the configuration."""

import hydra
from omegaconf import DictConfig

from co_rewarding.training.launch import launch, run_main


@hydra.main(config_path="config", config_name="co_rewarding_i", version_base=None)
def main(config: DictConfig) -> None:
    launch(config, trainer="co_rewarding_i.trainer.CoRewardingITrainer")


if __name__ == "__main__":
    run_main(main)
