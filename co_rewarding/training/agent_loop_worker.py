# SPDX-License-Identifier: Apache-2.0
"""verl's agent-loop workers with one loop for all rows of ours, instead of one a response.

verl makes a loop for each response from its configuration, which Hydra copies and resolves every time: most of what a
worker does for a response (benchmarks/agent_loop.py). Our loop keeps nothing of a response, so one serves them all.

How it is reached: `actor_rollout_ref.rollout.agent.agent_loop_manager_class`.
"""

from typing import Any

import ray
from verl.experimental.agent_loop.agent_loop import DictConfigWrap, ToolListWrap
from verl.trainer.ppo.v1.agent_loop_tq import AgentLoopManagerTQ, AgentLoopWorkerTQ
from verl.utils.rollout_trace import rollout_trace_attr

from co_rewarding.training.agent_loop import AGENT_LOOP, GroupRewardAgentLoop


class GroupRewardAgentLoopWorker(AgentLoopWorkerTQ.__ray_metadata__.modified_class):
    """Overrides `_run_agent_loop`, for rows of our loop that nobody traces."""

    _loop: GroupRewardAgentLoop | None = None

    async def _run_agent_loop(
        self, sampling_params: dict[str, Any], trajectory: dict[str, Any], *, agent_name: str, trace: bool = True, **row
    ) -> None:
        if agent_name != AGENT_LOOP or trace:
            return await super()._run_agent_loop(sampling_params, trajectory, agent_name=agent_name, trace=trace, **row)
        if self._loop is None:
            self._loop = self._make_loop()
        with rollout_trace_attr(trace=False):
            output = await self._loop.run(sampling_params, **row)
            return await self._agent_loop_postprocess(output, trajectory["validate"], **row)

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
    """Overrides `__init__`: whose workers."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.agent_loop_workers_class = ray.remote(GroupRewardAgentLoopWorker)
