#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Evaluate a model, regrade saved responses, or compare evaluations: see --help, docs/EVALUATION.md."""

import sys

from co_rewarding.tools.evaluation.cli import main

if __name__ == "__main__":
    sys.exit(main())
