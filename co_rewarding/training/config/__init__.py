# SPDX-License-Identifier: Apache-2.0
"""Hydra configuration shared by the trees (found as `pkg://co_rewarding.training.config`)."""
