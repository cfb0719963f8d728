# SPDX-License-Identifier: Apache-2.0
"""`python -m co_rewarding_i.main KEY=VALUE …` trains with Co-rewarding-I; `--cfg job` prints the configuration."""

import hydra
from omegaconf import DictConfig

from co_rewarding.training.launch import launch, run_main


@hydra.main(config_path="pkg://co_rewarding_i.config", config_name="co_rewarding_i", version_base=None)
def main(config: DictConfig) -> None:
    launch(config, trainer="co_rewarding_i.trainer.CoRewardingITrainer", checks=[check_two_views])


def check_two_views(config: DictConfig) -> None:
    """Raises: ValueError, there is no second view; every method of this tree needs one."""
    if not config.data.train_aug_files:
        raise ValueError(
            f"data.train_aug_files={config.data.train_aug_files}: Co-rewarding-I needs two views of each question; "
            "set it to the rephrased questions (TRAIN_AUG_FILE in the run script), or use scripts/run_baseline.sh"
        )


if __name__ == "__main__":
    run_main(main)
