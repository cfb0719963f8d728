# SPDX-License-Identifier: Apache-2.0
"""The paper (arXiv 2508.00410) as pure functions, without verl, Ray, vLLM or other rooms of this project.

Read in this order: rollouts.py (what a reward is computed from), answers.py, answer_format.py and equivalence/ (what
a response states, and when two answers are one), voting.py, payout.py, rewards.py (the rule of all four consensus
methods), label_flips.py, baselines/ and methods.py (the others, and all methods by name); then the teacher:
ema_schedule.py and ema.py. token_statistics.py is for the two baselines that need the policy's logits.
"""
