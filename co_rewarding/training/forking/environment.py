# SPDX-License-Identifier: Apache-2.0
"""Imported by the server first: sets the unset variables that verl gives Ray's processes."""

import os

from verl.trainer.constants_ppo import PPO_RAY_RUNTIME_ENV

for _name, _value in PPO_RAY_RUNTIME_ENV["env_vars"].items():
    os.environ.setdefault(_name, _value)
