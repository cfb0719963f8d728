# SPDX-License-Identifier: Apache-2.0
"""Runs as one HTML page: table, curves, and a sample of rollouts to browse: wordings, answers, votes, rewards.

The page needs nothing but itself and holds no script: it is browsed by unfolding, and filtered by style sheet alone.
Rollouts are text of a model: whatever they hold is shown, never interpreted. Markup is escaped, control characters are
spelled out (tools.cli.visible), a content policy in the page forbids scripts and requests, and
long texts are cut at RESPONSE_CHARS.

The sample is random: `num_questions` of each of `num_steps` steps, spread evenly from the first dumped to the last. All
rollouts of a question are on the page, equal responses once with their number.

Whether a label is right is told as far as spelling and exact numbers go; "unclear" needs algebra, which metrics have
done (label/accuracy) and a page does not do again. A dump without ground truth has neither. Of a method that rewards
without labels (self_certainty, random ...) nothing is said of labels.

Deliberately absent: reading metrics (co_rewarding.tools.report.runs), drawing (co_rewarding.tools.report.figures).
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from random import Random
from typing import Any

from co_rewarding.algo.equivalence.reader import read
from co_rewarding.algo.equivalence.values import same_value, unread
from co_rewarding.storage.files import parse_jsonl
from co_rewarding.storage.run_dir import RunDir
from co_rewarding.tools.cli import visible
from co_rewarding.tools.report.figures import PANELS, WINDOW, Panel, distinct_names, svg
from co_rewarding.tools.report.runs import Run
from co_rewarding.tools.report.summary import ABSENT, rewards_without_label, summary

RESPONSE_CHARS, PROMPT_CHARS, ANSWER_CHARS, TITLE_CHARS = 4000, 4000, 120, 140
Row = Mapping[str, Any]

FILTERS = {
    "all": "all",
    "wrong": "a label is wrong",
    "right": "all labels are right",
    "unclear": "unclear",
    "mixed": "rewards differ in a group",
    "none": "a group without a label",
}

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --bar: #0072b2; --bad: #c2410c; --good: #15803d; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 76rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin: 2.5rem 0 .5rem; }
h3 { font-size: 1rem; margin: 1.5rem 0 .4rem; }
h1, h2, h3, td, th, summary { overflow-wrap: anywhere; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: .15rem 1.2rem .15rem 0; } th { font-weight: 600; }
img { width: 100%; background: #fff; border-radius: .3rem; }
.filter { position: sticky; top: 0; background: Canvas; border-bottom: 1px solid var(--line); padding: .5rem 0;
  z-index: 1; }
.filter label { margin-right: 1rem; white-space: nowrap; }
nav a { margin-right: .8rem; }
details.q { border: 1px solid var(--line); border-radius: .3rem; margin: .4rem 0; padding: .4rem .8rem; }
summary { cursor: pointer; } .q > summary > b { font-weight: 600; }
.tag { font-size: .8rem; border: 1px solid var(--line); border-radius: 1rem; padding: 0 .5rem; margin-left: .4rem; }
.bad { color: var(--bad); } .good { color: var(--good); } .dim { opacity: .7; font-size: .9rem; }
.views { display: grid; grid-template-columns: repeat(auto-fit, minmax(22rem, 1fr)); gap: 1.5rem; margin: .6rem 0; }
.views > div { min-width: 0; }
.text { white-space: pre-wrap; overflow-wrap: anywhere; background: var(--soft); padding: .5rem .7rem;
  border-radius: .3rem; }
.bar { display: inline-block; height: .65rem; background: var(--bar); margin-right: .5rem; vertical-align: middle; }
.response { margin: .4rem 0; } .response p { margin: 0; }
"""


@dataclass(frozen=True)
class Question:
    """One question of one step: all its rollouts, by (view, voter)."""

    step: int
    name: str
    ground_truth: str | None
    groups: Mapping[tuple[str, str], Sequence[Row]]
    has_labels: bool = True  # its method rewards by labels

    @property
    def rewarded(self) -> dict[tuple[str, str], Sequence[Row]]:
        """The groups that are trained on."""
        return {key: rows for key, rows in self.groups.items() if any(row.get("reward") is not None for row in rows)}

    def verdicts(self) -> list[bool | None]:
        """Of each label that there is: right, wrong, or None where that takes algebra or there is no ground truth."""
        labels = [rows[0].get("label") for rows in self.rewarded.values()]
        return [_same(str(label), self.ground_truth) for label in labels if label is not None]

    def filters(self) -> set[str]:
        """The FILTERS that show this question."""
        found, verdicts = {"all"}, self.verdicts()
        if False in verdicts:
            found.add("wrong")
        elif None in verdicts:
            found.add("unclear")
        elif verdicts:
            found.add("right")
        if self.has_labels and len(verdicts) < len(self.rewarded):
            found.add("none")
        if any(len({row.get("reward") for row in rows}) > 1 for rows in self.rewarded.values()):
            found.add("mixed")
        return found


