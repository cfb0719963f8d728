# SPDX-License-Identifier: Apache-2.0
"""Figures of runs and the page of rollouts: what is drawn, what is sampled, and that hostile text is only shown."""

import base64
import json
import re
from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import matplotlib
import pytest
from matplotlib import pyplot as plt

from co_rewarding.algo.methods import METHODS
from co_rewarding.tools.report.figures import (
    ACCURACY,
    COLOURS,
    GAP,
    MARKERS,
    METHODS_IN_ORDER,
    PANEL_SETS,
    PANELS,
    REWARD,
    Panel,
    _draw_panel,
    draw,
    looks,
    notes,
)
from co_rewarding.tools.report.page import Question, page, sample_rollouts
from co_rewarding.tools.report.runs import Rollout, Run, read_run
from co_rewarding.tools.report.summary import distinct_names

HOSTILE = "</div><script>alert(1)</script><img src=x onerror=alert(2)>\"'&amp;\x1b[31mred\u202eevil\x00\u200b"
ACC = "val-core/toy/acc/mean@1"


def run(name: str, steps: int = 3, method: str | None = None, **metrics: float) -> Run:
    data = {step: {"timing_s/step": 1.0, "reward/mean": step / steps, **metrics} for step in range(1, steps + 1)}
    verdicts = {name: {step: {"": {"q": 1.0, "r": 0.0}} for step in data} for name in metrics if name == ACC}
    return Run(name, data, starts=1, verdicts=verdicts, method=method)


def question(rows: list[dict[str, Any]], method: str | None = None) -> Question:
    return Question.of(1, "q", [Rollout.of(row) for row in rows], method)


def rollout(question: str, answer: str | None, reward: float | None, **more: Any) -> dict[str, Any]:
    row = {"step": 1, "question": question, "view": "original", "voter": "student", "prompt": f"What is {question}?"}
    row |= {"response": f"\\boxed{{{answer}}}", "answer": answer, "label": "4", "reward": reward, "ground_truth": "4"}
    return row | more


