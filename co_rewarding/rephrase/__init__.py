# SPDX-License-Identifier: Apache-2.0
"""A second wording for each question (arXiv 2508.00410, x' of x): rewriting with a model, and trust in the pairs.

To read: instruction.py (what is asked, what is read of the response), validators.py (what is wrong with a rewrite, by
name), rewriting.py (sample, judge, again), records.py (what outlives a kill), engines.py and
http_engine.py (vLLM or a server), verify.py (do both wordings have the same answer?), table.py and report.py (files),
options.py, engine_choice.py and cli.py (rewrite_questions.py: its options, who answers, the run itself).

The validators need no model: `validators.validate(question, rewrite)`.
"""
