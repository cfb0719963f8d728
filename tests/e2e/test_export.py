# SPDX-License-Identifier: Apache-2.0
"""Random-weight models of the Qwen2, Qwen3 and Llama architectures train three steps for real, are exported, and load.

Each with Co-rewarding-I and with II, one of them on two ranks. What transformers computes with an export is what the
shards say, and vLLM agrees with both.
"""

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from e2e_runs import REPO, ROLLOUTS, finish, shards_of, start
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    PreTrainedTokenizerBase,
    Qwen2Config,
    Qwen2Tokenizer,
    Qwen3Config,
)

from co_rewarding.tools.quickstart.tiny_model import build_tokenizer

pytestmark = [pytest.mark.e2e, pytest.mark.long]

CONFIGS = {"qwen2": Qwen2Config, "qwen3": Qwen3Config, "llama": LlamaConfig}
# log-probabilities of prompt and greedy continuation, as vLLM computes them
VLLM = """
import json, sys
from vllm import LLM, SamplingParams

if __name__ == "__main__":
    _, path, prompt_ids = sys.argv
    llm = LLM(path, dtype="float32", enforce_eager=True, max_model_len=128, max_num_seqs=2, max_num_batched_tokens=256,
              kv_cache_memory_bytes=1 << 26)
    asked = {"prompt_token_ids": json.loads(prompt_ids)}
    (answer,) = llm.generate([asked], SamplingParams(max_tokens=16, temperature=0, logprobs=0, ignore_eos=True))
    ids = list(answer.outputs[0].token_ids)
    logs = [step[token].logprob for step, token in zip(answer.outputs[0].logprobs, ids, strict=True)]
    print("RESULT", json.dumps([ids, logs]))
"""


def small_tokenizer(toy: Path, architecture: str) -> PreTrainedTokenizerBase:
    """Byte-level BPE of the toy's text: beside a Qwen configuration transformers takes any tokenizer for one."""
    if architecture == "llama":
        return build_tokenizer()
    rows = pq.read_table(toy / "data/train.parquet").to_pylist()
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(vocab_size=600, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    bpe.train_from_iterator([message["content"] for row in rows for message in row["prompt"]], trainer)
    made = json.loads(bpe.to_str())["model"]
    merges = [tuple(merge) for merge in made["merges"]]
    tokenizer = Qwen2Tokenizer(made["vocab"], merges, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    tokenizer.chat_template = (
        "{% for message in messages %}{{ message['role'] + ': ' + message['content'] + '<|im_end|>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
    )
    return tokenizer


def random_model(folder: Path, toy: Path, architecture: str) -> Path:
    """About 2 million parameters; the head size is 32, since vLLM's attention on CPU needs a multiple of it."""
    tokenizer = small_tokenizer(toy, architecture)
    torch.manual_seed(1)
    config = CONFIGS[architecture](
        vocab_size=len(tokenizer), hidden_size=256, intermediate_size=512, num_hidden_layers=3, num_attention_heads=8,
        num_key_value_heads=4, head_dim=32, max_position_embeddings=256, tie_word_embeddings=True, bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("architecture", "tree", "ranks"),
    [
        ("qwen2", "I", 1),
        ("qwen3", "II", 2),
        ("llama", "I", 1),
        ("llama", "II", 1),
        ("qwen2", "II", 1),
        ("qwen3", "I", 1),
    ],
)
def test_from_random_weights_to_vllm(
    toy: Path, tmp_path: Path, architecture: str, tree: str, ranks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = random_model(tmp_path / architecture, toy, architecture)
    name = f"{architecture}_{tree}"
    run = start(
        tree, toy, name, "trainer.total_training_steps=3", "trainer.val_before_train=False",
        MODEL_PATH=str(model), MAX_PROMPT_LENGTH="96", SAVE_FREQ="3", TEST_FREQ="-1",
        TEACHER_NUM_ROLLOUTS=str(ROLLOUTS), GPUS_PER_NODE=str(ranks),
    )  # fmt: skip
    finish(run, toy / f"{name}.log")
    run_dir = toy / "runs/co-rewarding" / name
    ids = AutoTokenizer.from_pretrained(model)("Compute 17 + 26.").input_ids
    for weights, folder in (("student", "actor"), ("teacher", "teacher"))[: 1 if tree == "I" else 2]:
        command = [sys.executable, REPO / "scripts/export_checkpoint.py", run_dir, "--weights", weights]
        subprocess.run(list(map(str, command)), check=True)
        target = run_dir / f"export/step_3_{weights}"
        loaded = AutoModelForCausalLM.from_pretrained(target)
        assert loaded.dtype == torch.float32  # what the rollouts were computed with
        saved = shards_of(run_dir / f"checkpoints/global_step_3/{folder}", "model", ranks)
        assert all(torch.equal(value, saved[name]) for name, value in loaded.state_dict().items())

        script = tmp_path / "load.py"
        script.write_text(VLLM)
        monkeypatch.setenv("VLLM_CPU_OMP_THREADS_BIND", "nobind")
        monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        done = subprocess.run(
            [sys.executable, str(script), str(target), json.dumps(ids)], capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr[-3000:]
        (line,) = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
        answered, logs = json.loads(line.removeprefix("RESULT "))
        with torch.no_grad():
            scores = loaded(torch.tensor([ids + answered])).logits[0].log_softmax(-1)
        expected = scores[len(ids) - 1 : -1].gather(1, torch.tensor(answered)[:, None])[:, 0]
        gap = (expected - torch.tensor(logs)).abs().max()
        print(f"{name}, {weights}: largest gap of a log-probability, vLLM against transformers: {gap:.1e}")
        assert gap < 1e-4
