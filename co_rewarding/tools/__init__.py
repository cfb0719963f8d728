# SPDX-License-Identifier: Apache-2.0
"""The commands around training, a folder each, from options to output; none imports training.

In the order of use: data/ prepares, checks and shares data sets, rephrase/ rephrases questions, quickstart/ makes the
data and models of the small example, report/ shows what a run did, export/ turns a checkpoint into a Hugging Face
model, evaluation/ measures models. Shared: generation/ (inference), cli.py, options.py, tables.py, templates/, and
hub.py, which uploads to the Hugging Face hub. The commands themselves are thin files in scripts/, and
rewrite_questions.py; dispatch.py is the command `co-rewarding` for all of them.
"""
