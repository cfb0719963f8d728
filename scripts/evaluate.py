#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Evaluate a model, grade saved responses again, or put evaluations side by side: see --help, docs/EVALUATION.md."""

import sys

from co_rewarding.tools.evaluation.cli import main

if __name__ == "__main__":
    sys.exit(main())
