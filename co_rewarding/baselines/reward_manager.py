# SPDX-License-Identifier: Apache-2.0
"""The baselines and controls under the same trainer: each method's reward by its name (arXiv 2508.00410, Appendix C.1).

To add a label-free reward: a file like entropy.py in this folder, a line in co_rewarding/methods.py, a case below.
"""

from collections.abc import Sequence

from co_rewarding.baselines.entropy import entropy_rewards
from co_rewarding.baselines.self_certainty import self_certainty_rewards
from co_rewarding.methods import METHODS
from co_rewarding.reward_manager import GroupRewardManager
from co_rewarding.rewards import Rollout, Scores, score_rollouts


class BaselineRewardManager(GroupRewardManager):
    # all that ask one wording and have no teacher
    methods = tuple(
        name for name, method in METHODS.items() if not method.needs_both_views and not method.needs_teacher
    )

    def score_groups(
        self,
        rollouts: Sequence[Rollout],
        step: int,
        *,
        ground_truths: Sequence[str] | None = None,
        statistics: Sequence[float | None] | None = None,
    ) -> Scores:
        """Labels and rewards of all rollouts of a step, in their order.

        Args:
            ground_truths: one a row, for the methods that need labels; the trainer gives them to no other.
            statistics: mean self-certainty or entropy of each response, for the methods that need logits.
        """
        match self.method.name:
            case "self_certainty":
                return self_certainty_rewards(rollouts, statistics)
            case "entropy":
                return entropy_rewards(rollouts, statistics)
        return score_rollouts(
            rollouts,
            self.method,
            self.equivalence.same,
            min_agreement=self.settings.min_agreement,
            ground_truths=ground_truths,
            seed=1_000_003 * self.settings.seed + step,  # other coins for a question that comes again
        )