def sample_rollouts(run_dir: Path, last_step: int, num_steps: int, num_questions: int, seed: int) -> list[Question]:
    """A random sample of the dumped rollouts up to `last_step`; empty without a dump.

    Raises:
        ValueError: a dump is broken; names file and line.
    """
    layout = RunDir(run_dir)
    sample = []
    has_labels = True
    for step in _spread([step for step in layout.dumped_steps() if step <= last_step], num_steps):
        path = layout.rollouts_file(step)
        rows, _ = parse_jsonl(path.read_bytes(), str(path))
        has_labels = has_labels and not rewards_without_label(rows)  # of a run: in one step all may have earned 0
        questions: dict[str, dict[tuple[str, str], list[Row]]] = {}
        for row in rows:
            groups = questions.setdefault(str(row.get("question")), {})
            groups.setdefault((str(row.get("view")), str(row.get("voter"))), []).append(row)
        names = list(questions)
        chosen = sorted(Random(f"{seed} {step}").sample(range(len(names)), min(num_questions, len(names))))
        for name in (names[i] for i in chosen):
            groups = dict(sorted(questions[name].items()))
            truth = next(iter(groups.values()))[0].get("ground_truth")
            sample.append(Question(step, name, None if truth in (None, "") else str(truth), groups))
    return [replace(question, has_labels=has_labels) for question in sample]


def page(
    runs: Sequence[Run],
    samples: Sequence[Sequence[Question]],
    title: str = "",
    panels: Sequence[Panel] = PANELS,
    window: int = WINDOW,
) -> str:
    """The complete page.

    Args:
        samples: of each run, as `sample_rollouts` gives them.
    """
    title = title or "Co-rewarding: " + ", ".join(run.name for run in runs)
    names = distinct_names(runs)
    curves = base64.b64encode(svg(runs, panels=panels, window=window)).decode()
    hidden = "".join(
        f"body:has(#show-{name}:checked) details.q:not(.{name}) {{ display: none; }}\n"
        for name in FILTERS
        if name != "all"
    )
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">",
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{_html(title, TITLE_CHARS)}</title><style>{_STYLE}{hidden}</style></head><body>",
        f"<h1>{_html(title, TITLE_CHARS)}</h1>",
        _table(runs, names),
        *(f'<p class="dim">{_html(note, 500)}</p>' for run in runs for note in run.notes),
        f'<p><img alt="curves of the runs against training steps" src="data:image/svg+xml;base64,{curves}"></p>',
    ]
    if any(samples):
        parts += ["<h2>Sampled rollouts</h2>", _filter(samples)]
    for i, (name, questions) in enumerate(zip(names, samples, strict=True)):
        if not questions:
            continue
        steps = sorted({question.step for question in questions})
        parts.append(f"<h2>{_html(name, TITLE_CHARS)}</h2>")
        parts.append("<nav>" + "".join(f'<a href="#r{i}s{step}">step {step}</a>' for step in steps) + "</nav>")
        for step in steps:
            parts.append(f'<h3 id="r{i}s{step}">Step {step}</h3>')
            parts += [_question(question) for question in questions if question.step == step]
    parts.append("</body></html>")
    return "\n".join(parts) + "\n"


def _spread(steps: Sequence[int], number: int) -> list[int]:
    """At most `number` of `steps`, evenly, the last among them and, from two on, the first."""
    if len(steps) <= number:
        return list(steps)
    if number == 1:
        return [steps[-1]]
    return [steps[round(i * (len(steps) - 1) / (number - 1))] for i in range(number)]


def _same(label: str, truth: str | None) -> bool | None:
    """None where there is no truth, or math-verify would have to be asked."""
    if truth is None:
        return None
    values = read(label), read(truth)
    return same_value(*values) or (None if any(map(unread, values)) else False)


