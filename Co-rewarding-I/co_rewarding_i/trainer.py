# SPDX-License-Identifier: Apache-2.0
"""Co-rewarding-I adds one thing to a training step: every question is rolled out in both views.

The joint loss. Both views are rows of one batch, so the loss that verl minimises is one average over all of them. With
`loss_agg_mode=seq-mean-token-mean` (the paper's Eq. 4: mean over tokens, then over sequences) and as many sequences in
each view, that average is ½ (J(original) + J(rephrased)): half the paper's objective, so the same direction, and a
factor that AdamW cancels (up to its ε and the gradient clip). With `token-mean` it is the mean weighted by each view's
number of tokens: the longer view counts more. tests/trees/test_joint_loss.py shows both on verl's own loss.
Advantages are normalised within a view's group in either case, because each (question, view) has its own uid.
"""

from tensordict import TensorDict

from co_rewarding.training.dataset import with_rephrased
from co_rewarding.training.trainer import GroupRewardTrainer


class CoRewardingITrainer(GroupRewardTrainer):
    """Overrides `_fetch_one_gen_batch`: P questions become 2 P prompts, originals first."""

    def _fetch_one_gen_batch(self) -> TensorDict:
        return with_rephrased(super()._fetch_one_gen_batch())
