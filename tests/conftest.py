# SPDX-License-Identifier: Apache-2.0
"""Order of the tests, a run's inputs that pass every check, optional real data, and a guard against leftovers.

Unit tests run before the end-to-end ones; alone (`-m "not e2e"`) they are spread over the cores. After the last
test no Ray, vLLM or training process of this session may be alive: the session then fails, names them and ends them.
They are found as descendants of this process; orphans count too, because the process declares itself their "subreaper",
to whom Linux hands a process whose parent has died.
"""

import ctypes
import gc
import os
import pickle
import re
import runpy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from copied_repo import copy_scripts

REPO = Path(__file__).resolve().parents[1]
PR_SET_CHILD_SUBREAPER = 36  # <linux/prctl.h>
# Ray renames its workers to ray::NAME and vLLM its engine to VLLM::NAME; other helpers (multiprocessing's resource
# tracker, pools that end with the interpreter) are not meant.
OURS = re.compile(r"raylet|gcs_server|ray::|/site-packages/ray/|VLLM::|vllm\.entrypoints|-m co_rewarding|\bmain_ppo\b")
GRACE_SECONDS = 20  # Ray's processes take some seconds to end after the driver has
WORKER_BYTES, MOST_WORKERS = 3 * 2**30, 8  # torch, vLLM and verl are imported in each

leftovers: list[str] = []


