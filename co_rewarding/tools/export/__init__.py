# SPDX-License-Identifier: Apache-2.0
"""From a training checkpoint to a Hugging Face model with its card: see scripts/export_checkpoint.py.

Read in this order: export.py (the order of the work), checkpoint.py (which folder holds the weights), run_config.py
(what the run was configured with), merge.py (shards to one model), card.py (the model card).
"""
