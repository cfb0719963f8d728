# SPDX-License-Identifier: Apache-2.0
"""Checks of a run before Ray starts: check.py has the list, each other file has one topic.

configuration   keys, numbers, batches, overrides (a mistyped key), names, outputs (folders, loggers)
data            data (schema, pairs), truths, prompts (rendering renders and counts them, cache keeps the result)
model           model, weights (their headers)
machine         machine (GPUs, Ray), memory

launch.py checks verl_version before all of these.
"""
