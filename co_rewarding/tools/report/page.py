# SPDX-License-Identifier: Apache-2.0
"""Runs as one HTML page: table, curves, and a sample of rollouts to browse: views, answers, votes, rewards.

The page (templates/report.html.jinja) is self-contained and has no script: it is browsed by unfolding, and filtered by
style sheet. Rollouts are model text: shown, never interpreted.

The sample is random: `num_questions` of each of `num_steps` steps, spread evenly over the dumped steps. All rollouts of
a question are on the page, equal responses once with their count.

Verdicts and vote counts of labels use only spelling and exact numbers; "unclear" needs algebra, which the metrics do
(label/accuracy) and the page does not. A dump without ground truth has no verdicts, one of an unknown method no votes.
For methods without labels (self_certainty, random ...) no labels are shown.
"""

from __future__ import annotations

from base64 import b64encode
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from random import Random

from co_rewarding.algo.answers import TextAnswer
from co_rewarding.algo.equivalence.reader import read
from co_rewarding.algo.equivalence.text import text_key
from co_rewarding.algo.equivalence.values import same_value, unread
from co_rewarding.algo.methods import consensus_of
from co_rewarding.algo.rollouts import other_view
from co_rewarding.tools.report.figures import PANELS, WINDOW, Panel, looks, notes, shown_panels, svg
from co_rewarding.tools.report.runs import Rollout, Run, dumped_steps, read_rollouts
from co_rewarding.tools.report.summary import distinct_names, legend, rewards_without_label, table
from co_rewarding.tools.templates import render

FILTERS = {
    "all": "all",
    "wrong": "a label is wrong",
    "right": "all labels are right",
    "unclear": "unclear",
    "mixed": "rewards differ in a group",
    "none": "a group without a label",
}
MARKERS = dict(zip("os^*DvPX<>", "●■▲★◆▼✚✖◀▶", strict=True))


@dataclass(frozen=True)
class Group:
    """The rollouts of one voter on one view of a question."""

    view: str
    voter: str
    rollouts: list[Rollout] = field(default_factory=list)

    @property
    def is_rewarded(self) -> bool:
        return any(rollout.reward is not None for rollout in self.rollouts)

    @property
    def rewards(self) -> set[float]:
        """The different rewards of the trained rollouts."""
        return {rollout.reward for rollout in self.rollouts if rollout.reward is not None}

    @property
    def has_rewards(self) -> bool:
        """Whether any rollout earned a non-zero reward."""
        return bool(self.rewards - {0.0})

    @property
    def num_only_voting(self) -> int:
        return sum(rollout.only_votes for rollout in self.rollouts)

    @property
    def num_stopped(self) -> int:
        return sum(rollout.stopped for rollout in self.rollouts)

    @property
    def label(self) -> str | None:
        return self.rollouts[0].label

    @property
    def verdict(self) -> bool | None:
        """Whether the label is right; None if that needs algebra or there is no ground truth."""
        truth = self.rollouts[0].ground_truth
        return None if truth is None or self.label is None else _same(self.label, truth)

    @property
    def tally(self) -> list[tuple[tuple[str | None, float | None], int]]:
        """(answer, reward) and counts, most common first."""
        return Counter((rollout.answer, rollout.reward) for rollout in self.rollouts).most_common()

    @property
    def responses(self) -> list[tuple[Rollout, int]]:
        """Different responses and counts, most common first."""
        return Counter(self.rollouts).most_common()

    def votes_for(self, label: str) -> str:
        """ "2 of 8, tie": the votes of this group for `label`; "" if spelling and exact numbers do not decide."""
        answers = [rollout.answer for rollout in self.rollouts if rollout.answer is not None]
        classes: dict[str, int] = {label: 0}
        for answer in answers:
            is_same = {first: _same(first, answer) for first in classes}
            if None in is_same.values():
                return ""
            first = next((first for first, same in is_same.items() if same), answer)
            classes[first] = classes.get(first, 0) + 1
        votes = classes.pop(label)
        if votes < max(classes.values(), default=0) or not votes:
            return ""  # not the group that gave this label
        return f"{votes} of {len(self.rollouts)}" + (", tie" if votes in classes.values() else "")


