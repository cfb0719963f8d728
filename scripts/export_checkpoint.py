#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Turn a checkpoint of a run into a Hugging Face model with its card.

    export_checkpoint.py runs/co-rewarding/my_run                           the student of the last step
    export_checkpoint.py runs/co-rewarding/my_run --step 40 --weights teacher
    export_checkpoint.py runs/co-rewarding/my_run --push_to_hub ME/NAME     shows what would be sent; --upload sends it

The folder loads in transformers and vLLM. Run again after an evaluation, and the card has its table.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from co_rewarding.storage.run_dir import RunDir
from co_rewarding.tools.export.checkpoint import FOLDERS, find_checkpoint
from co_rewarding.tools.export.export import export
from co_rewarding.tools.export.run_config import configs_of, saves_teacher
from co_rewarding.tools.hub import add_sharing_options, push


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run_dir", type=Path, metavar="RUN_DIR", help="e.g. runs/co-rewarding/my_run")
    parser.add_argument("--step", default="latest", help="latest (default), or the number of a step that was saved")
    parser.add_argument("--weights", default="student", choices=tuple(FOLDERS), help="default: student")
    parser.add_argument("--dtype", choices=("bfloat16", "float16", "float32"), help="default: that of the rollouts")
    parser.add_argument("--output_dir", type=Path, help="default: RUN_DIR/export/step_N_student (or _teacher)")
    parser.add_argument("--checkpoints", type=Path, help="default: RUN_DIR/checkpoints")
    add_sharing_options(parser)
    args = parser.parse_args(arguments)
    if args.step != "latest" and not args.step.isdecimal():
        parser.error(f"--step {args.step}: must be latest or a whole number")
    if args.upload and not args.push_to_hub:
        parser.error("--upload needs --push_to_hub OWNER/NAME")
    run = RunDir(args.run_dir)
    try:
        step = None if args.step == "latest" else int(args.step)
        checkpoint = find_checkpoint(
            args.checkpoints or run.checkpoints,
            step,
            args.weights,
            saves_teacher=args.weights == "teacher" and saves_teacher(configs_of(args.run_dir)[-1]),
        )
        folder = args.output_dir or run.export_folder(checkpoint.step, checkpoint.weights)
        for note in export(args.run_dir, checkpoint, folder, args.dtype):
            print(f"note: {note}")
        print(f"{args.weights} of step {checkpoint.step}: {folder}")
        if args.push_to_hub:
            push(folder, args.push_to_hub, upload=args.upload, public=args.public)
    except (OSError, ValueError) as error:
        parser.exit(2, f"error: {error}\n")


if __name__ == "__main__":
    main()
