# SPDX-License-Identifier: Apache-2.0
"""When two answers are one: normal_form.py (spelling, exact numbers, parts), relation.py (the relation, with its cache
and its worker processes), worker.py (the process in which math-verify runs, and its limits on time and memory)."""
