#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The published pairs as parquet in verl's schema; they are described in co_rewarding/tools/data/published.py."""

import sys

from co_rewarding.tools.data.pairs import main

sys.exit(main())
