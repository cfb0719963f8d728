# SPDX-License-Identifier: Apache-2.0
"""What the embedded default trains on: generated arithmetic questions and two small models. No verl, ray or vllm.

Read arithmetic.py (the questions in two wordings), then tiny_model.py (a Llama of 0.5 million parameters, made in two
minutes) and smollm2.py (SmolLM2-135M out of a PyPI package). The commands are in scripts/toy/.
"""
