#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Draw figs/method.png and figs/method.svg: who answers, who votes and whom the vote rewards, in the three methods.

One lane is one group of rollouts. Colour says which wording an answer or a label belongs to, so a reward has the colour
of the label that gave it: where it differs from its lane's, the label crossed over. The bytes are the same every time.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

# Okabe and Ito's blue and vermillion, told apart with any colour vision and in grey print
COLOUR = {"x": "#0072B2", "x′": "#D55E00"}
TINT = {"x": "#E5F1F8", "x′": "#FBECE2"}
INK, GREY, FRAME, BAND = "#1a1a1a", "#5f5f5f", "#8a8a8a", "#f7f7f7"
QUESTION = {"x": "Tom has 58 coins and\nbuys 23 more. How many\ndoes he have now?", "x′": "What is 58 + 23?"}
MAJORITY = "81"
FOOTER = (
    "Boxes of one name are one model. EMA: moving average of the student’s weights. "
    "A reward has the colour of the label it came from."
)
ANSWERS = {
    ("student", "x"): ("81", "71", "81", "81"),
    ("student", "x′"): ("81", "81", "35", "81"),
    ("teacher", "x"): ("81", "81", "81", "71"),
    ("teacher", "x′"): ("35", "81", "81", "81"),
}

# All lengths are inches on the page. Left edges of the columns, and widths where a column has one.
WIDTH, MARGIN = 10.0, 0.12
X_QUESTION, W_QUESTION = 0.27, 2.05
X_MODEL, W_MODEL = 2.67, 0.92
X_ANSWERS, W_CHIP, CHIP_STEP = 3.9, 0.36, 0.41
X_VOTE, W_VOTE = 5.92, 0.62
X_REWARDS, W_REWARD, REWARD_STEP = 7.42, 0.27, 0.31
X_LOSS, W_LOSS = 8.87, 0.92
LANE, H_CHIP, H_TITLE, H_HEADER, H_FOOTER, GAP = 0.52, 0.3, 0.36, 0.34, 0.2, 0.14

