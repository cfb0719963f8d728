# SPDX-License-Identifier: Apache-2.0
"""verl's agent-loop workers with one shared loop for our rows, and with early stopping of decided votes.

One loop: verl builds one for each response, and Hydra copies and resolves its configuration every time, which is most
of a worker's time per response (benchmarks/agent_loop.py). Ours keeps no state of a response, so one serves all.

Decided votes, for prompts whose row requests it (co_rewarding.algo.decided): a worker has all rollouts of a prompt.
Once the finished ones decide the vote, it stops the others, which enter the queue with the text so far and the mark
`stopped`. Answers are compared by spelling here, which is fast and never joins answers that the vote keeps apart; rows
whose answers are read by a user's function, which may be slow, always get the full vote.

How it is reached: `actor_rollout_ref.rollout.agent.agent_loop_manager_class`.
"""

from dataclasses import dataclass, field
from typing import Any

import ray
from verl.experimental.agent_loop.agent_loop import AgentLoopOutput, DictConfigWrap, ToolListWrap
from verl.trainer.ppo.v1.agent_loop_tq import AgentLoopManagerTQ, AgentLoopWorkerTQ
from verl.utils.rollout_trace import rollout_trace_attr

from co_rewarding.algo.answer_format import answer_format, own_function_of
from co_rewarding.algo.decided import OpenVote
from co_rewarding.algo.equivalence.relation import Equivalence
from co_rewarding.storage.stated_as import stated_as
from co_rewarding.training.agent_loop import AGENT_LOOP, NUM_ROLLOUTS, STOP_DECIDED, GroupRewardAgentLoop
from co_rewarding.training.rollout_io import STATED_AS, STOPPED
from co_rewarding.training.stoppable import Group, requests_of, stop


@dataclass
class _Prompt:
    """The rollouts of a prompt whose vote may be decided early."""

    vote: OpenVote
    requests: Group = field(default_factory=Group)


class GroupRewardAgentLoopWorker(AgentLoopWorkerTQ.__ray_metadata__.modified_class):
    """Overrides `__init__`, `_run_prompt` (opens a vote) and `_run_agent_loop`, for untraced rows of our loop."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._same = Equivalence("exact" if self.config.co_rewarding.equivalence == "exact" else "string").same
        self._loop: GroupRewardAgentLoop | None = None
        self._open: dict[str, _Prompt] = {}  # by uid

    async def _run_prompt(self, prompt: dict, sampling_params: dict, trajectory: dict, trace: bool = False) -> None:
        if STOP_DECIDED in prompt:
            prompt[STOPPED] = False  # a column of all rollouts of prompts that say whether
        if not prompt.pop(STOP_DECIDED, False) or own_function_of(self._stated_as(prompt)[0]):
            return await super()._run_prompt(prompt, sampling_params, trajectory, trace)
        uid, vote = prompt["uid"], OpenVote(prompt[NUM_ROLLOUTS], self._same, self.config.co_rewarding.min_agreement)
        self._open[uid] = _Prompt(vote)
        try:
            await super()._run_prompt(prompt, sampling_params, trajectory, trace)
        finally:
            del self._open[uid]

    async def _run_agent_loop(
        self, sampling_params: dict[str, Any], trajectory: dict[str, Any], *, agent_name: str, trace: bool = True, **row
    ) -> None:
        if agent_name != AGENT_LOOP or trace:
            return await super()._run_agent_loop(sampling_params, trajectory, agent_name=agent_name, trace=trace, **row)
        if self._loop is None:
            self._loop = self._make_loop()
        prompt = self._open.get(row["uid"])
        with rollout_trace_attr(trace=False):
            if prompt is None:
                output = await self._loop.run(sampling_params, **row)
            else:
                with requests_of(prompt.requests):
                    output = await self._loop.run(sampling_params, **row)
                row[STOPPED] = await self._voted(prompt, output, row)
            return await self._agent_loop_postprocess(output, trajectory["validate"], **row)

    async def _voted(self, prompt: _Prompt, output: AgentLoopOutput, row: dict[str, Any]) -> bool:
        """Count a finished rollout, stop the others if it decides the vote; return whether it was itself stopped."""
        if output.extra_fields.pop(STOPPED):
            if not output.response_ids:  # verl puts a reward on the last token
                output.response_ids, output.response_mask = [self.tokenizer.eos_token_id], [1]
            return True
        if not prompt.vote.is_decided and prompt.vote.add(self._answer(output, row)):
            await stop(prompt.requests)
        return False

    def _answer(self, output: AgentLoopOutput, row: dict[str, Any]) -> str | None:
        """As the vote will read it (rollout_io.read_responses)."""
        text = self.tokenizer.decode(output.response_ids, skip_special_tokens=True)
        spec, choices = self._stated_as(row)
        return answer_format(spec).extract(text, choices)

    def _stated_as(self, row: dict[str, Any]) -> tuple[str, tuple[str, ...]]:
        return stated_as(row[STATED_AS], self.config.co_rewarding.answer_format)

    def _make_loop(self) -> GroupRewardAgentLoop:
        return GroupRewardAgentLoop(
            trainer_config=DictConfigWrap(self.config),
            server_manager=self.llm_client,
            tokenizer=self.tokenizer,
            processor=self.processor,
            hf_model_type=self.hf_model_type,
            dataset_cls=self.dataset_cls,
            data_config=DictConfigWrap(self.config.data),
            tools=ToolListWrap(self.tools),
        )


class GroupRewardAgentLoopManager(AgentLoopManagerTQ):
    """Overrides `__init__`: the class of its workers."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.agent_loop_workers_class = ray.remote(GroupRewardAgentLoopWorker)
