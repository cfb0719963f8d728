# SPDX-License-Identifier: Apache-2.0
"""verl's single-turn rollout with the teacher's own sampling. Found by verl through `agent_loops.yaml`.

verl samples every training prompt with `rollout.temperature` and `rollout.top_p`, the student's. A row that asks for
the agent loop "teacher" is sampled with what its column says instead.
"""

from pathlib import Path
from typing import Any

from verl.experimental.agent_loop.agent_loop import AgentLoopOutput
from verl.experimental.agent_loop.single_turn_agent_loop import SingleTurnAgentLoop

AGENT_LOOPS = Path(__file__).parent / "agent_loops.yaml"
AGENT_LOOP = "teacher"
SAMPLING = "teacher_sampling"  # column: {"temperature": …, "top_p": …}


class TeacherAgentLoop(SingleTurnAgentLoop):
    async def run(self, sampling_params: dict[str, Any], **row: Any) -> AgentLoopOutput:
        return await super().run(sampling_params | row[SAMPLING], **row)
