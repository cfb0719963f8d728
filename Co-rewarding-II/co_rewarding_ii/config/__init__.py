# SPDX-License-Identifier: Apache-2.0
"""Hydra configuration of Co-rewarding-II (found as `pkg://co_rewarding_ii.config`): YAML, and the block that is a
dataclass, registered when Hydra imports this package to read the YAML in it."""

from co_rewarding_ii.settings import TeacherSettings

TeacherSettings.register()
