# SPDX-License-Identifier: Apache-2.0
"""A model's row of numbers: responses by the engine, graded as in training, with standard errors, and tables of them.

tasks.py        what is asked, in the order of the paper's tables
protocols.py    how it is asked and read: training's way and lighteval's; extraction.py: an answer anywhere in a text
model.py        who is evaluated
generate.py     every finished response is recorded at once, so that a killed evaluation resumes
grade.py        responses -> verdicts -> scores: the extraction and equivalence of training
estimates.py    avg@k, pass@k, maj@k, standard errors; paired.py: differences on the same questions
harness.py      IFEval, MMLU-Pro and CRUXEval through the lm_eval command line
results.py      results.json: scores and everything that they depend on
tables.py       Markdown, CSV and LaTeX of one or several results
options.py      the options of scripts/evaluate.py
cli.py          the run itself
"""
