# SPDX-License-Identifier: Apache-2.0
"""A model's benchmark scores: responses by the engine, graded as in training, with standard errors and tables.

tasks.py        the tasks, in the order of the paper's tables
protocols.py    prompts and answer extraction: training's and lighteval's; extraction.py: an answer anywhere in a text
model.py        the evaluated model
generate.py     every finished response is recorded at once, so that a killed evaluation resumes
grade.py        responses -> verdicts -> scores: the extraction and equivalence of training
estimates.py    avg@k, pass@k, maj@k, standard errors; paired.py: differences on the same questions
harness.py      IFEval, MMLU-Pro and CRUXEval through the lm_eval command line
results.py      results.json: scores and everything they depend on
tables.py       Markdown, CSV and LaTeX of one or several results
options.py      the options of scripts/evaluate.py
cli.py          the run itself
"""