def _table(runs: Sequence[Run], names: Sequence[str]) -> str:
    columns = [summary(run) for run in runs]
    rows = dict.fromkeys(row for column in columns for row in column)
    head = "".join(f"<th>{_html(name, TITLE_CHARS)}</th>" for name in names)
    body = "".join(
        f"<tr><th>{_html(row, TITLE_CHARS)}</th>"
        + "".join(f"<td>{_html(column.get(row, ABSENT), TITLE_CHARS)}</td>" for column in columns)
        + "</tr>"
        for row in rows
    )
    legend = "* mean of the first 3 → mean of the last 3 steps, ± standard error, – not logged"
    return f'<table><tr><th></th>{head}</tr>{body}</table><p class="dim">{legend}</p>'


def _filter(samples: Sequence[Sequence[Question]]) -> str:
    counts = Counter(name for questions in samples for question in questions for name in question.filters())
    options = "".join(
        f'<label><input type="radio" name="show" id="show-{name}"{" checked" if name == "all" else ""}> '
        f"{words} ({counts[name]})</label>"
        for name, words in FILTERS.items()
        if counts[name]
    )
    return f'<div class="filter">Show: {options}</div>'


def _question(question: Question) -> str:
    first = next(iter(question.groups.values()))[0]
    tags = []
    for (view, _), rows in question.rewarded.items():
        label = rows[0].get("label")
        if label is None:
            if question.has_labels:
                tags.append(f'<span class="tag">{_html(view, 20)}: no label</span>')
            continue
        verdict = _same(str(label), question.ground_truth)
        colour = {True: " good", False: " bad", None: ""}[verdict]
        word = {True: " ✓", False: " ✗", None: ""}[verdict]
        tags.append(f'<span class="tag{colour}">{_html(view, 20)}: {_html(str(label), 40)}{word}</span>')
    truth = "" if question.ground_truth is None else f"truth {_html(question.ground_truth, 60)}"
    summary_line = (
        f"<summary><b>{_html(question.name, 40)}</b> {_html(_last_line(first.get('prompt')), TITLE_CHARS)}"
        f' <span class="dim">{truth}</span>{"".join(tags)}</summary>'
    )
    views: dict[str, list[str]] = {}
    for (view, voter), rows in question.groups.items():
        if view not in views:
            text = _html(str(rows[0].get("prompt")), PROMPT_CHARS)
            views[view] = [f'<p class="dim">{_html(view, 20)} wording</p><div class="text" dir="auto">{text}</div>']
        views[view].append(_group(voter, rows, question.has_labels))
    columns = "".join(f"<div>{''.join(parts)}</div>" for parts in views.values())
    classes = " ".join(["q", *sorted(question.filters())])
    return f'<details class="{classes}">{summary_line}<div class="views">{columns}</div></details>'


def _group(voter: str, rows: Sequence[Row], has_labels: bool) -> str:
    label = rows[0].get("label")
    if all(row.get("reward") is None for row in rows):
        heading = "which only vote"
    elif label is None:
        heading = "no label: all earn 0" if has_labels else "rewarded without a label"
    else:
        heading = f"rewarded by the label <b>{_html(str(label), ANSWER_CHARS)}</b>"
    answers = Counter((row.get("answer"), row.get("reward")) for row in rows)
    tally = "".join(
        f'<tr><td><span class="bar" style="width:{6 * count / len(rows):.2f}rem"></span>{count} ×</td>'
        f"<td>{_answer(answer)}</td><td>{_reward(reward)}</td></tr>"
        for (answer, reward), count in answers.most_common()
    )
    responses = Counter((str(row.get("response")), row.get("answer"), row.get("reward")) for row in rows)
    texts = "".join(
        f'<div class="response"><p class="dim">{count} × {_answer(answer)} {_reward(reward)}</p>'
        f'<div class="text" dir="auto">{_html(text, RESPONSE_CHARS)}</div></div>'
        for (text, answer, reward), count in responses.most_common()
    )
    told = f"{len(responses)} different responses" if len(responses) > 1 else "the response"
    return (
        f"<p>{len(rows)} rollouts of the {_html(voter, 20)}, {heading}</p><table>{tally}</table>"
        f"<details><summary>{told}</summary>{texts}</details>"
    )


def _answer(answer: Any) -> str:
    return "<i>no answer</i>" if answer is None else _html(str(answer), ANSWER_CHARS)


def _reward(reward: Any) -> str:
    if not isinstance(reward, int | float):
        return ""
    if reward not in (0, 1):  # a certainty or an entropy: how good it is only others tell
        return f"reward {reward:g}"
    return f'<span class="{"good" if reward else "bad"}">reward {reward:g}</span>'


def _last_line(prompt: Any) -> str:
    lines = [line.strip() for line in str(prompt).splitlines() if line.strip()]
    return lines[-1] if lines else ""


def _html(text: str, limit: int) -> str:
    return escape(visible(text, limit), quote=True)