# (name, sentence, lanes from top to bottom, text of the update)
METHODS = (
    (
        "Co-rewarding-I",
        "Two wordings of a question: the vote on one rewards the answers to the other.",
        (("student", "x"), ("student", "x′")),
        "GRPO\nJ(x) + J(x′)",
    ),
    (
        "Co-rewarding-II",
        "A teacher, the slow average of the student, votes; only the student is trained.",
        (("student", "x"), ("teacher", "x")),
        "GRPO\nJ(x)",
    ),
    (
        "Co-rewarding-III",
        "Both: the teacher’s vote on one wording rewards the student’s answers to the other.",
        (("student", "x"), ("teacher", "x"), ("teacher", "x′"), ("student", "x′")),
        "GRPO\nJ(x) + J(x′)",
    ),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(__file__).resolve().parents[2] / "figs"
    parser.add_argument("--output_dir", type=Path, default=default, help="folder to write to (default: figs/)")
    args = parser.parse_args()

    plt.rcParams.update({"font.size": 10, "text.parse_math": False, "svg.hashsalt": "co-rewarding"})
    heights = [H_TITLE + LANE * len(lanes) + 0.1 for _, _, lanes, _ in METHODS]
    height = H_HEADER + sum(heights) + GAP * len(heights) + H_FOOTER
    figure = plt.figure(figsize=(WIDTH, height))
    axis = figure.add_axes((0, 0, 1, 1), xlim=(0, WIDTH), ylim=(0, height))
    axis.axis("off")
    draw_header(axis, height - H_HEADER / 2)
    top = height - H_HEADER
    for (name, sentence, lanes, loss), band in zip(METHODS, heights, strict=True):
        box(axis, MARGIN, top - band, WIDTH - 2 * MARGIN, band, fill=BAND, edge="none")
        axis.text(X_QUESTION, top - H_TITLE / 2 - 0.02, name, va="center", fontsize=11.5, weight="bold", color=INK)
        axis.text(X_MODEL - 0.72, top - H_TITLE / 2 - 0.02, sentence, va="center", fontsize=10, color=GREY)
        draw_method(axis, lanes, loss, top - H_TITLE)
        top -= band + GAP
    axis.text(X_QUESTION, H_FOOTER / 2 + 0.06, FOOTER, va="center", fontsize=9, color=GREY)
    args.output_dir.mkdir(parents=True, exist_ok=True)
    for suffix, metadata in (("png", {"Software": None}), ("svg", {"Date": None, "Creator": None})):
        path = args.output_dir / f"method.{suffix}"
        figure.savefig(path, dpi=200, metadata=metadata)
        print(path)


def draw_header(axis: Axes, y: float) -> None:
    chips = 3 * CHIP_STEP + W_CHIP
    rewards = 3 * REWARD_STEP + W_REWARD
    for x, text in (
        (X_QUESTION + W_QUESTION / 2, "question"),
        (X_MODEL + W_MODEL / 2, "model"),
        (X_ANSWERS + chips / 2, "G answers"),
        (X_VOTE + W_VOTE / 2, "majority"),
        (X_REWARDS + rewards / 2, "reward"),
        (X_LOSS + W_LOSS / 2, "update"),
    ):
        axis.text(x, y, text, ha="center", va="center", fontsize=10, color=INK, weight="bold")


def draw_method(axis: Axes, lanes: tuple[tuple[str, str], ...], loss: str, top: float) -> None:
    """The lanes of one method; `top` is the upper edge of the first."""
    y = {lane: top - LANE * (i + 0.5) for i, lane in enumerate(lanes)}
    for view in dict.fromkeys(view for _, view in lanes):
        ys = [y[lane] for lane in lanes if lane[1] == view]
        draw_question(axis, view, max(ys), min(ys))
    has_teacher = any(model == "teacher" for model, _ in lanes)
    voters = {view: ("teacher" if has_teacher else "student", view) for _, view in lanes}
    students = [lane for lane in lanes if lane[0] == "student"]
    for lane in lanes:
        draw_rollouts(axis, lane, y[lane], voter=lane == voters[lane[1]])
    if has_teacher:
        for view in voters:
            draw_average(axis, y["student", view], y["teacher", view])
    for _, view in students:
        other = next((v for v in voters if v != view), view)
        draw_reward(axis, view, other, y[voters[other]], y["student", view])
    ys = [y[lane] for lane in students]
    middle = (max(ys) + min(ys)) / 2
    for lane_y in ys:
        rewards_end = X_REWARDS + 3 * REWARD_STEP + W_REWARD
        arrow(axis, (rewards_end + 0.05, lane_y), (X_LOSS - 0.03, lane_y))
    size = max(ys) - min(ys) + H_CHIP + 0.18
    box(axis, X_LOSS, middle - size / 2, W_LOSS, size, fill="white", edge=INK)
    name, formula = loss.split("\n")
    axis.text(X_LOSS + W_LOSS / 2, middle + 0.1, name, ha="center", va="center", fontsize=10, weight="bold", color=INK)
    axis.text(X_LOSS + W_LOSS / 2, middle - 0.1, formula, ha="center", va="center", fontsize=9, color=INK)


def draw_question(axis: Axes, view: str, y_top: float, y_bottom: float) -> None:
    size = y_top - y_bottom + 0.44
    middle = (y_top + y_bottom) / 2
    box(axis, X_QUESTION, middle - size / 2, W_QUESTION, size, fill=TINT[view], edge=COLOUR[view])
    axis.text(
        X_QUESTION + 0.1, middle, view, va="center", fontsize=12, style="italic", weight="bold", color=COLOUR[view]
    )
    axis.text(X_QUESTION + 0.36, middle, QUESTION[view], va="center", fontsize=8.5, color=INK, linespacing=1.12)


def draw_rollouts(axis: Axes, lane: tuple[str, str], y: float, voter: bool) -> None:
    """Model, answers and, if the lane's group votes, the majority answer."""
    model, view = lane
    arrow(axis, (X_QUESTION + W_QUESTION + 0.04, y), (X_MODEL - 0.03, y))
    teacher = model == "teacher"
    box(axis, X_MODEL, y - H_CHIP / 2 - 0.02, W_MODEL, H_CHIP + 0.04, "#e9e9e9" if teacher else "white", INK, teacher)
    axis.text(X_MODEL + W_MODEL / 2, y, model, ha="center", va="center", fontsize=10, color=INK)
    arrow(axis, (X_MODEL + W_MODEL + 0.04, y), (X_ANSWERS - 0.03, y))
    for i, answer in enumerate(ANSWERS[lane]):
        chip(axis, X_ANSWERS + i * CHIP_STEP, y, W_CHIP, answer, COLOUR[view], answer == MAJORITY)
    if voter:
        arrow(axis, (X_ANSWERS + 3 * CHIP_STEP + W_CHIP + 0.04, y), (X_VOTE - 0.03, y))
        box(axis, X_VOTE, y - H_CHIP / 2 - 0.02, W_VOTE, H_CHIP + 0.04, TINT[view], COLOUR[view], width=1.8)
        axis.text(
            X_VOTE + W_VOTE / 2, y, MAJORITY, ha="center", va="center", fontsize=11, weight="bold", color=COLOUR[view]
        )


def draw_average(axis: Axes, y_student: float, y_teacher: float) -> None:
    x, half = X_MODEL + 0.18, H_CHIP / 2 + 0.02
    sign = 1 if y_student > y_teacher else -1
    arrow(axis, (x, y_student - sign * half), (x, y_teacher + sign * (half + 0.01)), dashed=True)
    axis.text(x + 0.1, (y_student + y_teacher) / 2, "EMA", va="center", fontsize=8, color=GREY)


def draw_reward(axis: Axes, view: str, voting_view: str, y_vote: float, y_student: float) -> None:
    """The label's way from the vote to the student's lane, and what each answer there earns."""
    colour = COLOUR[voting_view]
    arrow(axis, (X_VOTE + W_VOTE + 0.04, y_vote), (X_REWARDS - 0.05, y_student), colour, width=2.2)
    for i, answer in enumerate(ANSWERS["student", view]):
        right = answer == MAJORITY
        chip(axis, X_REWARDS + i * REWARD_STEP, y_student, W_REWARD, "1" if right else "0", colour, right)


def chip(axis: Axes, x: float, y: float, width: float, text: str, colour: str, filled: bool) -> None:
    box(axis, x, y - H_CHIP / 2, width, H_CHIP, colour if filled else "white", colour if filled else FRAME)
    axis.text(
        x + width / 2, y, text, ha="center", va="center", fontsize=9.5, color="white" if filled else GREY, weight="bold"
    )


def box(
    axis: Axes,
    x: float,
    y: float,
    w: float,
    h: float,
    fill: str,
    edge: str,
    dashed: bool = False,
    width: float = 1.0,
) -> None:
    patch = FancyBboxPatch((x, y), w, h, boxstyle="round,pad=0,rounding_size=0.06", fc=fill, ec=edge, lw=width)
    if dashed:
        patch.set_linestyle((0, (3, 1.5)))
    axis.add_patch(patch)


def arrow(
    axis: Axes,
    start: tuple[float, float],
    end: tuple[float, float],
    colour: str = GREY,
    width: float = 1.1,
    dashed: bool = False,
) -> None:
    style = "-|>,head_length=4,head_width=2.2" if width < 2 else "-|>,head_length=6,head_width=3.4"
    patch = FancyArrowPatch(start, end, arrowstyle=style, lw=width, color=colour, shrinkA=0, shrinkB=0, zorder=3)
    if dashed:
        patch.set_linestyle((0, (2.5, 1.5)))
    axis.add_patch(patch)


if __name__ == "__main__":
    main()
