# SPDX-License-Identifier: Apache-2.0
"""Hydra configuration shared by the trees (found as `pkg://co_rewarding.training.config`): YAML, and the block that is
a dataclass. Hydra imports this package before it reads the YAML in it, so the block is there for whoever composes."""

from co_rewarding.training.settings import Settings

Settings.register()
