# SPDX-License-Identifier: Apache-2.0
"""Control: a fair coin decides.

    reward of y = 1 with probability 1/2, whatever y says, else 0

On some models it still improves a benchmark ("Spurious Rewards", arXiv 2506.10947); there the other methods' gains
prove little.

The coin depends on the step's seed, the row's group and its place in the group, not on the response or the order of
groups in the batch. Degenerate cases: none; a response without an answer earns 1 as often as any.
"""

import hashlib
from collections import Counter

from co_rewarding.algo.rewards import without_labels
from co_rewarding.algo.rollouts import RewardInputs, Scores


def rewards(inputs: RewardInputs) -> Scores:
    place_in_group: Counter = Counter()
    coins = []
    for row in inputs.rollouts:
        group = (row.question, row.view, row.voter)
        key = repr((inputs.seed, row.question, row.view, place_in_group[group])).encode(errors="backslashreplace")
        coins.append(float(hashlib.blake2b(key, digest_size=1).digest()[0] & 1))
        place_in_group[group] += 1
    return without_labels(inputs.rollouts, coins)
