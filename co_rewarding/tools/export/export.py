# SPDX-License-Identifier: Apache-2.0
"""Export one checkpoint of a run into a folder: model, tokenizer, generation config, curves, card.

    <folder>.unfinished/ → <folder>/      so an existing folder is complete
    export.json                           its checkpoint; never changes, unlike the card
    .<folder>.lock                        a second export into the folder waits

The model is merged once. Exporting again into the same folder only rewrites the card, so that it includes evaluations
made in between; a card edited by hand stays. A folder with something else, or another checkpoint, is refused, never
overwritten.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from co_rewarding.storage.files import atomic_write_text
from co_rewarding.storage.run_dir import RunDir
from co_rewarding.tools.cli import printable
from co_rewarding.tools.evaluation.results import EXPORT_NAME, result_files
from co_rewarding.tools.export.card import CARD_NAME, CURVES_NAME, Export, card_text, is_edited
from co_rewarding.tools.export.checkpoint import Checkpoint, read_json
from co_rewarding.tools.export.run_config import configs_of, rollout_dtype, starts_of, value_of
from co_rewarding.tools.report.figures import draw
from co_rewarding.tools.report.runs import Run, read_run


def export(run_dir: Path, checkpoint: Checkpoint, folder: Path, dtype: str | None = None) -> list[str]:
    """Write `folder`; returns notes for the reader, one line each.

    Args:
        dtype: a key of co_rewarding.tools.export.merge.DTYPES; None: that of the run's rollouts.

    Raises:
        ValueError: the run or the checkpoint is incomplete, or `folder` has something else.
    """
    exported, notes = _read(RunDir(run_dir), checkpoint, dtype)
    evaluations, others = result_files(RunDir(run_dir).evaluation)
    notes += [f"{path}: not from an evaluation, skipped" for path in others]
    shards = [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in checkpoint.shards]
    facts = {"method": exported.method, "run": exported.run.name, "step": checkpoint.step}
    facts |= {"weights": checkpoint.weights, "dtype": exported.dtype, "shards": shards}
    if kwargs := value_of(exported.configs[-1], "data.apply_chat_template_kwargs"):
        facts["chat_template_kwargs"] = kwargs  # evaluations use them, too
    if spec := value_of(exported.configs[-1], "co_rewarding.answer_format"):
        facts["answer_format"] = spec
    with _alone(folder):
        if folder.exists():
            _refuse_other(folder, facts)
            notes.append(f"{folder}: the model exists already; only its card is rewritten")
        else:
            _merge(checkpoint, folder, facts)
        has_curves = any(exported.run.steps.values())
        if has_curves and not (folder / CURVES_NAME).exists():  # the history of a checkpoint does not change
            draw([exported.run], folder / CURVES_NAME)
        text = card_text(exported, evaluations, folder, has_curves)
        card = folder / CARD_NAME
        if card.exists() and is_edited(card.read_text(encoding="utf-8", errors="replace")):
            notes.append(f"{card}: was edited by hand and stays; remove it to have it rewritten")
        else:
            atomic_write_text(card, text)
    return notes


def _read(layout: RunDir, checkpoint: Checkpoint, dtype: str | None) -> tuple[Export, list[str]]:
    """The run's metrics up to the checkpoint, and notes."""
    configs, notes = configs_of(layout.path, checkpoint.step), []
    if any(layout.metrics_file(start).stat().st_size for start in layout.starts()):
        run = read_run(layout.path)
    else:
        run = Run(layout.path.resolve().name, {}, starts=0)
        notes.append(f"{layout.metrics}: no metrics (trainer.logger without file?); the card has no curves")
    run = run.until(checkpoint.step)
    made = [layout.made_with_file(start) for start in starts_of(layout.path, checkpoint.step)]
    made_with = [{"versions": {}, "commit": None} | read_json(path) for path in made if path.is_file()]
    dtype = dtype or rollout_dtype(configs[-1])
    return Export(run, configs, checkpoint.step, checkpoint.weights, dtype, made_with), notes


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Holds the lock of `folder` against other exports."""
    folder = folder.resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.with_name(f".{folder.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"{folder}: waiting for another export into it", file=sys.stderr)
        lock.acquire()
    except OSError:
        pass  # a file system without locks
    try:
        yield
    finally:
        lock.release()


def _merge(checkpoint: Checkpoint, folder: Path, facts: dict[str, Any]) -> None:
    from co_rewarding.tools.export.merge import DTYPES, merge  # verl and torch take seconds to import

    if facts["dtype"] not in DTYPES:
        raise ValueError(f"--dtype {facts['dtype']}: must be one of {', '.join(DTYPES)}")
    unfinished = folder.with_name(folder.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    merge(checkpoint, unfinished, facts["dtype"])
    (unfinished / EXPORT_NAME).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    os.replace(unfinished, folder)


def _refuse_other(folder: Path, facts: dict[str, Any]) -> None:
    path = folder / EXPORT_NAME
    if not path.is_file():
        raise ValueError(f"{folder}: exists and is not an export; choose another --output_dir")
    there = read_json(path)
    differing = [
        f"{key} {printable(there.get(key), 60)}, not {value}"
        for key, value in facts.items()
        if key != "shards" and there.get(key) != value
    ]
    if not differing and there.get("shards") != facts["shards"]:
        differing = ["other shards: of another checkpoint, or of this one before it was saved again"]
    if differing:
        raise ValueError(
            f"{folder}: has an export with {'; '.join(differing)}; remove it or choose another --output_dir"
        )
