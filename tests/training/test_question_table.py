# SPDX-License-Identifier: Apache-2.0
"""What the end of a run writes and says of its questions; that it never fails a run that is done."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf

from co_rewarding.algo.equivalence.relation import Equivalence
from co_rewarding.storage.run_dir import RunDir
from co_rewarding.training.launch import questions_line, steps_line


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """Question 1 is asked in steps 1 and 3, and of step 9, of an earlier run, nothing may be seen."""
    run = RunDir(tmp_path / "run")
    run.rollouts.mkdir(parents=True)
    for step, answer in ((1, "2"), (3, "1"), (9, "2")):
        row = {"question": "1", "view": "original", "voter": "student", "answer": answer, "ground_truth": "1"}
        run.rollouts_file(step).write_text(json.dumps(row) + "\n")
    return run


def end(run: RunDir, **trainer: object) -> str | None:
    """The line of a run that has done 3 steps."""
    config = OmegaConf.create({"co_rewarding_run_dir": str(run.path), "trainer": trainer})
    equivalence = Equivalence(mode="string")
    return questions_line(
        SimpleNamespace(config=config, global_steps=4, reward_manager=SimpleNamespace(equivalence=equivalence))
    )


def test_the_table_and_its_line(run: RunDir) -> None:
    assert end(run) == (
        "[co-rewarding] questions, first visit against last: training: 1 learned (wrong → right); table: "
        f"{run.questions}"
    )
    assert run.questions.read_text().splitlines()[1] == "training,1,learned,2,1,2,0.000,3,1,1.000,1,,,"


def test_without_a_second_visit_there_is_neither(run: RunDir) -> None:
    run.rollouts_file(3).unlink()
    assert end(run) is None and not run.questions.exists()


def test_a_run_that_only_validates_says_nothing(run: RunDir) -> None:
    assert end(run, val_only=True) is None and not run.questions.exists()


def test_what_goes_wrong_is_said_in_one_line(run: RunDir) -> None:
    run.rollouts_file(3).write_text("broken\n")
    broken = end(run)
    run.rollouts_file(3).write_text(run.rollouts_file(1).read_text())
    run.questions.mkdir()
    no_place = end(run)
    assert "3.jsonl, line 1: not a JSON object" in broken and "\n" not in broken
    assert f"no table of what was learned and corrupted ([Errno 21] Is a directory: '{run.questions}')" in no_place


def test_planned_and_done_steps() -> None:
    def line(done: int, stopped_after: int | None = None, **trainer: object) -> str | None:
        config = OmegaConf.create({"trainer": trainer})
        return steps_line(
            SimpleNamespace(
                config=config, total_training_steps=4, global_steps=done + 1, steps_done=1,
                stopped_early_after=stopped_after,
            )
        )  # fmt: skip

    assert line(4) == "Steps: 4 planned, 4 done, 1 of them in this run."
    assert line(2, stopped_after=2).startswith("Steps: 2 planned, 2 done, stopped early on purpose")
    assert line(0, val_only=True) is None
    with pytest.raises(RuntimeError, match="ended after 3 of 4 planned steps"):
        line(3)