@dataclass(frozen=True)
class Question:
    """One question of one step: all its rollouts, by view and voter."""

    step: int
    name: str
    groups: list[Group]
    method: str | None = None
    has_labels: bool = True  # its method uses labels

    @classmethod
    def of(cls, step: int, name: str, rollouts: Sequence[Rollout], method: str | None = None) -> Question:
        groups: dict[tuple[str, str], Group] = {}
        for rollout in rollouts:
            key = (rollout.view, rollout.voter)
            groups.setdefault(key, Group(*key)).rollouts.append(rollout)
        return cls(step, name, [groups[key] for key in sorted(groups)], method)

    @property
    def ground_truth(self) -> str | None:
        return self.groups[0].rollouts[0].ground_truth

    @property
    def rewarded(self) -> list[Group]:
        """The trained groups."""
        return [group for group in self.groups if group.is_rewarded]

    @property
    def views(self) -> dict[str, list[Group]]:
        return {group.view: [other for other in self.groups if other.view == group.view] for group in self.groups}

    def votes(self, group: Group) -> str:
        """The vote that labelled a group: "2 of 8, tie"; "" if its method has none or is unknown."""
        rule = consensus_of(self.method) if self.method else None
        if group.label is None or rule is None:
            return ""
        view = group.view if rule.label_view == "same" else other_view(group.view)
        voters = [voters for voters in self.groups if (voters.view, voters.voter) == (view, rule.voter)]
        return voters[0].votes_for(group.label) if voters else ""

    def filters(self) -> list[str]:
        """The FILTERS that show this question."""
        verdicts = [group.verdict for group in self.rewarded if group.label is not None]
        found = ["all"]
        if verdicts:
            found.append("wrong" if False in verdicts else "unclear" if None in verdicts else "right")
        if any(len(group.rewards) > 1 for group in self.rewarded):
            found.append("mixed")
        if self.has_labels and len(verdicts) < len(self.rewarded):
            found.append("none")
        return found


def sample_rollouts(run_dir: Path, run: Run, num_steps: int, num_questions: int, seed: int) -> list[Question]:
    """A random sample of the dumped rollouts of a run; empty without a dump.

    Raises:
        ValueError: a dump is broken; names file and line.
    """
    sample, has_labels = [], True
    for step in _spread(dumped_steps(run_dir, run), num_steps):
        rollouts = read_rollouts(run_dir, step)
        if not (run.method and consensus_of(run.method)):  # over a run: in one step all may have earned 0
            has_labels = has_labels and not rewards_without_label(rollouts)
        questions: dict[str, list[Rollout]] = {}
        for rollout in rollouts:
            questions.setdefault(rollout.question, []).append(rollout)
        names = list(questions)
        chosen = sorted(Random(f"{seed} {step}").sample(range(len(names)), min(num_questions, len(names))))
        sample += [(step, names[i], questions[names[i]], run.method) for i in chosen]
    return [replace(Question.of(*values), has_labels=has_labels) for values in sample]


def page(
    runs: Sequence[Run],
    samples: Sequence[Sequence[Question]],
    title: str = "",
    panels: Sequence[Panel] = PANELS,
    window: int = WINDOW,
) -> str:
    """The complete page.

    Args:
        samples: from `sample_rollouts` for each run.
    """
    shown = shown_panels(runs, panels)
    return render(
        "report.html",
        title=title or "Co-rewarding: " + ", ".join(run.name for run in runs),
        rows=table(runs).values.tolist(),
        legend=legend(runs),
        notes=[note for run in runs for note in run.notes],
        runs=list(zip(distinct_names(runs), looks(runs), samples, strict=True)),
        markers=MARKERS,
        panels=[(panel.title, b64encode(svg(runs, panel, window)).decode()) for panel in shown],
        panel_notes=notes(runs, shown, window),
        filters=FILTERS,
        counts=Counter(name for questions in samples for question in questions for name in question.filters()),
    )


def _spread(steps: Sequence[int], number: int) -> list[int]:
    """At most `number` of `steps`, evenly spaced, with the last and, from two on, the first."""
    if len(steps) <= number:
        return list(steps)
    if number == 1:
        return [steps[-1]]
    return [steps[round(i * (len(steps) - 1) / (number - 1))] for i in range(number)]


def _same(label: str, truth: str) -> bool | None:
    """None if math-verify would be needed."""
    if isinstance(label, TextAnswer):
        return text_key(label) == text_key(truth)
    return _same_value(label, truth)


@lru_cache(10_000)
def _same_value(label: str, truth: str) -> bool | None:
    values = read(label), read(truth)
    return same_value(*values) or (None if any(map(unread, values)) else False)
