# SPDX-License-Identifier: Apache-2.0
"""The call of lm_eval, and what is made of what it writes. (It is not installed here: a script stands in for it.)"""

import json
from pathlib import Path

import pytest

from co_rewarding.tools.evaluation.harness import (
    HarnessOptions,
    check_folder,
    command_line,
    find_command,
    read_scores,
    run,
)

WRITES_A_RESULT = """#!/bin/sh
echo "called with $*"; ls -d */* 2>/dev/null
while [ $# -gt 0 ]; do [ "$1" = --output_path ] && out=$2; shift; done
[ -e "$(dirname "$out")/fail" ] && { echo "ValueError: no such thing"; exit 1; }
mkdir -p "$out/model" && cp "$(dirname "$0")/results.json" "$out/model/results_2026-11-23T10-00-00.0.json"
"""


@pytest.fixture
def lm_eval(tmp_path: Path) -> Path:
    """A command that writes `results.json` beside it as lm_eval writes its results."""
    script = tmp_path / "bin/lm_eval"
    script.parent.mkdir()
    script.write_text(WRITES_A_RESULT)
    script.chmod(0o755)
    written = {
        "results": {"ifeval": {"alias": "ifeval", "prompt_level_strict_acc,none": 0.25,
                               "prompt_level_strict_acc_stderr,none": 0.125, "inst_level_loose_acc,none": 0.5,
                               "inst_level_loose_acc_stderr,none": "N/A"}},
        "n-samples": {"ifeval": {"original": 541, "effective": 8}},
        "versions": {"ifeval": 4.0}, "lm_eval_version": "0.4.13",
    }  # fmt: skip
    (script.parent / "results.json").write_text(json.dumps(written))
    return script


def options(command: Path | str, **more: object) -> HarnessOptions:
    return HarnessOptions(command=str(command), **{"on_cpu": True, **more})


def test_the_command_line_holds_every_choice(lm_eval: Path, tmp_path: Path) -> None:
    words = command_line("ifeval", "org/model", tmp_path, options(lm_eval, limit=8, seed=3, extra="--num_fewshot '0'"))
    text = " ".join(words)
    assert words[:2] == [str(lm_eval), "run"]
    assert "--model hf --model_args pretrained=org/model,dtype=float32" in text
    assert "--tasks ifeval --apply_chat_template --device cpu" in text
    assert "--limit 8" in text and "--seed 3" in text and "--log_samples" in text
    assert words[-2:] == ["--num_fewshot", "0"]
    on_gpu = " ".join(command_line("mmlu_pro", str(tmp_path), tmp_path, options(lm_eval, on_cpu=False)))
    assert f"--model vllm --model_args pretrained={tmp_path},dtype=auto,tensor_parallel_size=1" in on_gpu
    assert "--limit" not in on_gpu


def test_model_code_is_run_only_when_somebody_said_so(lm_eval: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"runs Python written by the model.*--confirm_run_unsafe_code"):
        command_line("cruxeval", "m", tmp_path, options(lm_eval))
    words = command_line("cruxeval", "m", tmp_path, options(lm_eval, confirm_run_unsafe_code=True))
    assert "--confirm_run_unsafe_code" in words


def test_a_missing_command_and_a_name_it_cannot_take_are_reported(
    lm_eval: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match=r"--lm_eval no-such-command: no such command.*pip install 'lm-eval\["):
        find_command("no-such-command")
    with pytest.raises(ValueError, match="',' or '='"):
        command_line("ifeval", "models/a=b", tmp_path, options(lm_eval))
    (tmp_path / "a,b/model").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a,b")
    with pytest.raises(ValueError, match=r"--model /.*/a,b/model: .*',' or '='"):  # lm_eval gets the whole path
        command_line("ifeval", "model", tmp_path, options(lm_eval))


def test_a_finished_task_is_not_run_again(lm_eval: Path, tmp_path: Path) -> None:
    folder, data = tmp_path / "out", tmp_path / "hub/IFEval"
    data.mkdir(parents=True)
    command = command_line("ifeval", "m", folder, options(lm_eval))
    first = run("ifeval", command, "files 1", folder, data)
    log = (folder / "lm_eval.log").read_text()
    assert "google/IFEval" in log  # the local data lies where the library that loads it looks first
    assert run("ifeval", command, "files 1", folder, data) == first
    assert (folder / "lm_eval.log").read_text() == log
    for call in (lambda: check_folder(command, "files 2", folder, data), lambda: run("ifeval", command, "f", folder)):
        with pytest.raises(ValueError, match="made by another command line, model or data"):
            call()


def test_results_of_a_command_that_failed_are_not_taken_for_finished(lm_eval: Path, tmp_path: Path) -> None:
    whole = lm_eval.read_text()
    lm_eval.write_text(whole + "exit 1\n")
    command = command_line("ifeval", "m", tmp_path / "out", options(lm_eval))
    for _ in range(2):
        with pytest.raises(ValueError, match="exit code 1 and a result"):
            run("ifeval", command, "files 1", tmp_path / "out")
    lm_eval.write_text(whole)
    assert run("ifeval", command, "files 1", tmp_path / "out").is_file()


def test_a_failed_command_names_its_log(lm_eval: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "fail").touch()
    command = command_line("ifeval", "m", folder, options(lm_eval))
    with pytest.raises(ValueError, match=r"exit code 1 and no result; see .*lm_eval.log, which ends: ValueError"):
        run("ifeval", command, "files 1", folder)
    (folder / "fail").unlink()
    run("ifeval", command, "files 1", folder)  # the same command goes on


def test_scores_are_read(lm_eval: Path, tmp_path: Path) -> None:
    found = read_scores("ifeval", run("ifeval", command_line("ifeval", "m", tmp_path, options(lm_eval)), "f", tmp_path))
    assert (found["primary"], found["questions"], found["num_rows"]) == ("strict prompt", 8, 541)
    assert found["accuracy"]["strict prompt"] == {"value": 0.25, "standard_error": 0.125}
    assert found["accuracy"]["inst_level_loose_acc"] == {"value": 0.5, "standard_error": None}
    broken = tmp_path / "results_x.json"
    broken.write_text('{"results": {}}')
    with pytest.raises(ValueError, match=r"has no 'ifeval' where lm_eval 0.4.13 writes it"):
        read_scores("ifeval", broken)
