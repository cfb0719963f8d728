# SPDX-License-Identifier: Apache-2.0
"""Data sets: conversion from the published ones, checks of rows and pairs, data cards, sharing.

Read in this order: sources.py (the table of published sets), ground_truths.py (their answers), loading.py (how to get
one), prepare.py (its rows as parquet), card.py (what a data card says), sharing.py (a folder to the hub). Of the
checks, inspection.py and inspection_page.py look at whole files (scripts/inspect_data.py); validators.py, with
markers.py, judges a rewrite: `validators.validate(question, rewrite)` needs no model.
"""
