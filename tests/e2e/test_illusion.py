# SPDX-License-Identifier: Apache-2.0
"""scripts/illusion.sh from a start to the picture, and once more, when nothing is left to train."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from natural.start import tokenizer_of_all

from co_rewarding.tools.quickstart.tiny_model import build_model

REPO = Path(__file__).resolve().parents[2]
ARMS = ("II", "ground truth", "majority voting")


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The script with this environment, and a start that is there already: making one takes minutes."""
    folder = tmp_path / "clone"
    (folder / "scripts").mkdir(parents=True)
    for name in ("illusion.sh", "run_common.sh"):
        shutil.copy(REPO / "scripts" / name, folder / "scripts")
    (folder / "scripts/install_env.sh").write_text(f"echo {sys.prefix}\n")
    (folder / "benchmarks").symlink_to(REPO / "benchmarks")
    start = folder / "runs/illusion/2_steps/hard/start1"
    tokenizer = tokenizer_of_all()
    build_model(tokenizer, seed=1, hidden_size=32).save_pretrained(start / "model")
    tokenizer.save_pretrained(start / "model")
    (start / "matrix.json").write_text(json.dumps({"majority_right": 0.0}))
    return folder


def run(clone: Path, **variables: str) -> str:
    dropped = {"RUNS_DIR", "REGIME", "START", "WORKERS", "FIGURE"}
    environment = {name: value for name, value in os.environ.items() if name not in dropped} | variables
    done = subprocess.run(
        ["bash", str(clone / "scripts/illusion.sh")],
        env=environment, capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.e2e
def test_from_a_start_to_the_picture(clone: Path) -> None:
    told = run(clone, STEPS="2")
    arms = clone / "runs/illusion/2_steps/hard/start1"
    for arm in ARMS:
        assert f"s, {arm}: accuracy 0.00, reward " in told and "at step 2 of 2" in told
        assert (arms / arm / "verdicts.parquet").is_file()
    assert "Majority voting: accuracy 0 → 0 % (steps 0, 2)." in told
    picture = clone / "runs/illusion/illusion.png"
    assert picture.read_bytes().startswith(b"\x89PNG") and f"picture: {picture.relative_to(clone)}" in told

    before, first = {arm: (arms / arm).stat().st_mtime_ns for arm in ARMS}, picture.read_bytes()
    told = run(clone, STEPS="2", FIGURE="again.png")
    assert {arm: (arms / arm).stat().st_mtime_ns for arm in ARMS} == before
    assert "at step" not in told and (clone / "again.png").read_bytes() == first
