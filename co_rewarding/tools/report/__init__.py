# SPDX-License-Identifier: Apache-2.0
"""What a run did, from the files that it left: the command scripts/report.py.

Read in this order: runs.py (a run is read, all of its starts merged), summary.py (its table and one example),
figures.py (its curves), page.py (an HTML page with sampled rollouts), subsets.py (the accuracy on some of the
questions), comparison.py (several methods over their seeds), cli.py (the command).
"""
