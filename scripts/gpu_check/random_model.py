# SPDX-License-Identifier: Apache-2.0
"""A Qwen3 of random weights with the toy's tokenizer, padded to its vocabulary: only for time and memory.

    python scripts/gpu_check/random_model.py TOY_MODEL FOLDER gpu|cpu|82m

On a GPU it has the shape of Qwen3-0.6B, 0.6 billion parameters; in a rehearsal a handful; 82m is for times and memory
on a CPU (benchmarks/step_phases.sh).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from transformers import AutoTokenizer, Qwen3Config, Qwen3ForCausalLM

SHAPES = {
    "gpu": {
        "vocab_size": 151_936, "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28,
        "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128,
    },
    "cpu": {
        "vocab_size": 1000, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32,
    },
    "82m": {
        "vocab_size": 32_000, "hidden_size": 640, "intermediate_size": 2048, "num_hidden_layers": 12,
        "num_attention_heads": 10, "num_key_value_heads": 5, "head_dim": 64,
    },
}  # fmt: skip


def main() -> None:
    toy_model, folder, shape = sys.argv[1:]
    tokenizer = AutoTokenizer.from_pretrained(toy_model)
    config = Qwen3Config(
        **SHAPES[shape],
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(0)
    with torch.device("cuda" if shape == "gpu" else "cpu"):
        model = Qwen3ForCausalLM(config).bfloat16()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    fill_up(Path(folder) / "tokenizer.json", config.vocab_size - 1)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_end|>"]})  # verl demands it of every Qwen
    tokenizer.save_pretrained(folder)
    print(f"{folder}: {model.num_parameters():,} random parameters")


def fill_up(tokenizer_file: Path, vocab_size: int) -> None:
    """As many tokens as the model has: verl lets vLLM sample only the tokenizer's tokens, while the trainer, which
    recomputes the probabilities, counts all."""
    state = json.loads(tokenizer_file.read_text(encoding="utf-8"))
    vocabulary = state["model"]["vocab"]  # of a unigram model: pieces with their scores
    vocabulary += [[f"<{number}>", -100.0] for number in range(len(vocabulary), vocab_size)]
    tokenizer_file.write_text(json.dumps(state), encoding="utf-8")


if __name__ == "__main__":
    main()
