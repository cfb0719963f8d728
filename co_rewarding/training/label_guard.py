# SPDX-License-Identifier: Apache-2.0
"""Holds the labels of the last visits (co_rewarding.algo.label_flips) through a run and its checkpoints.

It decides rewards, so it is part of what a run resumes with, and apart from the run monitor, of which nothing
goes back into a reward. A step that is done again after a kill is compared with the visits of the checkpoint: it counts
once.
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
    """Withholds labels that flipped more than `max_flips` times in a row."""

    def __init__(self, max_flips: int):
        self.max_flips = max_flips
        self.last: dict[Group, Visit] = {}

    def guarded(self, rollouts: Sequence[Rollout], scores: Scores, same: Same) -> Scores:
        """The scores of a step without the labels that flip; records the step's labels."""
        now = visits(self.last, scores.group_labels, same)
        self.last |= now
        return withhold(rollouts, scores, {group for group, visit in now.items() if visit.flips > self.max_flips})

    def save(self, folder: Path) -> None:
        """Write the visits into the folder of a checkpoint."""
        rows = [[question, view, visit.label, visit.flips] for (question, view), visit in self.last.items()]
        atomic_write_text(folder / LABELS_FILE, json.dumps(rows, ensure_ascii=False))

    def load(self, folder: Path) -> None:
        """Read them back; the checkpoint of a run from before the guard has none."""
        if not (folder / LABELS_FILE).is_file():
            say(f"{folder} has no {LABELS_FILE}: flips of labels are counted from here on")
            return
        rows = json.loads((folder / LABELS_FILE).read_text(encoding="utf-8"))
        self.last = {(question, view): Visit(label, flips) for question, view, label, flips in rows}
