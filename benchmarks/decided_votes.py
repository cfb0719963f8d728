#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Savings of STOP_DECIDED=True computed from a run's dumps: tokens, and length of the longest rollout.

Calculated, not measured: all rollouts of a step start together and write a token at a time, as when vLLM has room for
all of them, and those of a decided vote end at once. If rollouts wait for room, unstarted ones are saved completely, so
the real savings are larger. Needs a dump of a run without the switch; with --voter student any run's, read as if its
student voted.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path
from statistics import fmean
from typing import Any

from co_rewarding.algo.answer_format import recorded
from co_rewarding.algo.decided import OpenVote
from co_rewarding.algo.equivalence.relation import Equivalence
from co_rewarding.storage.dumps import dump_rows
from co_rewarding.storage.run_dir import RunDir
from co_rewarding.storage.stated_as import ANSWER_FORMAT


def decided_after(rows: list[dict[str, Any]], vote: OpenVote) -> int | None:
    """Tokens after which the vote of a group is decided; None: not before its last rollout ends."""
    for row in sorted(rows, key=lambda row: row["tokens"])[:-1]:
        if vote.add(recorded(row["answer"], row.get(ANSWER_FORMAT) or "")):
            return row["tokens"]
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run_dir", type=Path, help="runs/co-rewarding/RUN_NAME")
    parser.add_argument("--voter", choices=("teacher", "student"), default="teacher")
    parser.add_argument("--min_agreement", type=float, default=0.0, help="default: %(default)s")
    args = parser.parse_args()
    same, run = Equivalence("string").same, RunDir(args.run_dir)
    groups = decided = tokens = saved = 0
    longest, longest_then = [], []  # of each step
    for step in run.dumped_steps():
        of_group: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
        for row in dump_rows(run.rollouts_file(step)):
            if row["voter"] == args.voter:
                of_group[row["question"], row["view"]].append(row)
        lengths, ends = [], []
        for rows in of_group.values():
            after = decided_after(rows, OpenVote(len(rows), same, args.min_agreement))
            lengths_G = [row["tokens"] for row in rows]
            groups, decided = groups + 1, decided + (after is not None)
            lengths.append(max(lengths_G))
            ends.append(lengths[-1] if after is None else after)
            tokens, saved = tokens + sum(lengths_G), saved + sum(max(0, n - ends[-1]) for n in lengths_G)
        if lengths:
            longest.append(max(lengths))
            longest_then.append(max(ends))
    if not groups:
        parser.error(f"{args.run_dir}: its dumps have no rollout of the {args.voter}")
    print(
        f"{groups} votes of the {args.voter} in {len(longest)} steps, {decided / groups:.0%} decided before their end"
    )
    print(f"{saved / tokens:.1%} of {tokens} tokens saved")
    print(
        f"longest rollout of a step: {fmean(longest):.0f} tokens, then {fmean(longest_then):.0f} (means over the steps)"
    )


if __name__ == "__main__":
    main()
