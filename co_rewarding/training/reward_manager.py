# SPDX-License-Identifier: Apache-2.0
"""Reward of a whole group, and accuracy of a single validation response: the two halves of a reward manager.

verl would score every response by itself while it is rolled out (`run_single`). A vote needs the whole group, so a
training response has reward 0 from its rollout (`training.agent_loop`) and the trainer asks `score_groups` once all
rollouts of the step are there. Should that be missed, the reward is 0 for all and nothing is learned: no ground truth
can leak in, because the rows of a training batch carry none where verl looks for it (`batch_io.hide_ground_truth`).
"""

from abc import ABC
from collections.abc import Sequence
from typing import Any, ClassVar

from verl import DataProto
from verl.experimental.reward_loop.reward_manager.base import RewardManagerBase

from co_rewarding.algo.answers import extract_answer
from co_rewarding.algo.equivalence.relation import Equivalence
from co_rewarding.algo.methods import METHODS
from co_rewarding.algo.rewards import Rollout, Scores, Step, score_rollouts
from co_rewarding.training.settings import Settings


class GroupRewardManager(RewardManagerBase, ABC):
    """Base of the reward managers; a subclass names the methods that it is for (`co_rewarding.algo.methods`)."""

    methods: ClassVar[tuple[str, ...]]

    def __init__(self, config: Any, tokenizer: Any, compute_score: Any = None, **_verl_reward_model: Any):
        super().__init__(config, tokenizer, compute_score)
        self.settings = Settings.from_mapping(config.co_rewarding)
        self.check(self.settings.method)
        self.method = METHODS[self.settings.method]
        self.equivalence = Equivalence(
            mode=self.settings.equivalence,
            timeout_s=self.settings.verify_timeout_s,
            workers=self.settings.verify_workers,
        )

    @classmethod
    def check(cls, method: str) -> None:
        """Raises: ValueError, the method is not one of this reward manager's."""
        if method not in cls.methods:
            raise ValueError(f"co_rewarding.method={method}: must be one of {', '.join(cls.methods)} here")

    def score_groups(
        self,
        rollouts: Sequence[Rollout],
        step: int,
        *,
        texts: Sequence[str] | None = None,
        lengths: Sequence[int] | None = None,
        ground_truths: Sequence[str | None] | None = None,
        statistics: Sequence[float | None] | None = None,
    ) -> Scores:
        """Labels and rewards of all rollouts of a step, in their order (see `co_rewarding.algo.rewards`).

        Args:
            texts, lengths: the responses and their tokens.
            ground_truths: one a row, for the methods that need labels; the trainer gives them to no other.
            statistics: one a row, for the methods that need logits.
        """
        return score_rollouts(
            self.method,
            Step(
                rollouts,
                self.equivalence.same,
                min_agreement=self.settings.min_agreement,
                ground_truths=ground_truths,
                statistics=statistics,
                texts=texts,
                lengths=lengths,
                seed=1_000_003 * self.settings.seed + step,  # other coins for a question that comes again
            ),
        )

    def failures(self) -> dict[str, int]:
        """Comparisons that ended without a verdict, by kind, since this process started (metrics verify/…)."""
        counts = self.equivalence.counts
        kinds = ("timeouts", "memory_kills", "crashes", "parse_failures")
        return {f"verify/{kind}": getattr(counts, kind) for kind in kinds}

    async def run_single(self, data: DataProto) -> dict[str, Any]:
        """verl's per-response hook, which validation uses: correctness against ground truth, 0 where there is none.

        Returns:
            `reward_score` 0.0 or 1.0, and for a row with a ground truth `acc` (the same number, which verl averages
            into val-core/<data_source>/acc/mean@n) and `pred` (the answer as written, "" without one).
        """
        item = data[-1]
        ground_truth = item.non_tensor_batch["reward_model"]["ground_truth"]
        if not ground_truth:
            return {"reward_score": 0.0, "reward_extra_info": {}}
        response_T = item.batch["responses"]
        length = int(item.batch["attention_mask"][-response_T.shape[-1] :].sum())
        # a comparison may wait for another process, so it must not hold up the event loop
        answer, correct = await self.loop.run_in_executor(None, self._grade, response_T[:length], ground_truth)
        return {"reward_score": float(correct), "reward_extra_info": {"acc": float(correct), "pred": answer or ""}}

    def _grade(self, response_T: Any, ground_truth: str) -> tuple[str | None, bool]:
        answer = extract_answer(self.tokenizer.decode(response_T, skip_special_tokens=True))
        return answer, answer is not None and self.equivalence.same(answer, ground_truth)
