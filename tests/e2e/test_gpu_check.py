# SPDX-License-Identifier: Apache-2.0
"""scripts/gpu_check.sh's stages that train, rehearsed without a GPU: every check of a run that needs no card passes."""

import os
import subprocess
from pathlib import Path

import pytest
from e2e_runs import REPO

pytestmark = [pytest.mark.e2e, pytest.mark.long]


def test_a_rehearsal_of_the_stages_that_train(toy: Path) -> None:
    out = toy / "gpu_check"
    done = subprocess.run(
        ["bash", REPO / "scripts/gpu_check.sh", "--rehearse", "--out", out, "II", "timed", "I"],
        env=os.environ | {"TOY_DATA": str(toy / "data"), "TOY_MODEL": str(toy / "model")},
        capture_output=True, text=True, check=False, timeout=1800,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    table = (out / "table.md").read_text()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("| ")]
    passed = {(stage, check) for stage, check, result, *_ in cells if result == "ok"}
    again = "rewards computed again by co_rewarding.score"
    assert passed >= {
        ("II", f"co_rewarding_II: {again}"),
        ("II", "the teacher moved, and is the average of its students"),
        ("II", "the student is back in vLLM after the teacher"),
        ("II", "vLLM samples with the trainer's probabilities"),
        ("timed", f"co_rewarding_II: {again}"),
        ("timed", f"ground_truth: {again}"),
        ("I", f"co_rewarding_I: {again}"),
        ("I", "self_certainty: rewards computed again in float64 from the saved policy"),
    }
    timed = [value for stage, check, _, value, *_ in cells if stage == "timed" and check.endswith(": a step")]
    assert len(timed) == 2
    assert "teacher_gen" in timed[0]  # of the method with a teacher
    assert "teacher_gen" not in timed[1]  # and not of the other, in the same start
