# SPDX-License-Identifier: Apache-2.0
"""What a run did, from the files that it left.

Read in this order: runs.py (a run is read, all of its starts merged), summary.py (its table and one example),
figures.py (its curves), page.py (an HTML page with sampled rollouts), comparison.py (several methods over their seeds).
The commands are scripts/summarize_run.py, scripts/plot_runs.py and scripts/figures/compare_table.py.
"""
