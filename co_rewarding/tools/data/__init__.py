# SPDX-License-Identifier: Apache-2.0
"""Data sets: conversion from the published ones, checks of rows and pairs, data cards, sharing.

Read in this order: sources.py (the table of published sets), ground_truths.py (their answers), loading.py (getting
one), prepare.py (its rows as parquet), card.py (the data card), sharing.py (a folder to the hub). Checks: inspection.py
and inspection_page.py for complete files (scripts/inspect_data.py); validators.py, with markers.py, for a rewrite:
`validators.validate(question, rewrite)` needs no model.
"""
