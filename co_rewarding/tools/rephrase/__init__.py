# SPDX-License-Identifier: Apache-2.0
"""A second view of each question (arXiv 2508.00410, x' of x): rewriting with a model, and checks of the pairs.

instruction.py          the instruction, and parsing of the response
rewriting.py            sample, validate (tools.data.validators), retry; attempts are recorded, so a run resumes
verify.py               do both views have the same answer?
table.py, report.py     input and output files
options.py, cli.py      rewrite_questions.py: its options, the run, the choice of engine (tools.generation)
"""