def pytest_sessionstart() -> None:
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    # torch, vLLM and verl leave a million objects that live as long as the process. Looking for garbage among them a
    # hundred times less often saves 2 s of imports, and up to half a second in each test that copies a configuration
    gc.set_threshold(100_000)
    yaml.SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the same in C: a quarter off each composing


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Processes that run the tests, for `-n auto` of pyproject.toml; 0: this one.

    An end-to-end test needs the machine for itself. Of a few tests each process would import more than it tests.
    """
    if config.option.markexpr != "not e2e":
        return 0
    room = psutil.virtual_memory().available // WORKER_BYTES
    return min(len(os.sched_getaffinity(0)), MOST_WORKERS, room)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.get_closest_marker("e2e") is not None)  # stable: otherwise as collected


def running_processes_of_ours() -> list[psutil.Process]:
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if process.status() != psutil.STATUS_ZOMBIE and OURS.search(" ".join(process.cmdline())):
                found.append(process)
        except psutil.NoSuchProcess:  # ended between the listing and the question
            continue
    return found


@pytest.hookimpl(trylast=True)  # after xdist has ended its processes, whose orphans come here
def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workerinput"):  # in one of them
        return
    _, alive = psutil.wait_procs(running_processes_of_ours(), timeout=GRACE_SECONDS)
    for process in alive:
        try:
            leftovers.append(f"{process.pid} {' '.join(process.cmdline())[:150]}")
            process.kill()
        except psutil.NoSuchProcess:
            continue
    if leftovers:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if leftovers:
        terminalreporter.section("processes left running by the tests (now ended)", sep="!", red=True)
        for line in leftovers:
            terminalreporter.line(line)


@pytest.fixture(scope="session")
def repo() -> Path:
    """Root folder of the project."""
    return REPO


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with data/ and model/ of the quickstart's kind, for the end-to-end tests; takes a minute."""
    from e2e_runs import make_toy

    return make_toy(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder with real pairs (`math/train_original.parquet` and others); skips the test where there is none."""
    folder = Path(os.environ.get("CO_REWARDING_DATA", REPO.parent / "shared/data"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}: set CO_REWARDING_DATA to a folder that has some")
    return folder


@pytest.fixture
def run_script(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """run_script(name, *arguments): scripts/NAME as `python` would run it, but in this process, which has the imports.

    Returns (exit code, stdout, stderr).
    """

    def run(name: str, *arguments: object) -> tuple[int, str, str]:
        script = str(REPO / "scripts" / name)
        monkeypatch.setattr(sys, "argv", [script, *map(str, arguments)])
        capsys.readouterr()
        try:
            runpy.run_path(script, run_name="__main__")
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        return code, *capsys.readouterr()

    return run


# A small run of Co-rewarding-I that passes every check, for tests that spoil one thing of it. Heavy imports are inside
# the fixtures, so that a test of pure functions starts at once.
SAMPLE_BATCH = 8  # questions


@pytest.fixture(scope="session")
def sample_rows() -> dict[str, list[dict[str, Any]]]:
    """Rows in verl's schema by file name: 16 questions in two wordings, and 6 in a third; question i is i + 10."""
    from co_rewarding.storage.rows import SYSTEM_PROMPT

    def rows(num: int, wording: str, split: str) -> list[dict[str, Any]]:
        return [
            {
                "data_source": "toy",
                "prompt": [
                    {"role": "system", "content": SYSTEM_PROMPT},
                    {"role": "user", "content": wording.format(i)},
                ],
                "ability": "math",
                "reward_model": {"style": "rule", "ground_truth": str(i + 10)},
                "extra_info": {"index": i, "split": split},
            }
            for i in range(num)
        ]

    return {
        "train": rows(2 * SAMPLE_BATCH, "What is {} + 10?", "train"),
        "train_rephrased": rows(2 * SAMPLE_BATCH, "Add 10 to {}.", "train"),
        "test": rows(6, "Compute {} + 10.", "test"),
    }


@pytest.fixture(scope="session")
def sample_folder(tmp_path_factory: pytest.TempPathFactory, sample_rows: dict[str, list[dict[str, Any]]]) -> Path:
    """`sample_rows` as parquet files and `model`, a model folder."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from co_rewarding.tools.quickstart.tiny_model import build_model, build_tokenizer

    folder = tmp_path_factory.mktemp("sample")
    for name, rows in sample_rows.items():
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{name}.parquet")
    tokenizer = build_tokenizer()
    tokenizer.save_pretrained(folder / "model")
    build_model(tokenizer, seed=0).save_pretrained(folder / "model")
    return folder


@pytest.fixture(scope="session")
def sample_overrides(sample_folder: Path) -> list[str]:
    """The command line of the sample run: 8 questions × 2 views × 4 rollouts = 64 sequences a step on one device."""
    return [
        "platform=cpu",
        f"data.train_files={sample_folder}/train.parquet",
        f"data.train_aug_files={sample_folder}/train_rephrased.parquet",
        f"data.val_files={sample_folder}/test.parquet",
        f"actor_rollout_ref.model.path={sample_folder}/model",
        f"data.train_batch_size={SAMPLE_BATCH}",
        f"actor_rollout_ref.actor.ppo_mini_batch_size={SAMPLE_BATCH}",
        "actor_rollout_ref.rollout.n=4",
        "data.max_prompt_length=128",
        "data.max_response_length=64",
        "trainer.total_epochs=1",
    ]


@pytest.fixture(scope="session")
def composed_sample(sample_overrides: list[str]) -> bytes:
    """The sample run's configuration, pickled: a copy is made from that 30 times faster than by deepcopy."""
    from hydra import compose, initialize_config_module

    with initialize_config_module("co_rewarding_i.config", version_base=None):
        return pickle.dumps(compose("co_rewarding_i", overrides=sample_overrides))


@pytest.fixture
def config(composed_sample: bytes) -> Any:
    """The test's own copy of the sample run's configuration."""
    return pickle.loads(composed_sample)


@pytest.fixture
def refusal(config: Any) -> Callable[..., str]:
    """refusal(*parts): the one short line with which the checks refuse `config`; asserts that it has each part."""
    from co_rewarding.training.preflight.check import check_config

    def refuse(*parts: str) -> str:
        with pytest.raises(ValueError) as refused:
            check_config(config)
        message = str(refused.value)
        for part in parts:
            assert part in message, message
        assert len(message.splitlines()) == 1, message
        assert len(message) < 1000, message
        return message

    return refuse


@pytest.fixture
def refused_after(config: Any, refusal: Callable[..., str]) -> Callable[..., str]:
    """refused_after(key, value, *parts): the refusal once `config` has that value; it names both."""
    from omegaconf import OmegaConf

    def refuse_after(key: str, value: Any, *parts: str) -> str:
        OmegaConf.update(config, key, value)
        return refusal(f"{key}={value}", *parts)

    return refuse_after


@pytest.fixture(scope="module")
def process_group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One process that is a group of torch's, which verl's engines ask for."""
    import torch  # slow to import, and most tests need none

    rendezvous = tmp_path_factory.mktemp("group") / "file"
    torch.distributed.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder with what install_env.sh and the scripts that call it read, and no environment."""
    return copy_scripts(tmp_path / "clone")
