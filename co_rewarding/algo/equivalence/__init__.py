# SPDX-License-Identifier: Apache-2.0
"""When two answers are the same (docs/ANSWERS.md).

Read in this order: spelling.py (an answer as tokens), reader.py (tokens as a value) with equations.py, brackets.py and
units.py, algebra.py (what an expression is at some points), values.py (when two values are the same), relation.py (all
of it in one call, with counts and worker processes), worker.py (the process in which math-verify reads what the reader
cannot).
"""
