#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Print results of runs, draw their curves, write a page of rollouts: see --help, docs/EXPORT.md."""

import sys

from co_rewarding.tools.report.cli import main

if __name__ == "__main__":
    sys.exit(main())
