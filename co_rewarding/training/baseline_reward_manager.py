# SPDX-License-Identifier: Apache-2.0
"""The baselines and controls under the same trainer (arXiv 2508.00410, Appendix C.1): one file each in this folder.

To add a label-free reward: a file like format_only.py here, with the same `rewards`, and a line in
algo/methods.py. What it may look at is co_rewarding.algo.rewards.Step: answers, texts, lengths. A new statistic of
the logits also needs a column in co_rewarding/algo/token_statistics.py and its engine.
"""

from co_rewarding.algo.methods import METHODS
from co_rewarding.training.reward_manager import GroupRewardManager


class BaselineRewardManager(GroupRewardManager):
    methods = tuple(name for name, method in METHODS.items() if method.is_baseline)
