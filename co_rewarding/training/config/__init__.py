# SPDX-License-Identifier: Apache-2.0
"""Hydra configuration shared by the trees (found as `pkg://co_rewarding.training.config`): YAML, the block that is
a dataclass, and the name of a run that has none. Hydra imports this package before it reads its YAML, so both are
registered in time."""

from co_rewarding.training import run_name
from co_rewarding.training.settings import Settings

Settings.register()
run_name.register()
