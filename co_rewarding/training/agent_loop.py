# SPDX-License-Identifier: Apache-2.0
"""verl's single-turn rollout for rows that are rewarded in groups. Registered with the engine (training.engine).

Two differences, for the rows that ask for this loop (training rows; validation keeps verl's own):
- the response has reward 0 at once and skips verl's reward loop, which cannot compute a group's reward and costs one
more round trip a response;
- a row may bring its own sampling settings (Co-rewarding-II's teacher); verl would use the
student's.
"""

from typing import Any

from verl.experimental.agent_loop.agent_loop import AgentLoopOutput, register
from verl.experimental.agent_loop.single_turn_agent_loop import SingleTurnAgentLoop

AGENT_LOOP = "group_reward"
SAMPLING = "sampling"  # optional column, e.g. {"temperature": …}
STOP_DECIDED = "stop_decided"  # optional column, bool, of a prompt that only votes (agent_loop_worker.py)
NUM_ROLLOUTS = "__rollout_n__"  # optional column, verl's: rollouts of the prompt, instead of rollout.n


@register(AGENT_LOOP)
class GroupRewardAgentLoop(SingleTurnAgentLoop):
    """Overrides `run`, see above."""

    async def run(self, sampling_params: dict[str, Any], **row: Any) -> AgentLoopOutput:
        output = await super().run(sampling_params | row.get(SAMPLING, {}), **row)
        output.reward_score = 0.0
        output.extra_fields["reward_extra_info"] = {}
        return output
