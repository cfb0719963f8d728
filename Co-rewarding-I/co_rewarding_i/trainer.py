# SPDX-License-Identifier: Apache-2.0
"""Co-rewarding-I adds one thing to a training step: every question is rolled out in both of its wordings.

The joint loss. Both views are rows of one batch, so the loss that verl minimises is one average over all of them. With
`loss_agg_mode=seq-mean-token-mean` (the paper's Eq. 4: mean over tokens, then over sequences) and as many sequences in
each view, that average is ½ (J(original) + J(rephrased)): half the paper's objective, so the same direction, and a
factor that AdamW cancels (up to its ε and the gradient clip). With `token-mean` it is the mean weighted by each view's
number of tokens: the longer view counts more. tests/test_joint_loss.py shows both on verl's own loss. Advantages are
normalised within a view's group in either case, because each (question, view) has a uid of its own.
"""

import uuid

from tensordict import TensorDict
from verl.utils import tensordict_utils as tu

from co_rewarding import batch_io
from co_rewarding.trainer import GroupRewardTrainer
from co_rewarding_i.dataset import REPHRASED_PROMPT


class CoRewardingITrainer(GroupRewardTrainer):
    """Overrides `_fetch_one_gen_batch`: P questions become 2 P prompts, original wordings first."""

    views = ("original", "rephrased")

    def _fetch_one_gen_batch(self) -> TensorDict:
        original = super()._fetch_one_gen_batch()
        rephrased_prompts = batch_io.column(original, REPHRASED_PROMPT)
        del original[REPHRASED_PROMPT]
        rephrased = batch_io.with_column(original, "raw_prompt", rephrased_prompts.__getitem__)
        rephrased = batch_io.with_column(rephrased, batch_io.VIEW, lambda _: self.views[1])
        rephrased = batch_io.with_column(rephrased, "uid", lambda _: str(uuid.uuid4()))
        return tu.concat_tensordict([original, rephrased])
