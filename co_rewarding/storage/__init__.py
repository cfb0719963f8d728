# SPDX-License-Identifier: Apache-2.0
"""Files on disk; imports no training, tool or model code.

Read in this order: files.py (a file is complete or absent; lines of JSONL), rows.py (a question as a row of verl's
schema, and pairs of files in two views), schema.py (violations of the schema), wordings.py with question_numbers.py
(whether two files as a whole are two views of the same questions), run_dir.py (where the files of a training run are),
provenance.py (versions and commit of a run), journal.py (a file of records that survives a killed process).
"""
