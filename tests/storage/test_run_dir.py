# SPDX-License-Identifier: Apache-2.0
"""The layout of a run's directory, name by name: runs made earlier must still be found, so none of these may change."""

from __future__ import annotations

from pathlib import Path

import pytest

from co_rewarding.storage.run_dir import TRACKER, RunDir, checkpoint_folder, dump_file, dumped_steps, saved_steps

START = "2026-01-02_03-04-05"


@pytest.mark.parametrize("path", ["runs/p/r", Path("runs/p/r")])
def test_every_place_has_its_name(path):
    run = RunDir(path)
    places = {
        run.path: "runs/p/r",
        run.hydra: "runs/p/r/hydra",
        run.metrics: "runs/p/r/metrics",
        run.made_with: "runs/p/r/made_with",
        run.tensorboard: "runs/p/r/tensorboard",
        run.rollouts: "runs/p/r/rollouts",
        run.validation: "runs/p/r/validation",
        run.checkpoints: "runs/p/r/checkpoints",
        run.evaluation: "runs/p/r/evaluation",
        run.export: "runs/p/r/export",
        run.metrics_file(START): "runs/p/r/metrics/2026-01-02_03-04-05.jsonl",
        run.made_with_file(START): "runs/p/r/made_with/2026-01-02_03-04-05.json",
        run.rollouts_file(12): "runs/p/r/rollouts/12.jsonl",
        run.validation_file(0): "runs/p/r/validation/0.jsonl",
        checkpoint_folder(run.checkpoints, 12): "runs/p/r/checkpoints/global_step_12",
        run.configuration_file("2026-01-02"): "runs/p/r/hydra/2026-01-02/.hydra/config.yaml",
        run.export_folder(12, "teacher"): "runs/p/r/export/step_12_teacher",
        dump_file(Path("elsewhere"), 3): "elsewhere/3.jsonl",
        checkpoint_folder(Path("elsewhere"), 3): "elsewhere/global_step_3",
    }
    assert {str(place): name for place, name in places.items() if str(place) != name} == {}
    assert TRACKER == "latest_checkpointed_iteration.txt"


def test_starts_and_steps_come_in_order_and_other_files_do_not_count(tmp_path):
    for name in (
        "metrics/2026-01-02_03-04-05.jsonl",
        "metrics/2025-12-31_23-00-00.jsonl",
        "metrics/notes.txt",
        "made_with/2026-01-02_03-04-05.json",
        "made_with/2025-12-31_23-00-00.json",
        "hydra/2026-01-02_03-04-04/.hydra/config.yaml",
        "hydra/2025-12-31_22-59-59/.hydra/config.yaml",
        "hydra/2026-01-01_00-00-00/main.log",
        "rollouts/10.jsonl",
        "rollouts/9.jsonl",
        "rollouts/copy.jsonl",
        "validation/8.jsonl",
        "validation/0.jsonl",
        "checkpoints/global_step_10/actor/model.pt",
        "checkpoints/global_step_9/actor/model.pt",
        "checkpoints/global_step_x/actor/model.pt",
        "checkpoints/latest_checkpointed_iteration.txt",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    run = RunDir(tmp_path)
    assert run.starts() == run.noted_starts() == ["2025-12-31_23-00-00", "2026-01-02_03-04-05"]
    assert run.configurations() == {
        "2025-12-31_22-59-59": tmp_path / "hydra/2025-12-31_22-59-59/.hydra/config.yaml",
        "2026-01-02_03-04-04": tmp_path / "hydra/2026-01-02_03-04-04/.hydra/config.yaml",
    }
    assert run.dumped_steps() == dumped_steps(tmp_path / "rollouts") == [9, 10]
    assert run.validated_steps() == [0, 8]
    assert saved_steps(run.checkpoints) == [9, 10]


def test_a_directory_without_anything_has_no_starts_and_no_steps(tmp_path):
    run = RunDir(tmp_path / "nothing")
    assert run.starts() == run.noted_starts() == run.dumped_steps() == run.validated_steps() == []
    assert run.configurations() == {}
    assert saved_steps(run.checkpoints) == []


@pytest.mark.parametrize("known_by", ["metrics", "checkpoints"])
def test_the_run_that_holds_a_model(tmp_path, known_by):
    model = tmp_path / "p/r/export/step_12_student"
    model.mkdir(parents=True)
    assert RunDir.containing(model) is None
    (tmp_path / "p/r" / known_by).mkdir()
    assert RunDir.containing(model).path == tmp_path / "p/r"
