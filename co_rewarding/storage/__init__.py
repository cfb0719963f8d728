# SPDX-License-Identifier: Apache-2.0
"""What is on disk, and nothing else: no training, no tool, no model is imported here.

Read in this order: files.py (a file is complete or absent; lines of JSONL), rows.py (a question as a row of verl's
schema, and pairs of files in two wordings), schema.py (departures of a row from it), wordings.py with
question_numbers.py (whether two files as a whole are two wordings of the same questions), run_dir.py (where the files
of a training run are), provenance.py (what a run was made with), journal.py (a file of records that survives a killed
process).
"""
