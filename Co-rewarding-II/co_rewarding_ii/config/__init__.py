# SPDX-License-Identifier: Apache-2.0
"""Hydra configuration of Co-rewarding-II (found as `pkg://co_rewarding_ii.config`): YAML, and a dataclass block that is
registered when Hydra imports this package."""

from co_rewarding_ii.settings import TeacherSettings

TeacherSettings.register()
