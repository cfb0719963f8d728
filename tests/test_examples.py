# SPDX-License-Identifier: Apache-2.0
"""The scripts in examples/ run, and show what the project's own command computes."""

import json
import subprocess
import sys
from pathlib import Path

from co_rewarding.score import main

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
QUESTIONS = 2
RULES = ("majority_voting hard", "co_rewarding_I hard", "co_rewarding_I soft")


def rewards_shown(out: str, rule: str) -> list[float]:
    """Of all responses in the order of the file; a line holds the rule's two words, the label and a group's rewards."""
    lines = [line.split() for line in out.splitlines() if line.startswith("    ") and rule in line]
    return [float(cell) for words in lines for cell in words[3:]]


def test_votes_shows_what_is_scored(tmp_path: Path) -> None:
    shown = subprocess.run(
        [sys.executable, "-X", "importtime", EXAMPLES / "votes.py"], capture_output=True, text=True, check=True
    )
    assert not {"torch", "verl", "vllm", "ray", "pandas"} & {
        line.split("|")[-1].strip() for line in shown.stderr.splitlines() if line.startswith("import time:")
    }
    for rule in RULES:
        method, payout = rule.split()
        scored = tmp_path / "scored.jsonl"
        assert (
            main([str(EXAMPLES / "rollouts.jsonl"), "--method", method, "--payout", payout, "--output", str(scored)])
            == 0
        )
        rewards = [json.loads(line)["reward"] for line in scored.read_text(encoding="utf-8").splitlines()]
        assert len(rewards) == QUESTIONS * 2 * 8
        assert rewards_shown(shown.stdout, rule) == rewards
    # question 0, its original wording: four say 68 (wrong), three 52, one nothing; six of the other wording say 52
    assert "original: the vote is 68 (4 of 8), 52 (3 of 8)" in shown.stdout
    assert rewards_shown(shown.stdout, RULES[0])[:8] == [1, 1, 0, 1, 1, 0, 0, 0]
    assert rewards_shown(shown.stdout, RULES[1])[:8] == [0, 0, 1, 0, 0, 1, 1, 0]
    assert rewards_shown(shown.stdout, RULES[2])[:8] == [1 / 8, 1 / 8, 6 / 8, 1 / 8, 1 / 8, 6 / 8, 6 / 8, 0]


def test_votes_refuses_a_dump_of_one_view(tmp_path: Path) -> None:
    one_view = tmp_path / "one.jsonl"
    one_view.write_text((EXAMPLES / "rollouts.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)[0])
    for dump, reason in ((one_view, "needs rollouts of both views"), (tmp_path / "none.jsonl", "is no file")):
        refused = subprocess.run([sys.executable, EXAMPLES / "votes.py", dump], capture_output=True, text=True)
        assert refused.returncode == 2 and reason in refused.stderr
