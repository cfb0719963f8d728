# SPDX-License-Identifier: Apache-2.0
"""From a training checkpoint to a Hugging Face model with its card: see scripts/export_checkpoint.py."""
