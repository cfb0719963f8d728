# SPDX-License-Identifier: Apache-2.0
"""Metrics and alarms of a run: metrics.py (votes, labels, rewards), collapse.py (signs of collapse in one step),
alarms.py (changes that indicate a failing run), held_out.py (validation without answers), duration.py. Nothing here
affects a reward."""
