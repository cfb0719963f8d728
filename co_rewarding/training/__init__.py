# SPDX-License-Identifier: Apache-2.0
"""What is added to verl 0.9.1, through its own seams. One step, with what is ours marked *:

    dataset * → trainer * tags rows with question and view → verl's agent loop + vLLM (agent_loop *) → responses
    (rollout_io *) → verl's old log-probabilities (engine *) → answers → vote → rewards (reward_manager *, which asks
    co_rewarding.algo) → `rm_scores` → verl's GRPO advantage, KL, update → run_monitor * looks for signs of collapse

Before that: launch starts a run after preflight has checked everything that can be checked without Ray; settings are
our blocks of the configuration, config/ what differs from verl's. checkpoint says from which step a run resumes.

No self-rewarding method reads a ground truth for its reward. The guarantee is the first of these, the others make a
mistake harmless:

1. the function that takes the vote has no argument for one, and a rollout no field (algo.rewards, algo.rollouts);
2. training rows carry none where verl's per-response reward looks (rollout_io.hide_ground_truth);
3. a training response has reward 0 from its rollout on (agent_loop), so that a vote that is missed teaches nothing.
"""
