#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Turn a checkpoint of a run into a Hugging Face model with its card.

    export_checkpoint.py runs/co-rewarding/my_run                           the student of the last step
    export_checkpoint.py runs/co-rewarding/my_run --step 40 --weights teacher
    export_checkpoint.py runs/co-rewarding/my_run --push_to_hub ME/NAME     shows what would be sent; --upload sends it

The folder loads in transformers and vLLM. Run again after an evaluation to add its table to the card.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import field_validator

from co_rewarding.storage.run_dir import RunDir
from co_rewarding.tools.cli import command
from co_rewarding.tools.export.checkpoint import find_checkpoint
from co_rewarding.tools.export.export import export
from co_rewarding.tools.export.run_config import configs_of, saves_teacher
from co_rewarding.tools.hub import SharingOptions, send
from co_rewarding.tools.options import REQUIRED, Options, option, parse


class ExportOptions(Options):
    """checkpoint and output"""

    run_dir: Path = option(REQUIRED, "e.g. runs/co-rewarding/my_run", metavar="RUN_DIR", positional=True)
    step: str = option("latest", "a saved step, or latest", metavar="N")
    weights: Literal["student", "teacher"] = option("student", "")
    dtype: Literal["bfloat16", "float16", "float32"] | None = option(None, "default: that of the rollouts")
    output_dir: Path | None = option(None, "default RUN_DIR/export/step_N_student (or _teacher)")
    checkpoints: Path | None = option(None, "default RUN_DIR/checkpoints")

    @field_validator("step")
    @classmethod
    def _is_a_step(cls, step: str) -> str:
        if step != "latest" and not step.isdecimal():
            raise ValueError("must be latest or a whole number")
        return step


@command("export_checkpoint.py")
def main(arguments: Sequence[str]) -> None:
    ours, sharing = parse("export_checkpoint.py", __doc__, [ExportOptions, SharingOptions], arguments)
    run = RunDir(ours.run_dir)
    checkpoint = find_checkpoint(
        ours.checkpoints or run.checkpoints,
        None if ours.step == "latest" else int(ours.step),
        ours.weights,
        saves_teacher=ours.weights == "teacher" and saves_teacher(configs_of(ours.run_dir)[-1]),
    )
    folder = ours.output_dir or run.export_folder(checkpoint.step, checkpoint.weights)
    for note in export(ours.run_dir, checkpoint, folder, ours.dtype):
        print(f"note: {note}")
    print(f"{ours.weights} of step {checkpoint.step}: {folder}")
    if sharing.push_to_hub:
        files = sorted(path.name for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
        message = f"{ours.weights.capitalize()} of step {checkpoint.step} of a Co-rewarding run"
        to = {"upload": sharing.upload, "public": sharing.public}
        send(folder, dict.fromkeys(files, ""), "model", sharing.push_to_hub, message, **to)


if __name__ == "__main__":
    sys.exit(main())
