# SPDX-License-Identifier: Apache-2.0
"""What a vote pays: the third switch of a consensus method, besides who votes and on which view.

    c(y)     = the class that ans(y) joins: the first whose first member it is equivalent to; none if no voter gave it
    share(y) = votes of c(y) / rollouts of the voting group, 0 without c(y)

    hard       1 if ans(y) is equivalent to the pseudo-label, else 0        (arXiv 2508.00410, Eq. 6-11)
    soft       share(y) if the vote has a label, else 0                     (EMPO, arXiv 2504.05812)
    negative   1 if ans(y) is equivalent to the pseudo-label; otherwise -1 if share(y) < TAIL_SHARE or y states no
               answer; otherwise 0                                          (after SCRL, arXiv 2603.19880)

The voters are the method's, so under Co-rewarding-I, II and III the shares come from another group than the paid one,
and an answer that no voter gave has no share.

Abstention is not a payout but majority_vote's minimum: below `min_agreement` there is no label, and under hard and soft
the whole group earns 0. Under negative a weak consensus does not show what is right, but still what is wrong: the tail
earns -1 and the rest 0.

soft is EMPO's reward, in which the cluster of an answer is its class; EMPO also leaves out questions whose answers have
a very low or very high entropy, which is not implemented here (`min_agreement` leaves out the dispersed ones). SCOPE
(arXiv 2512.15146) makes rewards finer in another way, by confidence and subgroups of the rollouts; that is not
implemented either.

negative is SCRL's reward in its binary form, {1, 0, -1}, with these differences:
- SCRL's threshold for a label is `min_agreement` here (its runs: 0.375 of 32 votes), and there is no second one for the
  distance of the two largest classes;
- SCRL counts an answer as wrong only if its rollouts are also less certain than the group's mean (entropy of the
policy's tokens). A payout sees only answers, so the tail here is larger;
- the vote may be another group's, and counts equivalence classes instead of strings.
As in SCRL's code a response without an answer earns -1: with 0 it would earn more than a wrong one.

Degenerate cases: without a vote, or if no voter stated an answer, every reward is 0, under negative too. A lone answer
of 8 rollouts is tail (1/8 < 0.15), one of 6 or fewer is not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

from co_rewarding.algo.voting import Vote

Payout = Literal["hard", "soft", "negative"]
PAYOUTS: tuple[Payout, ...] = get_args(Payout)

TAIL_SHARE = 0.15
"""Classes with a smaller share are the tail: the default of SCRL's code (its runs: 0.125 of 32 votes)."""


def pay(payout: Payout, vote: Vote | None, answer: str | None, same: Callable[[str, str], bool]) -> float:
    """What a vote pays for an answer.

    Args:
        vote: of the group that labels this one; None: that group has no rollouts.
        answer: None for a response without one.
        same: the equivalence of answers.

    Raises:
        ValueError: there is no such payout.
    """
    if payout not in PAYOUTS:
        raise ValueError(f"payout {payout!r} is unknown: use one of {', '.join(PAYOUTS)}")
    if vote is None or not vote.classes:
        return 0.0
    if payout == "soft":
        return share(vote, answer, same) if vote.pseudo_label is not None else 0.0
    if vote.pseudo_label is not None and answer is not None and same(vote.pseudo_label, answer):
        return 1.0
    if payout == "hard" or share(vote, answer, same) >= TAIL_SHARE:
        return 0.0
    return -1.0  # the tail, and no answer, whose share is 0


def share(vote: Vote, answer: str | None, same: Callable[[str, str], bool]) -> float:
    """0-1, share of the answer's class among all rollouts of the voting group; 0 if none gave it."""
    if answer is None:
        return 0.0
    return next((votes / vote.num_rollouts for member, votes in vote.classes if same(member, answer)), 0.0)
