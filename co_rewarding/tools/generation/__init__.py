# SPDX-License-Identifier: Apache-2.0
"""Inference: vLLM in this process, or an OpenAI-compatible server.

Read engine.py first: requests in, completions out. vllm_engine.py drives vLLM step by step and loads tokenizers and
configurations; server_engine.py talks to a server through the openai client. rephrase/ and evaluation/ use both.
"""
