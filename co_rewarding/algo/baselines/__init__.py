# SPDX-License-Identifier: Apache-2.0
"""One short file a baseline: idea, formula, source, degenerate cases, code. Their names: co_rewarding.algo.methods."""
