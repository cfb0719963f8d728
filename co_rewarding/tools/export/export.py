# SPDX-License-Identifier: Apache-2.0
"""Export one checkpoint of a run into a folder: model, tokenizer, generation config, curves, card.

    <folder>.unfinished/ → <folder>/      so a folder that is there is whole
    export.json                           which checkpoint it is; never changes, unlike the card

The model is merged once. Exporting again into the same folder leaves it and only writes the card anew, so that an
evaluation made in between gets into it; a card that was edited by hand stays.

Degenerate cases: a folder that holds something else, or another checkpoint, is refused, never overwritten; a run that
kept no metrics has a card without curves.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

from co_rewarding.storage.files import atomic_write_text
from co_rewarding.storage.provenance import recorded
from co_rewarding.storage.run_dir import RunDir
from co_rewarding.tools.evaluation.generate import model_fingerprint
from co_rewarding.tools.evaluation.results import EXPORT_NAME, result_files
from co_rewarding.tools.export.card import CARD_NAME, CURVES_NAME, Export, card_text, evaluation_text, is_edited
from co_rewarding.tools.export.checkpoint import Checkpoint
from co_rewarding.tools.export.run_config import configs_of, rollout_dtype, starts_of
from co_rewarding.tools.report.figures import draw
from co_rewarding.tools.report.runs import Run, read_run


def export(run_dir: Path, checkpoint: Checkpoint, folder: Path, dtype: str | None = None) -> list[str]:
    """Write `folder`; returns notes for the reader, one line each.

    Args:
        dtype: a key of co_rewarding.tools.export.merge.DTYPES; None is that of the run's rollouts.

    Raises:
        ValueError: one line; the run or the checkpoint is incomplete, or `folder` holds something else.
    """
    layout = RunDir(run_dir)
    configs = configs_of(run_dir, checkpoint.step)
    notes = []
    if any(layout.metrics_file(start).stat().st_size for start in layout.starts()):
        run = read_run(run_dir)
    else:
        run = Run(run_dir.resolve().name, {}, starts=0, num_validation=None)
        notes.append(f"{layout.metrics}: no metrics (trainer.logger without file?); the card has no curves")
    run = replace(run, steps={step: data for step, data in run.steps.items() if step <= checkpoint.step})
    made_with = [recorded(run_dir, start) for start in starts_of(run_dir, checkpoint.step)]
    exported = Export(run, configs, checkpoint.step, checkpoint.weights, dtype or rollout_dtype(configs[-1]), made_with)
    method = exported.method  # an unknown one is refused before the work
    facts = {
        "method": method.name,
        "run": run.name,
        "step": exported.step,
        "weights": exported.weights,
        "dtype": exported.dtype,
        "shards": [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in _shards(checkpoint)],
    }
    if folder.exists():
        _refuse_other(folder, facts)
        notes.append(f"{folder}: the model is there already; only its card is written anew")
    else:
        _merge(checkpoint, folder, exported.dtype, facts)
    if any(run.steps.values()) and not (folder / CURVES_NAME).exists():  # what led to a checkpoint does not change
        draw([run], folder / CURVES_NAME)
    evaluations, others = result_files(layout.evaluation)
    notes += [f"{path}: not of an evaluation, left out" for path in others]
    text = card_text(exported, evaluation_text(evaluations, model_fingerprint(str(folder))), bool(run.steps))
    card = folder / CARD_NAME
    if card.exists() and is_edited(card.read_text(encoding="utf-8")):
        notes.append(f"{card}: was edited by hand and stays; remove it to have it written anew")
    else:
        atomic_write_text(card, text)
    return notes


def _merge(checkpoint: Checkpoint, folder: Path, dtype: str, facts: dict) -> None:
    from co_rewarding.tools.export.merge import DTYPES, merge  # verl and torch take seconds to import

    if dtype not in DTYPES:
        raise ValueError(f"--dtype {dtype}: must be one of {', '.join(DTYPES)}")
    unfinished = folder.with_name(folder.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    merge(checkpoint, unfinished, dtype)
    (unfinished / EXPORT_NAME).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    os.replace(unfinished, folder)


def _refuse_other(folder: Path, facts: dict) -> None:
    path = folder / EXPORT_NAME
    if not path.is_file():
        raise ValueError(f"{folder}: exists and is no export; choose another --output_dir")
    if json.loads(path.read_text(encoding="utf-8")) != facts:
        raise ValueError(
            f"{folder}: holds an export of another checkpoint, or of this one before it was written again; remove it "
            "or choose another --output_dir"
        )


def _shards(checkpoint: Checkpoint) -> list[Path]:
    return [checkpoint.shard(rank) for rank in range(checkpoint.world_size)]
