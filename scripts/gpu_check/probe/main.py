# SPDX-License-Identifier: Apache-2.0
"""`python main.py MODULE KEY=VALUE …` is `python -m MODULE KEY=VALUE …` of a tree, with its trainer watched.

The tree's own main runs, with all its checks; only the trainer's name passed to `launch` differs.
"""

from __future__ import annotations

import runpy
import sys
from typing import Any

from gpu_check_notes import card_mib, note

from co_rewarding.training import launch as shipped

WATCHED = {
    "co_rewarding_i.trainer.CoRewardingITrainer": "gpu_check_probe.WatchedI",
    "co_rewarding_ii.orders.make_trainer": "gpu_check_probe.WatchedII",
}
launch = shipped.launch


def launch_watched(config: Any, trainer: str, checks: Any = ()) -> None:
    note("configuration is composed", card_mib=card_mib())
    launch(config, trainer=WATCHED[trainer], checks=checks)


if __name__ == "__main__":
    shipped.launch = launch_watched  # imported by the tree's main
    runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
