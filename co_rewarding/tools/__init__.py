# SPDX-License-Identifier: Apache-2.0
"""The commands around training: each folder is one, from its options to its output; none imports training.

A project passes through them in this order: data/ prepares, checks and shares data sets, rephrase/ writes each question
in other words, quickstart/ makes the data and models of the small example, report/ shows what a run did, export/ turns
a checkpoint into a Hugging Face model, evaluation/ measures models. generation/ is what several of them ask models
with; cli.py, options.py, tables.py and templates/ are what commands share, hub.py sends to the Hugging Face hub. The
commands themselves are thin files in scripts/, and rewrite_questions.py; dispatch.py, the command `co-rewarding`, has
them under one name.
"""
