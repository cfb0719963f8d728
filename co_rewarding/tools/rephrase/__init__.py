# SPDX-License-Identifier: Apache-2.0
"""A second wording for each question (arXiv 2508.00410, x' of x): rewriting with a model, and trust in the pairs.

instruction.py                         what is asked, what is read of the response
validators.py, numbers.py              what is wrong with a rewrite, by name
rewriting.py, records.py               sample, judge, again; what outlives a kill
engines.py, http_engine.py             vLLM or a server
verify.py                              do both wordings have the same answer?
table.py, report.py                    files
options.py, engine_choice.py, cli.py   rewrite_questions.py: its options, who answers, the run itself

The validators need no model: `validators.validate(question, rewrite)`.
"""
