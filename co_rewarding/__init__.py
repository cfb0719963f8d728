# SPDX-License-Identifier: Apache-2.0
"""Co-rewarding (arXiv 2508.00410), shared by the trees of the methods I and II.

    algo/         the paper, pure functions
    monitoring/   metrics and alarms of a run
    training/     what is added to verl
    cpu/          verl and vLLM on a machine without a GPU
    storage/      files on disk
    tools/        the commands
    score.py      the paper offline

Who may import whom: trees → training → monitoring → algo; training, tools → storage; tools → monitoring, algo; score →
tools; cpu → training; never upwards, and never training ↔ tools. tests/test_arrows.py has the list.
"""

__version__ = "0.1.0"
