#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Write each question of a parquet file a second time in other words. See --help and co_rewarding/tools/rephrase/."""

import sys

from co_rewarding.tools.rephrase.cli import main

if __name__ == "__main__":  # vLLM may start processes that import this file again
    sys.exit(main())
