# SPDX-License-Identifier: Apache-2.0
"""Reward of a group, and accuracy of a single validation response: the two halves of a reward manager.

verl would score each response during the rollout (`run_single`). A vote needs the whole group, so the trainer calls
`score_groups` once all rollouts of the step are done. Use of ground truths: co_rewarding/training/__init__.py.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

from verl import DataProto
from verl.experimental.reward_loop.reward_manager.base import RewardManagerBase

from co_rewarding.algo.answer_format import answer_format
from co_rewarding.algo.equivalence.relation import Equivalence
from co_rewarding.algo.methods import METHODS, Method, method, score_rollouts
from co_rewarding.algo.own_function import OwnFunctionError
from co_rewarding.algo.rollouts import RewardInputs, Scores, answers_by_question
from co_rewarding.storage.rows import content_sha256
from co_rewarding.storage.stated_as import ANSWER_FORMAT, CHOICES, stated_as
from co_rewarding.training.rollout_io import STATED_AS, Response
from co_rewarding.training.settings import Settings


class GroupRewardManager(RewardManagerBase):
    """Any method of co_rewarding.algo.methods, by name. A tree overrides `vote` with its rule.

    `num_views` and `has_teacher` say what a tree's trainer provides to a vote. Other rewards, and other terms of a sum,
    use what there is, but ground truths only if they declare it.
    """

    num_views: ClassVar[tuple[int, ...]] = (1,)  # possible numbers of views
    has_teacher: ClassVar[bool] = False

    def __init__(self, config: Any, tokenizer: Any, compute_score: Any = None, **_verl_reward_model: Any):
        super().__init__(config, tokenizer, compute_score)
        self.settings = Settings.read(config)
        self.check(self.settings.method)
        self.method = method(self.settings.method)
        self.equivalence = Equivalence(
            mode=self.settings.equivalence,
            timeout_s=self.settings.verify_timeout_s,
            workers=self.settings.verify_workers,
        )

    @classmethod
    def check(cls, name: str) -> None:
        """Raises: ValueError, this tree cannot compute the method's vote."""
        if not cls._can_be_taken(method(name)):
            possible = [built_in.name for built_in in METHODS.values() if cls._can_be_taken(built_in)]
            raise ValueError(
                f"co_rewarding.method={name}: must be one of {', '.join(possible)} here, your own function, or a "
                "weighted sum of these"
            )

    @classmethod
    def _can_be_taken(cls, method: Method) -> bool:
        num_views = 2 if method.needs_both_views else 1
        return not method.is_consensus or (num_views in cls.num_views and method.needs_teacher == cls.has_teacher)

    vote: ClassVar[Callable[..., Scores] | None] = None
    """A tree's rule for its vote, a method that takes RewardInputs."""

    def rewards(self, inputs: RewardInputs) -> Scores:
        """Labels and rewards of all rows of a step, in their order."""
        return score_rollouts(self.method, inputs, self.vote)

    def score_groups(
        self, responses: Sequence[Response], step: int, statistics: Mapping[str, Sequence[float | None]] | None = None
    ) -> Scores:
        """Labels and rewards of all responses of a step, in their order.

        Args:
            responses: N, of complete groups; the student's, and a teacher's if there is one.
            step: number of the step.
            statistics: those that the method needs, by name, N each.
        """
        rollouts = [response.rollout for response in responses]
        self.equivalence.prepare(answers_by_question(rollouts))
        return self.rewards(
            RewardInputs(
                rollouts,
                self.equivalence.same,
                min_agreement=self.settings.min_agreement,
                payout=self.settings.payout,
                ground_truths=[row.truth for row in responses] if self.method.needs_labels else None,
                statistics=statistics,
                texts=[response.text for response in responses],
                prompts=[response.prompt for response in responses],
                lengths=[response.length for response in responses],
                seed=1_000_003 * self.settings.seed + step,  # new random numbers when a question comes again
            )
        )

    def failures(self) -> dict[str, int]:
        """Counts of unreadable answers by kind since this process started (metrics verify/…)."""
        counts = self.equivalence.counts
        kinds = ("timeouts", "memory_kills", "crashes", "parse_failures", "over_budget")
        return {f"verify/{kind}": getattr(counts, kind) for kind in kinds}

    async def run_single(self, data: DataProto) -> dict[str, Any]:
        """verl's per-response hook, used in validation: the answer of a response, and whether it is right.

        Returns:
            `reward_score` 0.0 or 1.0 (0.0 without a ground truth), and the same keys for every row, which are dumped
            and feed the trainer's metrics: `acc` (the score, None without a ground truth), `pred` (the answer as
            written, "" without one), `length` (tokens), `question` (split and index of the row, "" without an index),
            `prompt_id` (a hash of the prompt, which differs between two views of a question), `answer_format` ("" for
            the default), `choices` (its options as JSON) and `failure` (the error of a user's function that reads
            answers, "" for none): raised here, verl would count the response as wrong.
        """
        item = data[-1]
        truth = item.non_tensor_batch["reward_model"]["ground_truth"]
        spec, choices = stated_as(item.non_tensor_batch[STATED_AS], self.settings.answer_format)
        response_T = item.batch["responses"]
        length = int(item.batch["attention_mask"][-response_T.shape[-1] :].sum())
        answer = correct = None
        failure = ""
        try:
            # a comparison may wait for another process and must not block the event loop
            answer, correct = await self.loop.run_in_executor(
                None, self._grade, response_T[:length], truth, spec, choices
            )
        except OwnFunctionError as error:
            failure = str(error)
        info = {
            "acc": None if correct is None else float(correct),
            "pred": answer or "",
            "length": length,
            "question": _name(item.non_tensor_batch["extra_info"] or {}),
            "prompt_id": prompt_id(item.non_tensor_batch["raw_prompt"]),
            ANSWER_FORMAT: spec,
            "failure": failure,
            CHOICES: json.dumps(choices, ensure_ascii=False) if choices else "",
        }
        return {"reward_score": float(correct or False), "reward_extra_info": info}

    def _grade(
        self, response_T: Any, ground_truth: str, spec: str, choices: Sequence[str]
    ) -> tuple[str | None, bool | None]:
        stated = answer_format(spec)
        answer = stated.extract(self.tokenizer.decode(response_T, skip_special_tokens=True), choices)
        truth = stated.truth(ground_truth, choices)
        if answer is None or truth is None:
            return answer, None if truth is None else False
        self.equivalence.prepare([[answer, truth]])  # the time of a step for each: no step here ever ends
        return answer, self.equivalence.same(answer, truth)


def _name(extra_info: Mapping[str, Any]) -> str:
    index = extra_info.get("index")
    return "" if index is None else f"{extra_info.get('split') or ''} {index}".lstrip()


def prompt_id(messages: Iterable[Mapping[str, Any]]) -> str:
    """A prompt's identity, the same in every validation: 16 hexadecimal digits."""
    return content_sha256([message["role"], message["content"]] for message in messages)[:16]
