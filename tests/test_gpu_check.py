# SPDX-License-Identifier: Apache-2.0
"""scripts/gpu_check.sh as far as it goes without training: two stages of a rehearsal, exit codes, and that its checks
of a run can fail. The stages that train are in tests/e2e/test_gpu_check.py."""

import importlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import psutil
import pytest
import torch

from co_rewarding.storage.run_dir import RunDir
from co_rewarding.tools.report.runs import Run

REPO = Path(__file__).resolve().parents[1]
SCRIPT = REPO / "scripts/gpu_check.sh"


def gpu_check(*arguments: object, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        ["bash", SCRIPT, *map(str, arguments)],
        env=os.environ | environment, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip


@pytest.fixture
def path_with_cards(tmp_path: Path) -> str:
    """A PATH on which nvidia-smi knows every card, as far as the script asks."""
    tool = tmp_path / "bin/nvidia-smi"
    tool.parent.mkdir()
    tool.write_text('#!/bin/sh\ncase " $* " in *" -i "*" -L "*) exit 2 ;; esac\n')  # the real one takes no -i with -L
    tool.chmod(0o755)
    return f"{tool.parent}:{os.environ['PATH']}"


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """module(name): one of scripts/gpu_check, imported as its scripts import it and forgotten after the test."""
    folder = REPO / "scripts/gpu_check"
    for place in (folder / "probe", folder):
        monkeypatch.syspath_prepend(place)
    known = set(sys.modules)
    yield importlib.import_module
    for name in set(sys.modules) - known:
        if Path(getattr(sys.modules[name], "__file__", None) or "/").is_relative_to(folder):
            del sys.modules[name]


@pytest.fixture
def rows(module: Callable[[str], ModuleType], tmp_path: Path):
    """rows(check, *arguments): the results of the rows that a check adds, by name."""

    def run(check: Callable[..., None], *arguments: object) -> dict[str, str]:
        found = module("rows").Rows(tmp_path)
        check(found, *arguments)
        return {row.check: row.result for row in module("rows").read_rows(tmp_path)}

    return run


@pytest.mark.e2e  # imports vLLM and verl in several processes: 20 s
def test_a_rehearsal_of_the_stages_that_do_not_train(tmp_path: Path) -> None:
    done = gpu_check("--rehearse", "--out", tmp_path, "versions", "micro")
    assert done.returncode == 0, done.stdout + done.stderr
    table = (tmp_path / "table.md").read_text()
    assert "FAILED" not in table
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("| ")]
    stages = {name: result for name, check, result, *_ in cells if check == "**the stage**"}
    assert stages == {
        "versions": "**ok**", "micro": "**ok**",
        "II": "**not selected**", "timed": "**not selected**", "I": "**not selected**",
    }  # fmt: skip
    results = {check: result for _, check, result, *_ in cells}
    assert results["engine that verl chooses for the actor"] == "ok"
    assert results["packed = padded, sdpa"] == "ok"
    assert results["teacher's average against float64, both on the host"] == "ok"
    assert results["log-probs: verl's, token by token"] == "measured"
    # what has passed is not run again
    started = time.monotonic()
    again = gpu_check("--rehearse", "--out", tmp_path, "versions", "micro")
    assert again.returncode == 0
    assert again.stdout.count("passed before, kept") == 2
    assert time.monotonic() - started < 10
    mixed = gpu_check("--out", tmp_path, PLATFORM="gpu")
    assert mixed.returncode == 2
    assert "holds results of PLATFORM=cpu" in mixed.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["three"], "three is no stage"),
        (["--minutes", "soon", "micro"], "--minutes soon: must be a whole number"),
        (
            ["--minutes", "99999999999999999999"],
            "--minutes 99999999999999999999: must be a whole number from 1 to 9999",
        ),
        (["--minutes", ""], "--minutes: give a value"),
        (["--out"], "--out: give a value"),
        (["--out", ""], "--out: give a value"),
        (["--rehearse", "--out", __file__], f"--out {__file__}: is no folder that can be written"),
        (["--rehearse", "--out", f"{__file__}/below"], f"--out {__file__}/below: is no folder that can be written"),
        (["micro"], "no GPU: nvidia-smi finds no card 99"),
    ],
)
def test_wrong_usage_and_no_gpu_are_one_line_and_exit_code_2(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    done = gpu_check(*arguments, CUDA_VISIBLE_DEVICES="99", PLATFORM="gpu")
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {message}")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("hidden", ["", ",1"])
def test_a_user_who_hides_all_cards_has_no_gpu(hidden: str, path_with_cards: str, tmp_path: Path) -> None:
    done = gpu_check(
        "--out", tmp_path / "out", "micro", CUDA_VISIBLE_DEVICES=hidden, PLATFORM="gpu", PATH=path_with_cards
    )
    assert done.returncode == 2
    assert done.stderr == f"error: no GPU: CUDA_VISIBLE_DEVICES='{hidden}' hides all cards; unset it or name one\n"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("platform", ["gpu", "cpu"])
def test_what_a_user_has_exported_for_other_runs_stays_out(platform: str, path_with_cards: str, tmp_path: Path) -> None:
    scripts = [*REPO.glob("Co-rewarding-I*/run_*.sh")]
    known = {name for script in scripts for name in re.findall(r"\$\{([A-Z_]+):?-", script.read_text())}
    known -= {"PLATFORM", "VIRTUAL_ENV"}  # gpu_check's own, and no setting
    assert known > {"VAL_TEMPERATURE", "ATTENTION", "LOSS_AGG_MODE", "TEACHER_DECAY_START", "RUNS_DIR", "LOGGER"}
    known |= {"RAY_ADDRESS", "MICRO_BATCH_SIZE", "VERL_FILE_LOGGER_PATH", "OMP_NUM_THREADS"}
    # a stage that has passed is kept, so that the table is all that runs; it says what its environment was
    stage = tmp_path / "stages/versions"
    stage.mkdir(parents=True)
    (stage / "status").write_text("ok\t1\t\n")
    (tmp_path / "sitecustomize.py").write_text(
        f"import os, pathlib\npathlib.Path({str(tmp_path / 'seen')!r}).write_text(' '.join(os.environ))\n"
    )
    environment = dict.fromkeys(known, "7") | {
        "PATH": path_with_cards, "PYTHONPATH": f"{tmp_path}:{REPO}", "TOY_DATA": "kept",
    }  # fmt: skip
    done = gpu_check("--out", tmp_path, "versions", CUDA_VISIBLE_DEVICES="0", PLATFORM=platform, **environment)
    assert "Traceback" not in done.stderr, done.stderr
    assert done.stdout.startswith("rehearsal (--rehearse or PLATFORM=cpu)") == (platform == "cpu")
    assert f"`PLATFORM={platform} bash scripts/gpu_check.sh --out" in (tmp_path / "table.md").read_text()
    seen = set((tmp_path / "seen").read_text().split())
    assert "TOY_DATA" in seen
    assert seen & known == ({"OMP_NUM_THREADS"} if platform == "cpu" else set())


def test_a_method_that_takes_its_turn_has_the_statistics_that_it_rewards(module) -> None:
    """Where the update's own old log-probabilities would do for the method of the configuration."""
    watched = module("gpu_check_probe").WatchedI
    one = object.__new__(watched)
    one.updates_own_suffice, one.reward_manager = True, SimpleNamespace()
    found = {}
    for method in ("co_rewarding_I", "self_certainty", "co_rewarding_I"):
        one.take_turn(method)
        found[method] = one.has_own_old_log_probs
    assert found == {"co_rewarding_I": True, "self_certainty": False}


def test_the_exit_code_says_whether_a_stage_failed_or_was_not_reached(module, tmp_path: Path) -> None:
    table = module("table")

    def code_of(*statuses: str | None) -> int:
        stages = []
        for name, status in zip("abc", statuses, strict=False):
            folder = tmp_path / name
            folder.mkdir(exist_ok=True)
            (folder / "status").unlink(missing_ok=True)
            if status:
                (folder / "status").write_text(f"{status}\t12\twhy\n")
            stages.append(table.Stage.read(folder, selected=True))
        return table.exit_code(stages)

    assert code_of("ok", "ok") == 0
    assert code_of("ok", "not reached") == 3
    assert code_of("ok", None) == 3
    assert code_of("not reached", "FAILED") == 1


def test_a_stage_out_of_time_leaves_no_process_not_even_an_orphan(tmp_path: Path) -> None:
    # the command's child goes into a session of its own and outlives it, as Ray's and vLLM's processes may
    orphan = tmp_path / "orphan"
    command = f"setsid sleep 1000 & echo $! > {orphan}; sleep 1000"
    code = "import sys, run_stage; run_stage.GRACE_SECONDS = 0.5; sys.exit(run_stage.main())"
    done = subprocess.run(
        [sys.executable, "-c", code, "1", str(tmp_path / "log"), "bash", "-c", command],
        cwd=REPO / "scripts/gpu_check", check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 124
    assert not psutil.pid_exists(int(orphan.read_text()))


def test_a_check_that_is_stopped_leaves_no_process(tmp_path: Path) -> None:
    run = subprocess.Popen(["bash", SCRIPT, "--rehearse", "--out", tmp_path, "micro"], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (tmp_path / "stages/micro/log.txt").exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    processes = psutil.Process(run.pid).children(recursive=True)
    assert processes
    run.terminate()
    assert run.wait(60) == 143
    assert not [process for process in processes if process.is_running()]


@pytest.mark.parametrize(("spoil", "result"), [(False, "ok"), (True, "FAILED")])
def test_a_reward_that_its_dump_does_not_imply_fails(module, rows, tmp_path: Path, spoil: bool, result: str) -> None:
    # two of three answer 7, so those two are right
    dumped = [
        {
            "step": 1, "question": "q", "view": "original", "voter": "student",
            "response": f"\u2028\x85\\boxed{{{answer}}}",  # separators that str.splitlines would split at
            "answer": answer, "label": "7", "reward": float(answer == "7"), "ground_truth": "8",
        }
        for answer in ("7", "7", "8")
    ]  # fmt: skip
    if spoil:
        dumped[2]["reward"] = 1.0
    run_dir = RunDir(tmp_path)
    run_dir.rollouts.mkdir()
    run_dir.rollouts_file(1).write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in dumped))
    mean = sum(row["reward"] for row in dumped) / 3
    run = Run("run", {1: {"critic/score/mean": mean}}, 1)
    found = rows(module("rewards").check, run, run_dir, "majority_voting", [1], tmp_path, "cpu")
    assert found == {
        "majority_voting: rewards computed again by co_rewarding.score": result,
        "majority_voting: verl trains on these rewards": "ok",
    }
    wrong = Run("run", {1: {"critic/score/mean": mean + 0.1}}, 1)
    found = rows(module("rewards").check, wrong, run_dir, "majority_voting", [1], tmp_path, "cpu")
    assert found["majority_voting: verl trains on these rewards"] == "FAILED"


@pytest.mark.parametrize(
    ("teacher", "again", "result"),
    [
        (["1", "2", "9", "9"], ["1", "2", "3", "4"], "ok"),
        (["1", "2", "9", "9"], ["1", "2", "9", "9"], "FAILED"),  # the teacher is still there
        (["1", "2", "3", "4"], ["1", "2", "3", "4"], "FAILED"),  # nobody can tell
    ],
)
def test_a_student_that_is_not_back_fails(module, rows, teacher: list[str], again: list[str], result: str) -> None:
    validations = [
        {"who": who, "accuracy": 0.5, "responses": responses}
        for who, responses in (("student", ["1", "2", "3", "4"]), ("teacher", teacher), ("student again", again))
    ]
    found = rows(module("teacher").check_restored, validations)
    assert list(found.values()) == [result]


def test_a_teacher_that_is_not_the_average_fails(module, rows, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    start = {"w": torch.tensor([1.0, 2.0])}
    save_file(start, tmp_path / "model.safetensors")
    students = {1: torch.tensor([3.0, 2.0]), 2: torch.tensor([5.0, 2.0])}
    run_dir = RunDir(tmp_path / "run")

    def save(step: int, who: str, value: torch.Tensor) -> None:
        folder = run_dir.checkpoints / f"global_step_{step}/{who}"
        folder.mkdir(parents=True, exist_ok=True)
        torch.save({"w": value}, folder / "model_world_size_1_rank_0.pt")

    for step, value in students.items():
        save(step, "actor", value)
    run = Run("run", {step: {"timing_s/step": 1.0, "teacher/decay": 0.5} for step in (1, 2)}, 1)
    # step 1 averages the start with itself, step 2 with the student that step 1 left: (1 + 3) / 2
    for value, result in (([2.0, 2.0], "ok"), ([1.0, 2.0], "FAILED"), ([3.0, 2.0], "FAILED")):
        save(2, "teacher", torch.tensor(value))
        assert list(rows(module("teacher").check_average, run, run_dir, tmp_path).values()) == [result]


@pytest.mark.parametrize(
    ("asleep", "left", "results"),
    [
        ([2000, 3000, 3100], 600, ["ok", "ok", "ok"]),  # the first step allocates the optimizer
        ([2000, 3000, 3200], 600, ["ok", "FAILED", "ok"]),  # a leak of 6.7 % from step 2 to step 3
        ([19000, 19000, 19000], 600, ["FAILED", "ok", "ok"]),  # vLLM did not sleep
        ([2000, 3000, 3000], 3000, ["ok", "ok", "FAILED"]),  # something is still on the card
    ],
)
def test_memory_that_is_not_given_back_fails(
    module, rows, monkeypatch: pytest.MonkeyPatch, asleep: list[int], left: int, results: list[str]
) -> None:
    memory = module("start_and_steps")
    monkeypatch.setattr(memory, "card_mib", lambda what="used": {"used": left, "total": 80_000}[what])
    notes = [{"awake_mib": 26_000, "asleep_mib": mib} for mib in asleep]
    assert list(rows(memory.check_memory, notes, 500, 0.3).values()) == results


@pytest.mark.parametrize(
    ("script", "main"),
    [
        ("Co-rewarding-I/run_corewarding-I.sh", "co_rewarding_i.main"),
        ("Co-rewarding-II/run_corewarding-II.sh", "co_rewarding_ii.main"),
    ],
)
def test_a_run_script_is_watched(script: str, main: str, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    python.chmod(0o755)
    command = ["bash", REPO / "scripts/gpu_check/probe/watched.sh", REPO / script, "trainer.total_epochs=1"]
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "VIRTUAL_ENV": "active"}
    started = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.splitlines()
    assert started[:2] == [str(REPO / "scripts/gpu_check/probe/main.py"), main]
    assert started[-1] == "trainer.total_epochs=1"
