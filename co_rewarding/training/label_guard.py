# SPDX-License-Identifier: Apache-2.0
"""Keeps the pseudo-labels of the last visits (co_rewarding.algo.label_flips) across a run and its checkpoints.

It decides rewards, so it is part of the resumed state and separate from the run monitor, which never affects a reward.
A step repeated after a kill is compared with the visits of the checkpoint, so it counts once.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from co_rewarding.algo.label_flips import Group, Visit, visits, withhold
from co_rewarding.algo.rollouts import Rollout, Same, Scores
from co_rewarding.storage.files import atomic_write_text
from co_rewarding.storage.run_dir import LABELS_FILE
from co_rewarding.training.console import say


class LabelGuard:
    """Withholds pseudo-labels that flipped more than `max_flips` times in a row."""

    def __init__(self, max_flips: int):
        self.max_flips = max_flips
        self.last: dict[Group, Visit] = {}

    def guarded(self, rollouts: Sequence[Rollout], scores: Scores, same: Same) -> Scores:
        """The scores of a step without the flipping labels; records the step's labels."""
        now = visits(self.last, scores.group_labels, same)
        self.last |= now
        return withhold(rollouts, scores, {group for group, visit in now.items() if visit.flips > self.max_flips})

    def save(self, folder: Path) -> None:
        """Write the visits into the folder of a checkpoint."""
        rows = [[question, view, visit.label, visit.flips] for (question, view), visit in self.last.items()]
        atomic_write_text(folder / LABELS_FILE, json.dumps(rows, ensure_ascii=False))

    def load(self, folder: Path) -> None:
        """Read them back; older checkpoints have none."""
        if not (folder / LABELS_FILE).is_file():
            say(f"{folder} has no {LABELS_FILE}: label flips are counted from this step on")
            return
        rows = json.loads((folder / LABELS_FILE).read_text(encoding="utf-8"))
        self.last = {(question, view): Visit(label, flips) for question, view, label, flips in rows}
