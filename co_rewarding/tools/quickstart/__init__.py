# SPDX-License-Identifier: Apache-2.0
"""Data and models of the embedded default: generated arithmetic questions and two small models. No verl, ray or vllm.

Read arithmetic.py (the questions in two views), then tiny_model.py (a Llama of 0.5 million parameters, trained in two
minutes) and smollm2.py (SmolLM2-135M from a PyPI package). The commands are in scripts/toy/.
"""
