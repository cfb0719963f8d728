# SPDX-License-Identifier: Apache-2.0
"""Figures of runs and the page of rollouts: what is drawn, what is sampled, and that hostile text is only shown."""

import base64
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from co_rewarding.tools.report.figures import ACCURACY, PANELS, Panel, distinct_names, draw, svg
from co_rewarding.tools.report.page import Question, page, sample_rollouts
from co_rewarding.tools.report.runs import Run, read_run

HOSTILE = "</div><script>alert(1)</script><img src=x onerror=alert(2)>\"'&amp;\x1b[31mred\u202eevil\x00\u200b"
REWARD = Panel("Reward mean", (("reward/mean", ""),))


def run(name: str, steps: int = 3, **metrics: float) -> Run:
    data = {step: {"timing_s/step": 1.0, "reward/mean": step / steps, **metrics} for step in range(1, steps + 1)}
    return Run(name, data, starts=1, num_validation=None)


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

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


class TestFigures:
    def texts(self, *runs: Run, panels: tuple[Panel, ...] = PANELS) -> str:
        # text is drawn as outlines, and named in comments
        return "\n".join(re.findall(r"<!-- (.*?) -->", svg(runs, panels=panels).decode()))

    def test_a_panel_without_data_is_left_out(self) -> None:
        texts = self.texts(run("a", **{"teacher/decay": 0.99, "collapse/length_limit": 0.1}))
        for shown in ("Reward mean", "Teacher’s decay α", "Repetition, length limit", "Seconds a step"):
            assert shown in texts
        for absent in ("Held-out accuracy", "Policy entropy", "needs ground truth"):
            assert absent not in texts

    def test_runs_are_named_and_told_apart(self) -> None:
        one, other = run("same"), run("same")
        assert distinct_names([one, other, run("b")]) == ["same (1)", "same (2)", "b"]
        texts = self.texts(one, other)
        assert "same (1)" in texts and "same (2)" in texts
        assert "same" not in self.texts(one)  # one run needs no legend

    def test_diagnostics_are_marked(self) -> None:
        assert "† needs ground truth" in self.texts(run("a", **{"label/accuracy": 0.5}))

    def test_long_curves_say_how_they_are_smoothed(self) -> None:
        note = "thin: each step, thick: mean of 5"
        assert note in self.texts(run("a", steps=20), panels=(REWARD,))
        assert note not in self.texts(run("a", steps=10), panels=(REWARD,))

    def test_the_same_runs_give_the_same_bytes(self, tmp_path: Path) -> None:
        for suffix in ("png", "svg", "pdf"):
            paths = [tmp_path / f"{i}.{suffix}" for i in range(2)]
            for path in paths:
                draw([run("a")], path, panels=(REWARD,))
            assert paths[0].read_bytes() == paths[1].read_bytes()

    def test_nothing_to_draw_and_odd_names(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="a logged none of the metrics"):
            draw([run("a")], tmp_path / "x.png", panels=(ACCURACY,))
        draw([run("a")], tmp_path / "x.png", panels=(ACCURACY,), keep_empty=True)
        with pytest.raises(ValueError, match=r"must end in \.png"):
            draw([run("a")], tmp_path / "x.jpg")


class TestSample:
    def test_is_of_first_and_last_step_and_of_whole_questions(self, tmp_path: Path) -> None:
        rows = [rollout(f"q{i}", "4", 1.0) for i in range(5) for _ in range(3)]
        folder = write_run(tmp_path / "run", {step: rows for step in range(1, 11)})
        sample = sample_rollouts(folder, last_step=9, num_steps=3, num_questions=2, seed=0)
        assert [question.step for question in sample] == [1, 1, 5, 5, 9, 9]  # not 10, which is beyond the last step
        assert all(len(question.groups["original", "student"]) == 3 for question in sample)
        assert sample == sample_rollouts(folder, 9, 3, 2, seed=0)
        others = [sample_rollouts(folder, 9, 3, 2, seed=seed) for seed in range(1, 6)]
        assert any(other != sample for other in others)
        assert [question.step for question in sample_rollouts(folder, 9, 1, 1, seed=0)] == [9]
        assert sample_rollouts(tmp_path, 9, 3, 2, seed=0) == []

    def test_a_broken_dump_is_named(self, tmp_path: Path) -> None:
        folder = write_run(tmp_path / "run", {1: [rollout("q", "4", 1.0)]})
        (folder / "rollouts/1.jsonl").write_text("[]\n{}\n")
        with pytest.raises(ValueError, match=r"1\.jsonl, line 1: not a JSON object"):
            sample_rollouts(folder, 1, 1, 1, seed=0)

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
        groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for row in rows:
            groups.setdefault((row["view"], row["voter"]), []).append(row)
        assert Question(1, "q", rows[0]["ground_truth"], groups).filters() == shown_by


class TestPage:
    def of(self, folder: Path, rows: list[dict[str, Any]], **options: Any) -> str:
        write_run(folder, {1: rows})
        return page([read_run(folder)], [sample_rollouts(folder, 1, 1, 10, seed=0)], **options)

    def test_holds_wordings_votes_and_rewards(self, tmp_path: Path) -> None:
        rows = [rollout("7", "4", 1.0)] * 3 + [rollout("7", None, 0.0, response="no idea")]
        rows += [rollout("7", "5", 0.0, view="rephrased", prompt="How much is it?")] * 2
        text = Seen(self.of(tmp_path / "r", rows)).text
        for part in (
            "original wording", "What is 7?", "rephrased wording", "How much is it?", "truth 4", "original: 4 ✓",
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

    def test_needs_nothing_from_outside(self, tmp_path: Path) -> None:
        text = self.of(tmp_path / "r", [rollout("7", "4", 1.0)])
        assert "default-src 'none'" in text
        assert not re.search(r"(?:src|href)=\"(?!data:|#)", text)
        (curves,) = re.findall(r"base64,([A-Za-z0-9+/=]+)", text)
        assert b"<svg" in base64.b64decode(curves)

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
    folders = [write_run(tmp_path / name, {1: [rollout("7", "4", 1.0)], 2: []}) for name in "ab"]
    code, out, _ = run_script("plot_runs.py", folders[0], "--html", tmp_path / "new/page.html", "--title", "A & B")
    assert code == 0 and f"Curves: {folders[0]}/figures.png" in out
    assert "<h1>A &amp; B</h1>" in (tmp_path / "new/page.html").read_text()
    assert run_script("plot_runs.py", *folders, "--figure", tmp_path / "both.pdf")[0] == 0
    for arguments, message in (
        (folders, "say where the figure goes"),
        ((folders[0], "--metric", "reward/nonsense"), "--metric reward/nonsense: no run logged it"),
        ((folders[0], "--figure", tmp_path / "x.gif"), "must end in .png, .svg, .pdf"),
        ((folders[0], "--window", "0"), "--window 0: must be at least 1"),
        ((tmp_path / "none",), "no such directory"),
    ):
        code, _, err = run_script("plot_runs.py", *arguments)
        assert (code, message in err) == (2, True), err
