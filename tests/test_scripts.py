# SPDX-License-Identifier: Apache-2.0
"""What the scripts for a whole task hand on: one device for the whole path, names, folders and settings.

They run for real, in a copy of the folder, on a machine whose nvidia-smi and Python only say and write down what a test
wants to know.
"""

import os
import re
import subprocess
from pathlib import Path

import pytest
from copied_repo import NO_GPU, ONE_GPU, install, installed, machine, python_that_says, run_script

REPO = Path(__file__).resolve().parents[1]
# read by other scripts, started by scripts/gpu_check.sh, or by Slurm
OF_OTHERS = re.compile(r"scripts/(run_common\.sh|gpu_check/)|recipes/(models/|cluster/slurm\.sh)")
SCRIPTS = [
    script
    for folder in ("Co-rewarding-*", "scripts", "recipes", "benchmarks")
    for path in sorted(REPO.glob(f"{folder}/**/*.sh"))
    if not OF_OTHERS.match(script := str(path.relative_to(REPO)))
]


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_says_what_it_does_and_does_nothing(script: str, tmp_path: Path) -> None:
    done = subprocess.run(
        ["bash", REPO / script, "--help"],
        cwd=tmp_path, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert Path(script).name in done.stdout and len(done.stdout.splitlines()) >= 5
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("active", [None, "VIRTUAL_ENV", "CONDA_PREFIX"])
@pytest.mark.parametrize(("device", "gpus"), [("cpu", NO_GPU), ("gpu", ONE_GPU), ("cpu", ONE_GPU)])
def test_the_readmes_two_commands_train_on_one_device(clone: Path, device: str, gpus: str, active: str | None) -> None:
    calls = installed(clone, device, where="env" if active else ".venv")
    variables = {"PATH": machine(clone, gpus), "CONDA_DEFAULT_ENV": "env"} | (
        {active: f"{clone}/env"} if active else {}
    )
    result = install(clone, **variables)
    assert f"already installed for {device.upper()}" in result.stdout
    result = run_script(clone, "quickstart.sh", **variables)
    assert (result.returncode, result.stderr) == (0, "")
    assert ("no run of this script has been completed" in result.stdout) == (device == "gpu")
    training = [line for line in calls.read_text().splitlines() if "-m co_rewarding" in line]
    assert [re.search(r"-m (\S+)", line)[1] for line in training] == ["co_rewarding_i.main", "co_rewarding_ii.main"]
    for line in training:
        assert line.startswith("RUNS_DIR=runs ")
        assert f" platform={device} " in line and " trainer.n_gpus_per_node=1 " in line
        assert (" actor_rollout_ref.rollout.gpu_memory_utilization=0.3 " in line) == (device == "gpu")


def test_illusion_trains_its_arms_in_the_projects_environment_and_draws_them(clone: Path) -> None:
    calls = installed(clone, "cpu")
    result = run_script(clone, "illusion.sh", STEPS="50", START="3", REGIME="easy", WORKERS="2", RUNS_DIR="my runs")
    assert (result.returncode, result.stderr) == (0, "")
    *_, training, drawing = calls.read_text().splitlines()
    assert training.endswith(
        "benchmarks/natural_errors.py run --output my runs/illusion/50_steps --regimes easy --starts 3 --steps 50 "
        "--arms II majority voting ground truth --tell --workers 2"
    )
    figure = "my runs/illusion/illusion.png"
    assert drawing.endswith(f"benchmarks/illusion.py my runs/illusion/50_steps/easy --starts 3 --figure {figure}")


@pytest.mark.parametrize(
    ("variable", "value"),
    [("STEPS", "0"), ("START", "x"), ("WORKERS", "-1"), ("REGIME", "soft"), ("FIGURE", "a.gif")],
)
def test_illusion_refuses_what_it_cannot_do_first_of_all(clone: Path, variable: str, value: str) -> None:
    result = run_script(clone, "illusion.sh", **{variable: value})
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith(f"error: {variable}={value}: must ") and result.stderr.count("\n") == 1


def test_figures_are_made_by_what_is_named(clone: Path) -> None:
    calls = installed(clone, "cpu")
    result = run_script(clone, "dev/make_figures.sh", "illusion", RUNS_DIR="my runs")
    assert (result.returncode, result.stderr) == (0, "")
    *_, training, drawing = calls.read_text().splitlines()
    natural = "my runs/natural_errors"
    assert f"natural_errors.py run --output {natural} --regimes hard --starts 1 --arms II" in training
    assert drawing.endswith(f"benchmarks/illusion.py {natural}/hard --starts 1 --figure figs/illusion.png")
    unknown = run_script(clone, "dev/make_figures.sh", "illusions")
    assert unknown.returncode == 2 and unknown.stderr.startswith("error: illusions is none of: natural_errors illusion")
    no_browser = run_script(clone, "dev/make_figures.sh", "rollout_page", CHROMIUM="no-such-browser")
    assert no_browser.returncode == 2 and no_browser.stderr.startswith("error: CHROMIUM=no-such-browser: ")


@pytest.mark.parametrize("name", ["2024_11_26", "José's (1)=[ü]"])
def test_logs_lie_where_the_run_is(clone: Path, name: str) -> None:
    calls = installed(clone, "cpu")
    runs = clone / "my runs = ü"
    assert run_script(clone, "quickstart.sh", TREES="I", RUN_NAME=name, RUNS_DIR=str(runs)).returncode == 0
    assert run_script(clone, "compare_methods.sh", METHODS="entropy", NAME=name, RUNS_DIR=str(runs)).returncode == 0
    told = calls.read_text()
    for folder in (f"{name}_I", f"{name}/entropy_seed1"):
        assert (runs / "co-rewarding" / folder / "train.log").exists()
        assert re.search(rf"RUNS_DIR={re.escape(str(runs))} RUN_NAME={re.escape(folder)} -m ", told)


@pytest.mark.parametrize(("script", "variable"), [("quickstart.sh", "RUN_NAME"), ("compare_methods.sh", "NAME")])
def test_a_name_that_leaves_runs_writes_nothing(clone: Path, script: str, variable: str) -> None:
    installed(clone, "cpu")
    before = sorted(clone.rglob("*"))
    result = run_script(clone, script, **{variable: "../../up"})
    assert result.returncode == 2
    assert result.stderr.startswith(f"error: {variable}=../../up: must name a folder below runs/")
    assert result.stderr.count("\n") == 1
    assert sorted(clone.rglob("*")) == before


@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_siblings_of_the_quickstart_train_on_the_same_device(clone: Path, device: str) -> None:
    calls = installed(clone, device)
    result = run_script(clone, "quickstart.sh", MODEL="smollm2")
    assert (result.returncode, result.stderr) == (0, "")
    result = run_script(clone, "compare_methods.sh", METHODS="entropy co_rewarding_III", RUNS_DIR=str(clone / "mine"))
    assert (result.returncode, result.stderr) == (0, "")
    smollm2, *compared = [line for line in calls.read_text().splitlines() if "-m co_rewarding" in line]
    # a key-value cache of a fixed size is for machines without a GPU
    assert ("kv_cache_memory_bytes" in smollm2) == (device == "cpu") and "data.val_max_samples=64" in smollm2
    assert len(compared) == 2
    for line in compared:
        assert line.startswith(f"RUNS_DIR={clone}/mine ") and f" platform={device} " in line
    assert (clone / "mine/co-rewarding/comparison/entropy_seed1/train.log").exists()


def test_a_seed_of_the_comparison_has_a_start_of_its_own(clone: Path) -> None:
    calls = installed(clone, "cpu")
    seeds = {"METHODS": "entropy", "SEEDS": "1 2", "RUNS_DIR": str(clone / "mine")}
    result = run_script(clone, "compare_methods.sh", **seeds)
    assert (result.returncode, result.stderr) == (0, "")
    lines = calls.read_text().splitlines()
    made = [re.search(r"--output_dir (\S+) --seed (\d+)", line).groups() for line in lines if "make_model.py" in line]
    assert made == [("models/tiny", "1"), ("models/tiny_seed2", "2")]
    trained = [
        re.search(r"actor_rollout_ref.model.path='(\S+)'", line)[1] for line in lines if "-m co_rewarding" in line
    ]
    assert trained == ["models/tiny", "models/tiny_seed2"]
    settings = [(clone / f"mine/co-rewarding/comparison/entropy_seed{seed}/settings").read_text() for seed in (1, 2)]
    assert settings[1] == f"MODEL_PATH=models/tiny_seed2 {settings[0]}"
    # as older comparisons have it, whose second seed began with the first one's model
    (clone / "mine/co-rewarding/comparison/entropy_seed2/settings").write_text(settings[0])
    calls.unlink()
    message = run_script(clone, "compare_methods.sh", **seeds).stderr
    assert (
        "entropy_seed2 was made with STEPS=32" in message and "now it is MODEL_PATH=models/tiny_seed2 STEPS" in message
    )
    assert not calls.exists() or "-m co_rewarding" not in calls.read_text()  # seed 1, before it, is not run again
    result = run_script(clone, "compare_methods.sh", **seeds | {"SEEDS": "1 b"})
    assert (result.returncode, result.stderr) == (2, 'error: SEEDS: b is no whole number, e.g. SEEDS="1 2 3"\n')


def test_runs_land_in_one_place_wherever_a_script_is_started(clone: Path) -> None:
    calls = installed(clone, "gpu")
    scripts = [*sorted(clone.glob("Co-rewarding-*/run_*.sh")), clone / "scripts/run_baseline.sh"]
    assert len(scripts) == 4
    path = f"{clone}/.venv/bin{os.pathsep}{os.environ['PATH']}"
    environment = {name: value for name, value in os.environ.items() if name != "RUNS_DIR"}
    environment |= {"VIRTUAL_ENV": f"{clone}/.venv", "PATH": path}
    for script in scripts:
        for folder in (clone, script.parent):
            subprocess.run(["bash", script], cwd=folder, env=environment, check=True, capture_output=True)
    assert {line.split()[0] for line in calls.read_text().splitlines()} == {f"RUNS_DIR={clone}/runs"}


@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_the_tests_that_train_need_an_environment_for_a_cpu(clone: Path, device: str) -> None:
    calls = installed(clone, device, dev=True)
    for tool in ("ruff", "shellcheck"):
        python_that_says("fine", clone / ".venv/bin" / tool)
    result = run_script(clone, "test.sh")
    assert (result.returncode, result.stderr) == (0, "")
    runs = [line.split(" -m ")[-1] for line in calls.read_text().splitlines() if "-m pytest" in line]
    assert runs == ["not e2e"] + (["e2e and not long"] if device == "cpu" else [])
    assert ("end-to-end tests: skipped" in result.stdout) == (device == "gpu")
    result = run_script(clone, "test.sh", "--all")
    assert (result.returncode, "error: --all: " in result.stderr) == ((0, False) if device == "cpu" else (2, True))
