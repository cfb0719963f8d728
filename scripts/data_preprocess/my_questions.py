#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Your own questions as parquet in verl's schema; see co_rewarding/tools/data/my_questions.py."""

import sys

from co_rewarding.tools.data.my_questions import main

sys.exit(main())
