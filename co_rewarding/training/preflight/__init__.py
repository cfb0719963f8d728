# SPDX-License-Identifier: Apache-2.0
"""What can be wrong with a run, checked before Ray: check.py has the list, each other file is about one thing.

configuration   keys, numbers, batches, overrides (a mistyped key), names, outputs (folders, loggers)
data            data (schema, pairs), truths, prompts (rendering renders and counts them, cache keeps the result)
model           model, weights (their headers)
machine         machine (GPUs, Ray), memory

verl_version is looked at before all of these, by launch.py.
"""
