# SPDX-License-Identifier: Apache-2.0
"""A second wording for each question (arXiv 2508.00410, x' of x): rewriting with a model, and trust in the pairs.

instruction.py          what is asked, what is read of the response
rewriting.py            sample, judge (tools.data.validators), again; attempts are recorded, so that a run resumes
verify.py               do both wordings have the same answer?
table.py, report.py     the files that are read and written
options.py, cli.py      rewrite_questions.py: its options, the run itself, which engine answers (tools.generation)
"""
