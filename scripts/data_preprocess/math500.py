#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""MATH-500 as parquet in verl's schema; the set is described in co_rewarding/tools/data/sources.py."""

import sys

from co_rewarding.tools.data.prepare import main

sys.exit(main("math500"))
