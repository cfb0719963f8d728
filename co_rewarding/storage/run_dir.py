# SPDX-License-Identifier: Apache-2.0
"""The layout of a training run's directory, defined only here.

    RUN_DIR/
      hydra/<start>/.hydra/config.yaml       the configuration of a start, and overrides.yaml beside it
      metrics/<start>.jsonl                  metrics of a start, one step a line
      made_with/<start>.json                 versions of packages and the commit of a start
      started_as.json                        what all starts of the run must agree in (training.started_as)
      tensorboard/                           the same metrics for TensorBoard
      rollouts/<step>.jsonl                  one training rollout a line
      validation/<step>.jsonl                one validation response a line
      questions.csv                          which questions were learned and which corrupted; at the end of a run
      checkpoints/                           verl's; a setting can place them elsewhere
        latest_checkpointed_iteration.txt    N, written when global_step_N is complete
        global_step_N/                       actor/, save_state.txt, teacher/, co_rewarding.json, labels.json
      run.lock                               locked during a run
      leftovers.json                         what a running start has on its machine (training.leftovers)
      wandb/, wandb_id                       one folder a start, one id for all; offline until `wandb login`
      train.log, curves.png                  of scripts/quickstart.sh and report.py
      evaluation/<name>/                     scripts/evaluate.py
      export/step_N_<weights>/               scripts/export_checkpoint.py

A start is named by its time, %Y-%m-%d_%H-%M-%S, so starts sort by name. Older runs also have folders in hydra/ of
refused starts, and their times are slightly earlier. Nothing is created or parsed here.
"""

from __future__ import annotations

from pathlib import Path

TRACKER = "latest_checkpointed_iteration.txt"  # verl's; importing it from there takes seconds
STEP_PREFIX = "global_step_"  # verl's
ACTOR, TEACHER = "actor", "teacher"  # in the folder of a checkpoint: verl's name, and ours
ADAPTER_FACTS = "lora_train_meta.json"  # in those folders, verl's: rank and alpha of an adapter
DATA_STATE = "data.pt"  # beside them, verl's: position in the order of questions
STATE_FILE = "co_rewarding.json"  # beside them: state of training.run_monitor
LABELS_FILE = "labels.json"  # beside them, with co_rewarding.max_label_flips: the labels of the last visits
SAVE_STATE = "save_state.txt"  # beside them: one of the next; older runs have none (training.checkpoint)
BEGUN, WHOLE, SET_ASIDE = "begun", "whole", "set aside"
REMOVING = ".removing"  # after the name of a checkpoint that is being removed


class RunDir:
    """The directory of one run; need not exist."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.hydra = self.path / "hydra"
        self.metrics = self.path / "metrics"
        self.made_with = self.path / "made_with"
        self.started_as = self.path / "started_as.json"
        self.tensorboard = self.path / "tensorboard"
        self.rollouts = self.path / "rollouts"
        self.validation = self.path / "validation"
        self.questions = self.path / "questions.csv"
        self.checkpoints = self.path / "checkpoints"
        self.evaluation = self.path / "evaluation"
        self.export = self.path / "export"
        self.lock = self.path / "run.lock"
        self.leftovers = self.path / "leftovers.json"
        self.wandb = self.path / "wandb"  # wandb's own name
        self.wandb_id = self.path / "wandb_id"

    @classmethod
    def containing(cls, path: Path) -> RunDir | None:
        """The run whose directory contains `path`, recognised by metrics or checkpoints; None outside of one."""
        runs = map(cls, path.parents)
        return next((run for run in runs if run.metrics.is_dir() or run.checkpoints.is_dir()), None)

    def metrics_file(self, start: str) -> Path:
        return self.metrics / f"{start}.jsonl"

    def made_with_file(self, start: str) -> Path:
        return self.made_with / f"{start}.json"

    def configuration_file(self, start: str) -> Path:
        return self.hydra / start / ".hydra" / "config.yaml"

    def overrides_file(self, start: str) -> Path:
        return self.configuration_file(start).with_name("overrides.yaml")

    def rollouts_file(self, step: int) -> Path:
        return dump_file(self.rollouts, step)

    def validation_file(self, step: int) -> Path:
        return dump_file(self.validation, step)

    def export_folder(self, step: int, weights: str) -> Path:
        """The export folder of `weights` (student or teacher) of a checkpoint."""
        return self.export / f"step_{step}_{weights}"

    def starts(self) -> list[str]:
        """The starts that logged metrics, earliest first."""
        return [path.stem for path in sorted(self.metrics.glob("*.jsonl"))]

    def noted_starts(self) -> list[str]:
        """The starts with recorded versions, earliest first."""
        return sorted(path.stem for path in self.made_with.glob("*.json"))

    def configurations(self) -> dict[str, Path]:
        """The configuration file of every start, by the start's name in hydra/, earliest first."""
        return {path.parent.parent.name: path for path in sorted(self.hydra.glob("*/.hydra/config.yaml"))}

    def last_configuration(self) -> Path | None:
        """The configuration file of the last start with metrics, or else of the last start; None without one."""
        paths, logged = self.configurations(), self.starts()
        earlier = [start for start in paths if logged and start <= logged[-1]]
        return paths[(earlier or list(paths))[-1]] if paths else None

    def dumped_steps(self) -> list[int]:
        """The steps whose rollouts were dumped, in order."""
        return dumped_steps(self.rollouts)

    def validated_steps(self) -> list[int]:
        """The steps whose validation responses were dumped, in order."""
        return dumped_steps(self.validation)


def dump_file(folder: Path, step: int) -> Path:
    """The dump of `step` in a folder of dumps, rollouts or validation."""
    return folder / f"{step}.jsonl"


def dumped_steps(folder: Path) -> list[int]:
    """The steps that a folder of dumps has, in order."""
    return sorted(int(path.stem) for path in folder.glob("*.jsonl") if path.stem.isdecimal())


def checkpoint_folder(checkpoints: Path, step: int | str) -> Path:
    """The folder of one step in a folder of checkpoints, verl's trainer.default_local_dir."""
    return checkpoints / f"{STEP_PREFIX}{step}"


def save_state(folder: Path) -> str | None:
    """BEGUN, WHOLE or SET_ASIDE for a checkpoint folder; None in older runs."""
    file = folder / SAVE_STATE
    return file.read_text(encoding="utf-8", errors="replace").strip() if file.is_file() else None


def shard_file(rank: int, world_size: int, part: str = "model") -> str:
    """verl's name for one process's shard of a model, in the folder of actor or teacher; or of another part."""
    return f"{part}_world_size_{world_size}_rank_{rank}.pt"


def step_of(folder: Path) -> int:
    """The step in a checkpoint folder's name."""
    return int(folder.name.removeprefix(STEP_PREFIX))


def saved_steps(checkpoints: Path) -> list[int]:
    """The steps that a folder of checkpoints has, in order; the last may be half-written."""
    names = (path.name.removeprefix(STEP_PREFIX) for path in checkpoints.glob(f"{STEP_PREFIX}*"))
    return sorted(int(name) for name in names if name.isdecimal())