def write_run(folder: Path, rows: dict[int, list[dict[str, Any]]]) -> Path:
    (folder / "metrics").mkdir(parents=True)
    (folder / "rollouts").mkdir()
    lines = [{"step": step, "data": {"timing_s/step": 1.0, "reward/mean": 0.5}} for step in rows]
    (folder / "metrics/1.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for step, dumped in rows.items():
        text = "".join(json.dumps(row) + "\n" for row in dumped)
        (folder / f"rollouts/{step}.jsonl").write_text(text)
    return folder


class Seen(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[str] = []
        self.text = ""
        self.feed(text)
        self.words = " ".join(self.text.split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


class TestFigures:
    def titles(self, folder: Path, *runs: Run, **options: Any) -> str:
        # text is drawn as outlines, and named in comments
        draw(runs, folder / "x.svg", **options)
        return "\n".join(re.findall(r"<!-- (.*?) -->", (folder / "x.svg").read_text()))

    def axis(self, panel: Panel, *runs: Run) -> matplotlib.axes.Axes:
        _, axis = plt.subplots()
        _draw_panel(axis, runs, panel, window=5)
        plt.close()
        return axis

    def test_a_panel_without_data_is_left_out(self, tmp_path: Path) -> None:
        texts = self.titles(tmp_path, run("a", **{"teacher/decay": 0.99, "collapse/length_limit": 0.1}))
        for shown in ("Reward mean", "Teacher’s decay α", "Repetition, length limit", "Seconds a step"):
            assert shown in texts
        for absent in ("Held-out accuracy", "Policy entropy", "needs ground truth"):
            assert absent not in texts

    def test_runs_are_named_and_told_apart(self, tmp_path: Path) -> None:
        one, other = run("same"), run("same")
        assert distinct_names([one, other, run("b")]) == ["same (1)", "same (2)", "b"]
        texts = self.titles(tmp_path, one, other)
        assert "same (1)" in texts and "same (2)" in texts
        assert "same" not in self.titles(tmp_path, one)  # one run needs no legend

    def test_notes_say_what_is_drawn(self, tmp_path: Path) -> None:
        assert "† needs ground truth" in self.titles(tmp_path, run("a", **{"label/accuracy": 0.5}))
        smoothed, error = "thin: each step, thick: mean of 5", "accuracies: 95 % interval over questions"
        assert notes([run("a", steps=20)], [REWARD]) == [smoothed]
        assert notes([run("a", steps=10)], [REWARD]) == []
        assert notes([run("a", steps=20, **{ACC: 0.5})], [ACCURACY]) == [error]  # validations are not smoothed

    def test_a_method_has_its_look_whatever_is_drawn_with_it(self) -> None:
        assert set(METHODS_IN_ORDER) == set(METHODS) and len(COLOURS) == len(MARKERS) == len(METHODS)
        every = {method: looks([run("a", method=method)])[0] for method in METHODS}
        for look in ({one.colour for one in every.values()}, {one.marker for one in every.values()}):
            assert len(look) == len(METHODS)
        one, two, unknown = run("1", method="co_rewarding_I"), run("2", method="co_rewarding_II"), run("?")
        for runs in ([one, two, unknown], [unknown, two, one], [two, one, one, unknown]):
            found = looks(runs)
            assert len(set(found)) == len(runs)
            assert found[runs.index(one)] == every["co_rewarding_I"]
            assert found[runs.index(two)] == every["co_rewarding_II"]
        assert len(set(looks([run("a")] * 100))) == 100
        assert self.axis(REWARD, two).lines[0].get_color() == every["co_rewarding_II"].colour  # also alone

    def test_the_gap_between_the_engines_is_seen_from_zero(self) -> None:
        gap = "training/rollout_probs_diff_mean"
        steps = {1: {gap: 3.4e-7}, 2: {gap: 3.7e-7}}
        low, high = self.axis(GAP, Run("a", steps, starts=1)).get_ylim()
        assert low == 0 and 3.7e-7 < high < 4.2e-7

    def test_an_accuracy_of_two_points_is_two_points(self) -> None:
        steps = {step: {ACC: 0.5} for step in (0, 2, 4)}
        of_step = {step: {"": {str(i): float(i % 2) for i in range(100)}} for step in steps}
        two, three = (
            Run("a", dict(list(steps.items())[:n]), starts=1, verdicts={ACC: of_step}, method="co_rewarding_I")
            for n in (2, 3)
        )
        axis = self.axis(ACCURACY, two, two)
        assert len(axis.containers) == 2 and all(line.get_linestyle() == "None" for line in axis.lines)
        (bars,) = axis.containers[0][2]  # t(99) sqrt(0.5 · 0.5 / 99) = 0.0997
        assert bars.get_segments()[0][:, 1] == pytest.approx([0.4003, 0.5997], abs=0.01)
        assert axis.lines[0].get_xdata()[0] != axis.containers[1].lines[0].get_xdata()[0]  # beside each other
        axis = self.axis(ACCURACY, three)
        assert not axis.containers and axis.lines[0].get_linestyle() == "-" and len(axis.collections) == 1

    def test_six_panels_are_the_first_to_see(self) -> None:
        assert len(PANEL_SETS["main"]) == 6 and PANEL_SETS["all"] is PANELS

    def test_the_same_runs_give_the_same_bytes(self, tmp_path: Path) -> None:
        for suffix in ("png", "svg", "pdf"):
            paths = [tmp_path / f"{i}.{suffix}" for i in range(2)]
            for path in paths:
                draw([run("a")], path, panels=(REWARD,))
            assert paths[0].read_bytes() == paths[1].read_bytes()

    def test_nothing_to_draw_and_odd_names(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="a logged none of the requested metrics"):
            draw([run("a")], tmp_path / "x.png", panels=(ACCURACY,))
        with pytest.raises(ValueError, match=r"must end in \.png"):
            draw([run("a")], tmp_path / "x.jpg")


class TestSample:
    def test_is_of_first_and_last_step_and_of_whole_questions(self, tmp_path: Path) -> None:
        rows = [rollout(f"q{i}", "4", 1.0) for i in range(5) for _ in range(3)]
        folder = write_run(tmp_path / "run", {step: rows for step in range(1, 11)})
        nine = read_run(folder).until(9)
        sample = sample_rollouts(folder, nine, num_steps=3, num_questions=2, seed=0)
        assert [question.step for question in sample] == [1, 1, 5, 5, 9, 9]  # not 10, which is beyond the last step
        assert all(len(question.groups[0].rollouts) == 3 for question in sample)
        assert sample == sample_rollouts(folder, nine, 3, 2, seed=0)
        others = [sample_rollouts(folder, nine, 3, 2, seed=seed) for seed in range(1, 6)]
        assert any(other != sample for other in others)
        assert [question.step for question in sample_rollouts(folder, nine, 1, 1, seed=0)] == [9]
        assert sample_rollouts(tmp_path, nine, 3, 2, seed=0) == []

    def test_a_broken_dump_is_named(self, tmp_path: Path) -> None:
        folder = write_run(tmp_path / "run", {1: [rollout("q", "4", 1.0)]})
        (folder / "rollouts/1.jsonl").write_text("[]\n{}\n")
        with pytest.raises(ValueError, match=r"1\.jsonl, line 1: not a JSON object"):
            sample_rollouts(folder, read_run(folder), 1, 1, seed=0)

    @pytest.mark.parametrize(
        ("rows", "shown_by"),
        [
            ([rollout("q", "4", 1.0), rollout("q", "4", 1.0)], {"all", "right"}),
            ([rollout("q", "4.0", 1.0), rollout("q", None, 0.0)], {"all", "right", "mixed"}),
            ([rollout("q", "5", 1.0, label="5")], {"all", "wrong"}),
            ([rollout("q", "5", 0.0, label=None)], {"all", "none"}),
            ([rollout("q", "x", 1.0, label=r"\sqrt{8}", ground_truth=r"2\sqrt{2}")], {"all", "right"}),
            ([rollout("q", "x", 1.0, label=r"\ell+\ell", ground_truth=r"2\ell")], {"all", "unclear"}),
            ([rollout("q", "4", 1.0), rollout("q", "5", 1.0, view="rephrased", label="5")], {"all", "wrong"}),
            # the teacher's rollouts vote and are not rewarded
            ([rollout("q", "4", 1.0), rollout("q", "5", None, voter="teacher", label=None)], {"all", "right"}),
        ],
    )
    def test_what_shows_a_question(self, rows: list[dict[str, Any]], shown_by: set[str]) -> None:
        assert set(question(rows).filters()) == shown_by

    @pytest.mark.parametrize(
        ("answers", "label", "votes"),
        [
            (["76", "76", "13", "13", "62", "62", None, "9"], "76", "2 of 8, tie"),
            (["4", "4.0", "5", None], "4", "2 of 4"),  # the same number
            (["5", "4"], "5", "1 of 2, tie"),
            (["5", "5", "4"], "4", ""),  # not the vote that gave this label
            (["4", r"\ell+\ell"], "4", ""),  # takes algebra
            ([None], "4", ""),
        ],
    )
    def test_votes_and_ties(self, answers: Sequence[str | None], label: str, votes: str) -> None:
        same = [rollout("q", answer, 1.0, label=label) for answer in answers]
        other = [rollout("q", "1", 0.0, view="rephrased", label=label)]
        teacher = [rollout("q", answer, None, voter="teacher", label=label) for answer in answers]
        for method, rows in (
            ("majority_voting", same + other),
            ("0.1*/gone/own.py:short+majority_voting", same + other),
            ("majority_voting_both_views", same + other),
            ("co_rewarding_II", [same[0] | {"answer": "1"}, *teacher]),
        ):
            asked = question(rows, method)
            assert asked.votes(asked.groups[0]) == votes
        for method in ("co_rewarding_I", "co_rewarding_I_same_wording"):
            asked = question(same + other, method)
            assert [group.view for group in asked.groups] == ["original", "rephrased"]
            assert asked.votes(asked.groups[1]) == votes  # the original view's
        for method in (None, "entropy", "ground_truth", "/gone/own.py:short"):
            asked = question(same, method)
            assert asked.votes(asked.groups[0]) == ""


class TestPage:
    def of(self, folder: Path, rows: list[dict[str, Any]], **options: Any) -> str:
        write_run(folder, {1: rows})
        return page([read_run(folder)], [sample_rollouts(folder, read_run(folder), 1, 10, seed=0)], **options)

    def test_holds_wordings_votes_and_rewards(self, tmp_path: Path) -> None:
        rows = [rollout("7", "4", 1.0)] * 3 + [rollout("7", None, 0.0, response="no idea")]
        rows += [rollout("7", "5", 0.0, view="rephrased", prompt="How much is it?")] * 2
        text = Seen(self.of(tmp_path / "r", rows)).words
        for part in (
            "original view", "What is 7?", "rephrased view", "How much is it?", "truth 4", "original: 4 ✓",
            "4 rollouts of the student, rewarded by the label 4", "3 ×", "no answer", "2 different responses",
            "no idea", "reward 1", "rewards differ in a group (1)",
        ):  # fmt: skip
            assert part in text, part

    def test_of_a_method_without_labels_says_nothing_of_labels(self, tmp_path: Path) -> None:
        # as entropy dumps: no label anywhere, rewards of at most 0; a question of which all earned 0 is no exception
        rows = [rollout("7", "4", -0.5, label=None), rollout("7", "5", -1.25, label=None)]
        rows += [rollout("8", None, 0.0, label=None)] * 2
        text = self.of(tmp_path / "entropy", rows)
        assert text.count("rewarded without a label") == 2
        assert "no label" not in text and "a group without a label" not in text
        assert "reward -1.25" in text and 'class="bad">reward -' not in text
        # the groups of a method with labels that have none earn 0
        text = self.of(tmp_path / "votes", [rollout("7", "4", 1.0), *rows[2:]])
        assert "original: no label" in text and "no label: all earn 0" in text and "a group without a label (1)" in text

    def test_what_the_payout_negative_pays_where_few_agree(self, tmp_path: Path) -> None:
        # question 8 has no label and its tail earned -1; 7 says that the method has labels
        rows = [rollout("7", "4", 1.0), rollout("8", "4", 0.0, label=None), rollout("8", "5", -1.0, label=None)]
        text = Seen(self.of(tmp_path / "votes", rows)).words
        assert "2 rollouts of the student, rewarded without a label" in text and "reward -1" in text
        assert "original: no label" in text and "a group without a label (1)" in text

    def test_a_tie_is_reported(self, tmp_path: Path) -> None:
        rows = [rollout("7", answer, float(answer == "4")) for answer in ("4", "4", "5", "5")]
        text = Seen(self.of(tmp_path / "majority_voting_seed1", rows)).words
        assert "original: 4 ✓ (2 of 4, tie)" in text and "by the label 4 (votes: 2 of 4, tie)" in text

    def test_needs_nothing_from_outside(self, tmp_path: Path) -> None:
        text = self.of(tmp_path / "r", [rollout("7", "4", 1.0)])
        assert "default-src 'none'" in text
        assert not re.search(r"(?:src|href)=\"(?!data:|#)", text)
        curves = re.findall(r"base64,([A-Za-z0-9+/=]+)", text)
        assert len(curves) == 2 and all(b"<svg" in base64.b64decode(curve) for curve in curves)  # reward, seconds
        assert 'alt="Reward mean against training steps"' in text

    def test_hostile_text_is_shown_and_not_obeyed(self, tmp_path: Path) -> None:
        plain = Seen(self.of(tmp_path / "plain", [rollout("7", "4", 1.0)], title="t"))
        row = rollout("7", "4", 1.0) | dict.fromkeys(("question", "view", "voter", "prompt", "response"), HOSTILE)
        row |= dict.fromkeys(("answer", "label", "ground_truth"), HOSTILE)
        hostile = self.of(tmp_path / "hostile", [row], title=HOSTILE)
        seen = Seen(hostile)
        assert set(seen.tags) == set(plain.tags) and "script" not in seen.tags
        assert set(seen.attributes) == set(plain.attributes)
        assert "<script>alert(1)</script>" in seen.text  # as text
        for character in "\x1b\u202e\x00\u200b":
            assert character not in hostile

    def test_long_and_odd_values(self, tmp_path: Path) -> None:
        rows = [rollout("7", "4", 1.0, response="x" * 10_000), {"question": 5}, rollout("8", "4", 0.25)]
        text = Seen(self.of(tmp_path / "r", rows)).text
        assert "x" * 4000 + " … (6,000 more characters)" in text
        assert "reward 0.25" in text and "which only vote" in text  # a row without a reward

    def test_a_run_without_a_dump_has_a_page(self, tmp_path: Path) -> None:
        assert "Sampled rollouts" not in page([run("a")], [[]])


def test_the_command(tmp_path: Path, run_script: Callable[..., Any]) -> None:
    folder = write_run(tmp_path / "a", {1: [rollout("7", "4", 1.0)], 2: []})
    code, out, _ = run_script("report.py", folder, "--html", tmp_path / "new/page.html", "--title", "A & B")
    assert code == 0 and f"Curves: {folder}/curves.png\nPage: {tmp_path}/new/page.html" in out
    assert "<h1>A &amp; B</h1>" in (tmp_path / "new/page.html").read_text()
