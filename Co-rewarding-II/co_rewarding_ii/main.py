# SPDX-License-Identifier: Apache-2.0
"""`python -m co_rewarding_ii.main KEY=VALUE …` trains with Co-rewarding-II; `--cfg job` prints the configuration."""

import hydra
from omegaconf import DictConfig

from co_rewarding.training.launch import launch, run_main
from co_rewarding_ii.preflight import check_teacher


@hydra.main(config_path="pkg://co_rewarding_ii.config", config_name="co_rewarding_ii", version_base=None)
def main(config: DictConfig) -> None:
    launch(config, trainer="co_rewarding_ii.orders.make_trainer", checks=[check_teacher])


if __name__ == "__main__":
    run_main(main)
