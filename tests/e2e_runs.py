# SPDX-License-Identifier: Apache-2.0
"""Starting the shipped run scripts on CPU with a tiny model, killing them, and reading what they left."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import torch

from co_rewarding.training.estimate import Setting, checkpoint
from co_rewarding.training.model_shape import ModelShape

REPO = Path(__file__).resolve().parents[1]
SCRIPTS = {
    "I": "Co-rewarding-I/run_corewarding-I.sh",
    "II": "Co-rewarding-II/run_corewarding-II.sh",
    "III": "Co-rewarding-II/run_corewarding-III.sh",
    "baseline": "scripts/run_baseline.sh",
    "ttt": "scripts/run_ttt.sh",
}
QUESTIONS, ROLLOUTS, STEPS, TIMEOUT_S = 16, 4, 4, 600


class Surroundings:
    """What a run has on this machine while it is on, looked at from outside every 2 s: `check_all_is_gone`."""

    def __init__(self, run: subprocess.Popen) -> None:
        self.run = run
        self.processes: dict[int, psutil.Process] = {}
        self.segments: set[Path] = set()  # of shared memory
        self.sockets: set[Path] = set()
        self.listening: dict[tuple[str, int], str] = {}  # address and port -> a command line
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()

    def _watch(self) -> None:
        while self.run.poll() is None:
            self.look()
            time.sleep(2)

    def look(self) -> None:
        for process in [psutil.Process(self.run.pid), *psutil.Process(self.run.pid).children(recursive=True)]:
            with suppress(psutil.Error, OSError):
                self.processes.setdefault(process.pid, process)
                command = " ".join(process.cmdline())[:100]
                for connection in process.net_connections("all"):
                    if connection.family == socket.AF_UNIX:
                        self.sockets |= {Path(path) for path in [connection.laddr] if path.startswith("/")}
                    elif connection.laddr and (
                        connection.status == psutil.CONN_LISTEN
                        or (connection.type == socket.SOCK_DGRAM and not connection.raddr)
                    ):
                        self.listening[tuple(connection.laddr)] = command
                maps = Path(f"/proc/{process.pid}/maps").read_text().splitlines()
                names = {line[line.index("/dev/shm/") :] for line in maps if "/dev/shm/" in line}
                self.segments |= {Path(name) for name in names if not name.endswith(" (deleted)")}

    def check_no_other_machine_reaches_it(self) -> None:
        assert self.listening, "Ray listens, so there is something to look at"
        elsewhere = {
            place: command
            for place, command in self.listening.items()
            if not place[0].removeprefix("::ffff:").startswith("127.") and place[0] != "::1"
        }
        assert not elsewhere, elsewhere

    def check_no_process_is_left(self) -> None:
        """When the run has ended: not only soon, but now."""
        self.thread.join()
        alive = [p for p in self.processes.values() if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
        assert not alive

    def check_all_is_gone(self) -> None:
        """Of a run with its own Ray, as soon as it has ended."""
        self.check_no_process_is_left()
        assert self.segments, "vLLM's message queues are there while it is on"
        assert not [path for path in self.segments | self.sockets if path.exists()]
        folders = {path for socket in self.sockets for path in socket.parents if path.name.startswith("co-rewarding-")}
        assert folders, "Ray's and vLLM's sockets are in a folder of the run's"
        assert not [path for path in folders if path.exists()]


def make_toy(folder: Path) -> Path:
    """data/ and model/ as the quickstart makes them, with fewer questions."""
    for script, *arguments in (
        ("toy/make_data.py", "--local_dir", folder / "data", "--num_train", "256", "--num_test", "32"),
        ("toy/make_model.py", "--data_dir", folder / "data", "--output_dir", folder / "model"),
    ):
        subprocess.run([sys.executable, REPO / "scripts" / script, *map(str, arguments)], check=True)
    return folder


def start(tree: str, toy: Path, name: str, *overrides: str, **environment: str) -> subprocess.Popen:
    """A run script (a key of SCRIPTS) with small settings, in the folder of `toy`; its output goes to a log."""
    settings = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PLATFORM": "cpu",
        "MODEL_PATH": str(toy / "model"),
        "TRAIN_FILE": str(toy / "data/train.parquet"),
        "TRAIN_AUG_FILE": str(toy / "data/train_rephrased.parquet"),
        "VAL_FILE": str(toy / "data/test.parquet"),
        "RUN_NAME": name,
        "RUNS_DIR": str(toy / "runs"),
        "TRAIN_BATCH_SIZE": str(QUESTIONS),
        "NUM_ROLLOUTS": str(ROLLOUTS),
        "MAX_PROMPT_LENGTH": "64",
        "MAX_RESPONSE_LENGTH": "32",
        "LEARNING_RATE": "1e-4",
        "LR_SCHEDULER": "constant",
        "LR_WARMUP_RATIO": "0",
        "GPUS_PER_NODE": "1",
        "LOGGER": "[console,file,tensorboard]",
        "TEST_FREQ": str(STEPS),
        "SAVE_FREQ": "2",
    }
    script = REPO / SCRIPTS[tree]
    # a user's shell does not ask for unbuffered output
    inherited = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    with (toy / f"{name}.log").open("ab") as log:
        return subprocess.Popen(
            ["bash", script, f"trainer.total_training_steps={STEPS}", *overrides],
            cwd=toy, env=inherited | settings | environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip


def finish(run: subprocess.Popen, log: Path, has_own_ray: bool = True) -> str:
    """Wait for the run to end well, with nothing open to other machines and nothing left of it; its output.

    Without a Ray of its own only the end is waited for.
    """
    surroundings = Surroundings(run)
    try:
        code = run.wait(TIMEOUT_S)
    finally:
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGKILL)
    text = log.read_text(errors="replace")
    assert code == 0, text[-4000:]
    if has_own_ray:
        surroundings.check_no_other_machine_reaches_it()
        surroundings.check_all_is_gone()
    return text


def main_process(run: subprocess.Popen) -> psutil.Process:
    """The process that started Ray: the run's own, or the one for which its script waits."""
    processes = [psutil.Process(run.pid), *psutil.Process(run.pid).children()]
    (found,) = [process for process in processes if ".main" in " ".join(process.cmdline()[:3])]
    return found


