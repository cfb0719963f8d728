# SPDX-License-Identifier: Apache-2.0
"""The parts of benchmarks/natural_errors.py: read questions.py, start.py, arms.py, training.py, then the reports."""
