# SPDX-License-Identifier: Apache-2.0
"""Where tokens lie between brackets, whatever kind: [0, 1) is a pair."""

from __future__ import annotations

from collections.abc import Sequence

from co_rewarding.algo.equivalence.spelling import turn

Tokens = tuple[str, ...]


def closing(found: Tokens, at: int) -> int:
    """Place of the other half of the bracket at a place; -1 without one."""
    depth = 0
    for i in range(at, len(found)):
        depth += turn(found[i])
        if depth == 0:
            return i
    return -1


def split(found: Tokens, separators: Sequence[str]) -> list[Tokens]:
    """The pieces between separators outside of all brackets; one piece where the brackets do not match up."""
    depth, start, pieces = 0, 0, []
    for i, token in enumerate(found):
        depth += turn(token)
        if depth < 0:  # as inside of (1,2)\\cup(3,4), whose first and last bracket are no pair
            return [found]
        if depth == 0 and token in separators:
            pieces.append(found[start:i])
            start = i + 1
    return [*pieces, found[start:]] if depth == 0 else [found]


def outside(found: Tokens) -> list[str]:
    """The tokens outside of all brackets."""
    depth, tokens = 0, []
    for token in found:
        depth += turn(token)
        if depth == 0:
            tokens.append(token)
    return tokens
