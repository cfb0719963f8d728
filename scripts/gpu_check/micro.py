# SPDX-License-Identifier: Apache-2.0
"""Stage "micro": costs of the parts of a training step and their alternatives, each in seconds.

python scripts/gpu_check/micro.py FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

import attention
import average
import log_probs
import torch
from rows import Rows


def main() -> None:
    rows = Rows(Path(sys.argv[1]))
    for part in (log_probs, average, attention):  # the longest, which compiles, last
        with rows.section(part.__name__):
            part.measure(rows)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