def kill(run: subprocess.Popen) -> None:
    """SIGKILL for the run and, since a machine that fails takes all with it, everything that it had started."""
    processes = psutil.Process(run.pid).children(recursive=True)
    for process in [psutil.Process(run.pid), *processes]:
        with suppress(psutil.NoSuchProcess):  # Ray ends what belongs to a process that is gone
            process.kill()
    run.wait()
    psutil.wait_procs(processes, timeout=60)


def rows_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def box(row: dict) -> str | None:
    """What the last box of a response holds, by a rule that is enough for this model's answers."""
    boxes = re.findall(r"\\boxed\{\s*([^{}]*[^\s{}])\s*\}", row["response"])  # an empty one takes nothing back
    return boxes[-1] if boxes else None


def readable(rows: list[dict]) -> list[dict]:
    """The rows of questions whose answers are all plain numbers or none; others may be equal to one, as -0 is to 0."""
    odd = {row["question"] for row in rows if not ((answer := box(row)) is None or answer.isdigit())}
    kept = [row for row in rows if row["question"] not in odd]
    assert len(kept) > 0.5 * len(rows)
    return kept


def metrics_of(run_dir: Path) -> dict[int, dict[str, float]]:
    """Metrics of each step, a later start over an earlier one."""
    merged: dict[int, dict[str, float]] = defaultdict(dict)
    for path in sorted((run_dir / "metrics").glob("*.jsonl")):
        for row in rows_of(path):
            merged[row["step"]] |= row["data"]
    return merged


def killed_after_step(step: int, run: subprocess.Popen, run_dir: Path, log: Path, while_saving: bool = False) -> None:
    """Wait until `step` (≥ 2) is dumped and kill the run in what comes next; what it leaves, the next start removes.

    Args:
        while_saving: not before the checkpoint of the step after it has been begun, and before it is whole.
    """
    deadline = time.monotonic() + TIMEOUT_S

    def wait_for(path: Path, interval_s: float) -> None:
        while not path.exists():
            assert run.poll() is None, log.read_text(errors="replace")[-4000:]
            assert time.monotonic() < deadline, f"no {path} in time"
            time.sleep(interval_s)

    wait_for(run_dir / f"rollouts/{step - 1}.jsonl", 0.2)
    started = psutil.Process(run.pid).children(recursive=True)
    (trainer,) = [process for process in started if "TaskRunner" in "".join(process.cmdline())]
    wait_for(run_dir / f"rollouts/{step}.jsonl", 0.2)
    if while_saving:
        wait_for(run_dir / f"checkpoints/global_step_{step + 1}/save_state.txt", 0.001)
        trainer.kill()  # it would say that the checkpoint is whole; the others take longer to be found
    else:
        time.sleep(1)  # the dump is small; let it be written whole
    kill(run)
    assert f"[co-rewarding] step {step - 1}/" in log.read_text(errors="replace")  # progress is told when it happens


def check_checkpoint_size(folder: Path, is_teacher: bool, lora_rank: int = 0) -> None:
    """A run's checkpoint takes on disk what the estimate says."""
    config = json.loads((folder / "actor/huggingface/config.json").read_text())
    expected = checkpoint(ModelShape.from_config(config), Setting(gpus=1, is_teacher=is_teacher, lora_rank=lora_rank))
    written = sum(file.stat().st_size for file in folder.rglob("*.pt"))
    # names and random states are a share of so small a model, and an adapter has many small tensors
    assert written == pytest.approx(expected, rel=0.1 if lora_rank else 0.02)


def shards_of(folder: Path, stem: str, ranks: int = 1) -> dict[str, torch.Tensor]:
    """The tensors of verl's checkpoint files `<stem>_world_size_…`, the ranks' shards put together."""
    parts = [
        torch.load(folder / f"{stem}_world_size_{ranks}_rank_{rank}.pt", weights_only=False) for rank in range(ranks)
    ]
    parts = [part.get("low", part) for part in parts]
    return {name: torch.cat([getattr(part[name], "_local_tensor", part[name]) for part in parts]) for name in parts[0]}
