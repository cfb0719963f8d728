# SPDX-License-Identifier: Apache-2.0
"""Reports on runs from their files: the command scripts/report.py.

Read in this order: runs.py (reads a run, all starts merged), summary.py (its table and one example), figures.py (its
curves), page.py (an HTML page with sampled rollouts), subsets.py (the accuracy on some of the questions), comparison.py
(several methods over their seeds), cli.py (the command).
"""
