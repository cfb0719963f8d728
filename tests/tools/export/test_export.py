# SPDX-License-Identifier: Apache-2.0
"""Exported checkpoints: the same logits as the shards put together by hand, a card that says what the run was told.

The shards are written here the way FSDP2 and verl write them: DTensors split along the first dimension, one file a
process; torch lets one process make those of both.
"""

import ast
import copy
import json
import re
import shutil
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from time import sleep
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from huggingface_hub.utils import filter_repo_objects
from omegaconf import OmegaConf
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Shard
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, PreTrainedModel, Qwen2Config, Qwen3Config

from co_rewarding import __version__
from co_rewarding.storage import provenance
from co_rewarding.storage.rows import file_sha256, make_row, write_rows
from co_rewarding.tools.data.card import Card, FileFacts, write_card
from co_rewarding.tools.evaluation.model import model_fingerprint
from co_rewarding.tools.evaluation.results import FORMAT
from co_rewarding.tools.export.card import base_model, is_edited
from co_rewarding.tools.export.checkpoint import find_checkpoint
from co_rewarding.tools.export.export import export
from co_rewarding.tools.export.merge import fold_adapter, merge
from co_rewarding.tools.export.run_config import PAPER, changed_between, configs_of, differences, saves_teacher
from co_rewarding.tools.generation.vllm_engine import prompt_text
from co_rewarding.tools.hub import send
from co_rewarding.tools.quickstart.tiny_model import build_tokenizer

TOKENIZER = build_tokenizer()
SIZES = {
    "vocab_size": len(TOKENIZER),
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "max_position_embeddings": 64,
    "bos_token_id": None,
    "eos_token_id": TOKENIZER.eos_token_id,
    "pad_token_id": TOKENIZER.pad_token_id,
}
ARCHITECTURES: dict[str, Callable[..., Any]] = {"llama": LlamaConfig, "qwen2": Qwen2Config, "qwen3": Qwen3Config}
KEYS = [paper.key for paper in PAPER] + ["co_rewarding.method", "actor_rollout_ref.rollout.dtype"]
KEYS += ["data.train_files", "data.train_aug_files", "data.val_files", "actor_rollout_ref.model.path"]
TOKENS = torch.arange(5, 45).reshape(2, 20)


def random_model(architecture: str, seed: int) -> PreTrainedModel:
    torch.manual_seed(seed)
    # Qwen's small models tie the output to the embeddings; Llama here stands for models that do not
    config = ARCHITECTURES[architecture](**SIZES, tie_word_embeddings=architecture != "llama")
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    model.config.architectures = [type(model).__name__]  # as in every model that was saved once
    return model


def logits(model: PreTrainedModel) -> torch.Tensor:
    with torch.no_grad():
        return model(TOKENS).logits.float()


def save_shards(folder: Path, state: dict[str, torch.Tensor], model: PreTrainedModel, world_size: int) -> None:
    (folder / "huggingface").mkdir(parents=True)
    for rank in range(world_size):
        mesh = DeviceMesh("cpu", list(range(world_size)), mesh_dim_names=("fsdp",), _init_backend=False, _rank=rank)
        shards = {}
        for name, tensor in state.items():
            pieces = [*torch.chunk(tensor, world_size), *[tensor[:0]] * world_size]  # too few rows: the rest is empty
            shards[name] = DTensor.from_local(
                pieces[rank].clone(), mesh, [Shard(0)], run_check=False, shape=tensor.shape, stride=tensor.stride()
            )
        torch.save(shards, folder / f"model_world_size_{world_size}_rank_{rank}.pt")
    (folder / "fsdp_config.json").write_text(json.dumps({"FSDP_version": 2, "world_size": world_size}))
    model.config.save_pretrained(folder / "huggingface")
    model.generation_config.save_pretrained(folder / "huggingface")
    TOKENIZER.save_pretrained(folder / "huggingface")


@pytest.fixture
def run_dir(tmp_path: Path, config: Any) -> Path:
    """A run of the sample configuration that trained three steps; its checkpoints are for the tests to add."""
    folder = tmp_path / "a run"
    write_start(folder, "2026-01-02_03-04-05", config, [1, 2, 3])
    return folder


def write_start(folder: Path, time: str, config: Any, steps: list[int]) -> None:
    (folder / f"hydra/{time}/.hydra").mkdir(parents=True)
    small = OmegaConf.create()  # reading the whole of it takes half a second
    for key in KEYS:
        if (block := OmegaConf.select(config, key.rpartition(".")[0])) is not None and key.rpartition(".")[2] in block:
            OmegaConf.update(small, key, OmegaConf.select(config, key), force_add=True)
    OmegaConf.save(small, folder / f"hydra/{time}/.hydra/config.yaml")
    (folder / "metrics").mkdir(exist_ok=True)
    if steps:
        rows = [{"step": step, "data": {"reward/mean": step / 10, "timing_s/step": 2.0}} for step in steps]
        # the metrics file is begun a moment after the configuration is written
        (folder / f"metrics/{time[:-1]}9.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def add_checkpoint(run_dir: Path, step: int, *, world_size: int = 1, architecture: str = "llama") -> None:
    """actor/ and teacher/ of one step, from the seeds `step` and 100 + `step`."""
    for folder, seed in (("actor", step), ("teacher", 100 + step)):
        model = random_model(architecture, seed)
        where = run_dir / f"checkpoints/global_step_{step}/{folder}"
        save_shards(where, model.state_dict(), model, world_size)
    (run_dir / "checkpoints/latest_checkpointed_iteration.txt").write_text(str(step))


def card_of(folder: Path) -> str:
    """The card, without the spaces that align its tables."""
    return re.sub(" +", " ", (folder / "README.md").read_text())


def head_of(folder: Path) -> dict[str, Any]:
    return yaml.safe_load((folder / "README.md").read_text().split("---\n")[1])


def evaluate(run_dir: Path, name: str, model: Path | str, **more: Any) -> None:
    """A result of MATH-500, 50 ± 5 % of 100 questions, as scripts/evaluate.py leaves it."""
    fingerprint = model if isinstance(model, str) else model_fingerprint(str(model))
    task = {"primary": "pass@1", "accuracy": {"pass@1": {"value": 0.5, "standard_error": 0.05}}}
    task |= {"questions": 100, "num_rows": 100, "samples": 1} | more
    result = {"format": FORMAT, "name": name, "method": "co_rewarding_I", "base_model": "tiny"}
    result |= {"model": {"path": "x", "fingerprint": fingerprint}, "tasks": {"math500": task}}
    path = run_dir / f"evaluation/{name}/results.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(result))


def by_hand(folder: Path, architecture: str, world_size: int) -> PreTrainedModel:
    """The shards, put together without verl and without the code under test."""
    files = [folder / f"model_world_size_{world_size}_rank_{rank}.pt" for rank in range(world_size)]
    parts = [torch.load(file, weights_only=False) for file in files]
    model = random_model(architecture, seed=7)
    model.load_state_dict({name: torch.cat([part[name]._local_tensor for part in parts]) for name in parts[0]})
    return model


@pytest.mark.parametrize(("architecture", "world_size"), [("llama", 1), ("llama", 2), ("qwen2", 2), ("qwen3", 1)])
def test_an_exported_model_gives_the_logits_of_the_shards(run_dir: Path, architecture: str, world_size: int) -> None:
    add_checkpoint(run_dir, 3, world_size=world_size, architecture=architecture)
    found = {}
    for weights, folder in (("student", "actor"), ("teacher", "teacher")):
        checkpoint = find_checkpoint(run_dir / "checkpoints", None, weights)
        target = run_dir / "export" / weights
        merge(checkpoint, target, "float32")
        loaded = AutoModelForCausalLM.from_pretrained(target)
        assert loaded.dtype == torch.float32
        expected = logits(by_hand(run_dir / f"checkpoints/global_step_3/{folder}", architecture, world_size))
        found[weights] = logits(loaded)
        assert torch.equal(found[weights], expected)
        for path in (checkpoint.folder / "huggingface").glob("*token*.json"):
            assert (target / path.name).read_bytes() == path.read_bytes()
        assert AutoTokenizer.from_pretrained(target).chat_template == TOKENIZER.chat_template
        assert loaded.generation_config.eos_token_id == TOKENIZER.eos_token_id
        assert list(target.glob("*.safetensors"))
    assert not torch.equal(found["student"], found["teacher"])


def test_bfloat16_is_the_rounded_master_weights(run_dir: Path) -> None:
    add_checkpoint(run_dir, 3, world_size=2)
    merge(find_checkpoint(run_dir / "checkpoints", 3, "student"), run_dir / "out", "bfloat16")
    loaded = AutoModelForCausalLM.from_pretrained(run_dir / "out")
    assert loaded.dtype == torch.bfloat16
    for name, value in random_model("llama", 3).state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value.bfloat16()), name


@pytest.mark.parametrize("kept", [0, 1000, -100])  # bytes
def test_a_shard_that_is_cut_off_is_named(run_dir: Path, kept: int) -> None:
    add_checkpoint(run_dir, 3, world_size=2)
    shard = run_dir / "checkpoints/global_step_3/actor/model_world_size_2_rank_1.pt"
    shard.write_bytes(shard.read_bytes()[:kept])
    with pytest.raises(
        ValueError, match=r"rank_1\.pt: cannot be read, was writing or copying it interrupted\?"
    ) as told:
        merge(find_checkpoint(run_dir / "checkpoints", 3, "student"), run_dir / "out", "float32")
    assert len(str(told.value).splitlines()) == 1


def test_flipped_bytes_in_a_shard_are_found(run_dir: Path) -> None:
    add_checkpoint(run_dir, 3, world_size=2)
    shard = run_dir / "checkpoints/global_step_3/actor/model_world_size_2_rank_1.pt"
    good = shard.read_bytes()
    middle = len(good) // 2
    shard.write_bytes(
        good[:middle] + bytes(255 - byte for byte in good[middle : middle + 2000]) + good[middle + 2000 :]
    )
    with pytest.raises(ValueError, match=r"model_world_size_2_rank_1\.pt: cannot be read, was .* interrupted\? \(Bad "):
        merge(find_checkpoint(run_dir / "checkpoints", 3, "student"), run_dir / "out", "float32")
    one = good.index(torch.ones(2).numpy().tobytes())  # in the weights of a norm
    shard.write_bytes(good[:one] + b"\x01" + good[one + 1 :])
    with pytest.raises(ValueError, match="Bad CRC-32"):
        merge(find_checkpoint(run_dir / "checkpoints", 3, "student"), run_dir / "out", "float32")
    assert not (run_dir / "out").exists()


def test_a_lora_adapter_is_folded_in(run_dir: Path) -> None:
    peft = pytest.importorskip("peft")
    base = random_model("qwen2", 1)
    torch.manual_seed(2)
    adapted = peft.get_peft_model(
        base, peft.LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", init_lora_weights=False)
    )
    before = logits(random_model("qwen2", 1))
    folder = run_dir / "checkpoints/global_step_2/actor"
    save_shards(folder, adapted.state_dict(), base, 2)
    (folder / "lora_train_meta.json").write_text('{"r": 4, "lora_alpha": 8, "task_type": "CAUSAL_LM"}')
    # the teacher's adapter alone, for the same model (co_rewarding_ii.adapter_worker)
    teachers = {
        name: weight * (2 if "lora_A" in name else 1)
        for name, weight in adapted.state_dict().items()
        if ".lora_" in name
    }
    save_shards(folder.with_name("teacher"), teachers, base, 2)
    shutil.copy(folder / "lora_train_meta.json", folder.with_name("teacher"))
    for weights in ("student", "teacher"):
        merge(find_checkpoint(run_dir / "checkpoints", 2, weights), run_dir / weights, "float32")
    student, teacher = (logits(AutoModelForCausalLM.from_pretrained(run_dir / who)) for who in ("student", "teacher"))
    # peft's own reading of what lies beside the merged models
    for who, merged in (("student", student), ("teacher", teacher)):
        loaded = peft.PeftModel.from_pretrained(random_model("qwen2", 1), run_dir / who / "lora_adapter")
        assert torch.allclose(logits(loaded), merged, atol=1e-5)
    adapted.load_state_dict(teachers, strict=False)
    assert torch.allclose(teacher, logits(adapted), atol=1e-5)
    assert min((student - before).abs().max(), (teacher - before).abs().max(), (teacher - student).abs().max()) > 0.1


def test_what_an_adapter_needs(tmp_path: Path) -> None:
    adapter = {"m.base_layer.weight": torch.zeros(2, 2), "m.lora_A.default.weight": torch.ones(1, 2)}
    adapter["m.lora_B.default.weight"] = torch.ones(2, 1)
    meta = tmp_path / "lora_train_meta.json"
    with pytest.raises(ValueError, match=r"lora_train_meta\.json: missing"):
        fold_adapter(dict(adapter), meta)
    for broken in ("{", "[]", "{}", '{"r": 0, "lora_alpha": 3}'):
        meta.write_text(broken)
        with pytest.raises(ValueError, match=r"lora_train_meta\.json: "):
            fold_adapter(dict(adapter), meta)
    meta.write_text('{"r": 1, "lora_alpha": 3}')
    with pytest.raises(ValueError, match="save_lora_only"):
        fold_adapter({name: value for name, value in adapter.items() if "base" not in name}, meta)
    with pytest.raises(ValueError, match="cannot be folded in"):
        fold_adapter({**adapter, "e.lora_embedding_A.default": torch.ones(1)}, meta)
    fold_adapter(adapter, meta)
    assert adapter.keys() == {"m.weight"}
    assert adapter["m.weight"].tolist() == [[3, 3], [3, 3]]  # 0 + 3/1 · 1 · 1


class TestFindCheckpoint:
    def test_latest_is_the_one_that_was_saved_whole(self, run_dir: Path) -> None:
        add_checkpoint(run_dir, 9)
        add_checkpoint(run_dir, 10)
        assert find_checkpoint(run_dir / "checkpoints", None, "student").step == 10
        (run_dir / "checkpoints/latest_checkpointed_iteration.txt").write_text("9")  # killed while saving step 10
        assert find_checkpoint(run_dir / "checkpoints", None, "teacher").step == 9
        assert find_checkpoint(run_dir / "checkpoints", 10, "teacher").folder.name == "teacher"

    def test_what_is_missing_is_reported(self, run_dir: Path) -> None:
        checkpoints = run_dir / "checkpoints"
        with pytest.raises(ValueError, match="no checkpoints"):
            find_checkpoint(checkpoints, None, "student")
        add_checkpoint(run_dir, 9, world_size=2)
        with pytest.raises(ValueError, match=r"--step 3: not saved .* there are 9"):
            find_checkpoint(checkpoints, 3, "student")
        (checkpoints / "latest_checkpointed_iteration.txt").unlink()
        with pytest.raises(ValueError, match="there are 9"):
            find_checkpoint(checkpoints, None, "student")
        (checkpoints / "global_step_9/actor/model_world_size_2_rank_1.pt").unlink()
        with pytest.raises(ValueError, match=r"rank_1\.pt: missing, one of 1 missing shards of 2"):
            find_checkpoint(checkpoints, 9, "student")
        (checkpoints / "global_step_9/teacher").rename(checkpoints / "elsewhere")
        with pytest.raises(ValueError, match=r"--weights teacher: .* the starting model"):
            find_checkpoint(checkpoints, 9, "teacher")
        with pytest.raises(ValueError, match=r"--weights teacher: .*; was saving it interrupted\?"):
            find_checkpoint(checkpoints, 9, "teacher", saves_teacher=True)
        facts = checkpoints / "global_step_9/actor/fsdp_config.json"
        for broken in ("", "{", "[2]", '{"world_size": "2"}', '{"world_size": 0}', "{}", '{"world_size": 1e9}', "\xff"):
            facts.write_text(broken, encoding="latin-1")
            with pytest.raises(ValueError, match=r"fsdp_config\.json: ") as told:
                find_checkpoint(checkpoints, 9, "student")
            assert len(str(told.value).splitlines()) == 1
        facts.unlink()
        with pytest.raises(ValueError, match="interrupted"):
            find_checkpoint(checkpoints, 9, "student")


class TestCard:
    def exported(self, run_dir: Path) -> tuple[Path, Callable[[], list[str]]]:
        if not (run_dir / "checkpoints").exists():
            add_checkpoint(run_dir, 3)
        target = run_dir / "export/step_3_student"
        return target, lambda: export(run_dir, find_checkpoint(run_dir / "checkpoints", 3, "student"), target)

    def test_a_reward_of_ones_own_is_called_by_its_name(self, run_dir: Path) -> None:
        """Without the folder that it lies in, and when it is gone."""
        own = {"co_rewarding": {"method": "co_rewarding_I+0.1*/home/me/own.py:short"}}
        for path in run_dir.glob("hydra/*/.hydra/config.yaml"):
            OmegaConf.save(OmegaConf.merge(OmegaConf.load(path), own), path)
        target, again = self.exported(run_dir)
        again()
        text = card_of(target)
        assert "| method | co_rewarding_I+0.1*own.short |" in text and "/home/me" not in text
        assert "Trained with co_rewarding_I+0.1*own.short, by an independent" in text  # not as the paper describes

    def test_a_control_is_not_described_in_the_paper(self, run_dir: Path) -> None:
        for path in run_dir.glob("hydra/*/.hydra/config.yaml"):
            config = OmegaConf.load(path)
            config.co_rewarding.method = "co_rewarding_I_same_wording"
            config.data.train_aug_files = config.data.train_files
            OmegaConf.save(config, path)
        target, again = self.exported(run_dir)
        again()
        text = card_of(target)
        assert "Trained with Co-rewarding-I, one wording twice, by an independent" in text
        assert "every question is used twice in the same words" in text and "(a control)" in text
        assert "| trained on |" in text and "rephrased questions" not in text

    def test_says_what_the_run_was(self, run_dir: Path, sample_folder: Path) -> None:
        target, again = self.exported(run_dir)
        again()
        text = card_of(target)
        head = head_of(target)
        assert head["co_rewarding"] == {"method": "co_rewarding_I", "weights": "student", "step": 3}
        assert "base_model" not in head and "license" not in head  # a folder on a machine, of an unknown licence
        for part in (
            "| base model | `model` |",
            "Co-rewarding-I: every question has two views",
            "| questions a batch | 8 | 128 |",
            "| rollouts a question | 4 | 8 |",
            "| epochs | 1 | 3 |",
            "train_rephrased.parquet`, 16 rows, SHA-256 ",
            "![Curves of the run against its steps](training_curves.png)",
            "| reward mean * | 0.100 → 0.300 |",  # of 0.1, 0.2, 0.3
            "| steps done | 3 |",
            "verl 0.9.1",
        ):
            assert part in text, part
        assert str(sample_folder) not in text and str(run_dir) not in text
        assert "## Evaluation" not in text
        # the sample run is one on CPU, which rolls out in float32
        assert AutoModelForCausalLM.from_pretrained(target).dtype == torch.float32
        assert (target / "training_curves.png").read_bytes().startswith(b"\x89PNG")
        assert not is_edited((target / "README.md").read_text())

    def test_says_what_trained_if_the_run_noted_it(self, run_dir: Path) -> None:
        target, again = self.exported(run_dir)
        again()
        assert "Trained with co-rewarding" not in (target / "README.md").read_text()
        (first, *_) = sorted(path.stem for path in (run_dir / "metrics").iterdir())
        provenance.record(run_dir, first)
        again()
        assert f"Trained with co-rewarding {__version__}, verl 0.9.1" in (target / "README.md").read_text()
        noted = {"versions": {"verl": "0.9.0"}, "commit": "c0ffee"}
        (run_dir / f"made_with/{first}.json").write_text(json.dumps(noted))
        again()
        text = card_of(target)
        assert "Trained with verl 0.9.0 at commit `c0ffee`." in text and "\nExported with co-rewarding " in text

    def test_a_run_beyond_the_checkpoint_is_not_on_it(self, run_dir: Path) -> None:
        add_checkpoint(run_dir, 2)
        export(run_dir, find_checkpoint(run_dir / "checkpoints", 2, "teacher"), run_dir / "out")
        assert "| steps done | 2 |" in card_of(run_dir / "out")

    def test_an_evaluation_of_these_weights_gets_onto_it(self, run_dir: Path) -> None:
        target, again = self.exported(run_dir)
        again()
        assert "model-index" not in head_of(target)
        fingerprint = model_fingerprint(str(target))
        weights = (target / "model.safetensors").stat().st_mtime_ns
        evaluate(run_dir, "mine", target)
        evaluate(run_dir, "other", "files 0")
        assert any("exists already" in note for note in again())
        table = card_of(target).split("## Evaluation")[1]
        assert "| Co-rewarding-I, student of step 3 | 50.00 ± 5.00 |" in table and "other" not in table
        (index,) = head_of(target)["model-index"]
        assert index["name"] == "model, Co-rewarding-I, student of step 3"
        assert index["results"] == [
            {
                "task": {"type": "text-generation"},
                "dataset": {"name": "MATH-500", "type": "math500"},
                "metrics": [{"type": "pass@1", "value": 50.0, "name": "pass@1, percent"}],
            }
        ]
        assert ModelCard((target / "README.md").read_text()).data.eval_results[0].metric_value == 50
        assert (target / "model.safetensors").stat().st_mtime_ns == weights
        assert model_fingerprint(str(target)) == fingerprint  # a new card does not make another model

    def test_several_evaluations_and_parts_of_a_set(self, run_dir: Path) -> None:
        target, again = self.exported(run_dir)
        again()
        evaluate(run_dir, "greedy", target, questions=20)
        evaluate(run_dir, "<b>|", target)
        again()
        table = card_of(target).split("## Evaluation")[1]
        assert "| Co-rewarding-I, student of step 3 (greedy) |" in table
        (result,) = head_of(target)["model-index"][0]["results"]
        assert {m["name"] for m in result["metrics"]} == {"pass@1, percent", "pass@1, percent, 20 of 100 questions"}
        path = run_dir / "evaluation/greedy/results.json"
        path.write_text(path.read_text().replace('"accuracy"', '"precision"'))
        with pytest.raises(ValueError, match=r"greedy/results\.json.*: not a complete result"):
            again()

    def test_a_teachers_card_says_whose_numbers_they_are(self, run_dir: Path) -> None:
        add_checkpoint(run_dir, 3)
        (path,) = (run_dir / "metrics").iterdir()
        with path.open("a") as file:
            for step, accuracy in ((0, 0.61), (3, 0.832)):
                file.write(json.dumps({"step": step, "data": {"val-core/toy/acc/mean@1": accuracy}}) + "\n")
        cards = {}
        for weights in ("student", "teacher"):
            target = run_dir / weights
            checkpoint = find_checkpoint(run_dir / "checkpoints", 3, weights)
            export(run_dir, checkpoint, target)
            assert ("which were not evaluated." in card_of(target)) == (weights == "teacher")
            evaluate(run_dir, f"of_{weights}", target)
            export(run_dir, checkpoint, target)
            cards[weights] = card_of(target)
        assert "\n## Training\n" in cards["student"] and "| | up to step 3 |" in cards["student"]
        assert "\n## Training of the student\n" in cards["teacher"]
        assert "accuracies here are the student’s" in cards["teacher"]
        assert "| | the student’s, up to step 3 |" in cards["teacher"]
        assert "| accuracy after | 0.832 (step 3) |" in cards["teacher"]
        assert "| Co-rewarding-I, teacher of step 3 | 50.00 ± 5.00 |" in cards["teacher"]
        assert "teacher" not in cards["student"]

    @pytest.mark.parametrize(
        ("messages", "expected"),
        [
            ([("system", 'Say "it"\n```\n{{ 7 * 7 }}'), ("user", "?")], 'Say "it"\n```\n{{ 7 * 7 }}'),
            ([("user", "?")], ""),
            ([("system", "x" * 2001), ("user", "?")], None),
            (None, None),
        ],
    )
    def test_the_system_message_is_that_of_the_training_file(
        self, run_dir: Path, tmp_path: Path, messages: Any, expected: str | None
    ) -> None:
        path = tmp_path / "train.parquet"
        if messages is not None:
            prompt = [{"role": role, "content": content} for role, content in messages]
            pq.write_table(pa.Table.from_pylist([{"prompt": prompt}]), path)
        for config in run_dir.glob("hydra/*/.hydra/config.yaml"):
            OmegaConf.save(OmegaConf.merge(OmegaConf.load(config), {"data": {"train_files": [str(path)]}}), config)
        target, again = self.exported(run_dir)
        again()
        text = (target / "README.md").read_text()
        (code,) = re.findall(r"^```python\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
        asked = ast.literal_eval(code[code.index("messages = ") + 11 : code.index("inputs = ")])
        assert [m["content"] for m in asked if m["role"] == "system"] == ([expected] if expected else [])
        assert ("training used this system message" in text) == bool(expected)
        assert ("training used no system message" in text) == (expected == "")
        assert "Let's think step by step" not in text

    def test_a_run_that_asked_in_its_own_way(self, run_dir: Path, tmp_path: Path) -> None:
        """A template that refuses the system role, and a switch that the template reads."""
        prompt = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "1 + 1?"}]
        pq.write_table(pa.Table.from_pylist([{"prompt": prompt}]), tmp_path / "train.parquet")
        refusal = "{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}"
        template = refusal + TOKENIZER.chat_template
        own = {
            "data": {"train_files": str(tmp_path / "train.parquet"), "apply_chat_template_kwargs": {"thinks": False}},
            "actor_rollout_ref": {"model": {"custom_chat_template": template}},
        }
        for config in run_dir.glob("hydra/*/.hydra/config.yaml"):
            OmegaConf.save(OmegaConf.merge(OmegaConf.load(config), own), config)
        target, again = self.exported(run_dir)
        kept = copy.deepcopy(TOKENIZER)
        kept.chat_template = template
        kept.save_pretrained(run_dir / "checkpoints/global_step_3/actor/huggingface")
        again()
        exported = AutoTokenizer.from_pretrained(target)
        assert exported.chat_template == template
        assert json.loads((target / "export.json").read_text())["chat_template_kwargs"] == {"thinks": False}
        text = card_of(target)
        assert "The chat template is the run’s own, which takes no system message" in text
        (code,) = re.findall(r"^```python\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
        asked = ast.literal_eval(code[code.index("messages = ") + 11 : code.index("inputs = ")])
        assert asked == [{"role": "user", "content": "Be brief.\n\nWhat is 17 + 26?"}]
        assert "return_dict=True, thinks=False" in code
        assert "Be brief." in prompt_text(exported, prompt, thinks=False)  # as an evaluation asks
        again()  # the same export once more

    def test_what_the_hub_reads(self, run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Licence of the base model, data sets, base model; without a network."""
        monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("the network was asked"))
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
        cached = tmp_path / "hub/models--Qwen--Qwen2.5-3B"  # as huggingface_hub leaves what it downloaded
        link = "https://huggingface.co/Qwen/Qwen2.5-3B/blob/main/LICENSE"
        licence = f"license: other\nlicense_name: qwen-research\nlicense_link: {link}\n"
        for path, text in (
            (cached / "refs/main", "c0ffee"),
            (cached / "snapshots/c0ffee/config.json", "{}"),
            (cached / "snapshots/c0ffee/README.md", f"---\n{licence}---\n# Qwen\n"),
        ):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        data = tmp_path / "data/train.parquet"
        write_rows([make_row("s", "What is 1+1?", "2", 0, "train")], data)
        facts = FileFacts("train", 1, "hub", "", file_sha256(data), "")
        write_card(Card("MATH", "owner/math", "MIT", "mit", True, files={data.name: facts}), data.parent)
        told = {"data": {"train_files": str(data)}, "actor_rollout_ref": {"model": {"path": "Qwen/Qwen2.5-3B"}}}
        for config in run_dir.glob("hydra/*/.hydra/config.yaml"):
            OmegaConf.save(OmegaConf.merge(OmegaConf.load(config), told), config)
        target, again = self.exported(run_dir)
        again()
        head = head_of(target)
        assert (head["license"], head["license_name"], head["license_link"]) == ("other", "qwen-research", link)
        assert (head["base_model"], head["datasets"]) == ("Qwen/Qwen2.5-3B", ["owner/math"])
        assert (head["library_name"], head["pipeline_tag"]) == ("transformers", "text-generation")
        assert "math" in head["tags"]
        assert "Licence: qwen-research, the base model’s." in card_of(target)
        for broken in ("---\nlicense: [a]\n---\n", "---\nlicense: '<b>\n\n  x'\n---\n", "---\n: [\n---\n", "\xff"):
            (cached / "snapshots/c0ffee/README.md").write_text(broken, encoding="latin-1")
            again()
            assert "license" not in head_of(target) and "The base model’s licence applies." in card_of(target)

    def test_a_foreign_result_is_left_out_and_said(self, run_dir: Path) -> None:
        target, again = self.exported(run_dir)
        foreign = run_dir / "evaluation/mine/results.json"
        foreign.parent.mkdir(parents=True)
        foreign.write_text('{"score": 1}')
        assert again() == [f"{foreign}: not from an evaluation, skipped"]
        assert "## Evaluation" not in (target / "README.md").read_text()

    def test_a_run_without_metrics_has_no_curves(self, run_dir: Path) -> None:
        for path in (run_dir / "metrics").iterdir():
            path.unlink()
        target, again = self.exported(run_dir)
        (note,) = again()
        assert "no metrics" in note and "the card has no curves" in note
        text = card_of(target)
        assert "The run has no metrics." in text and "training_curves" not in text
        assert "| questions a batch | 8 | 128 |" in text  # the configuration is known
        assert not (target / "training_curves.png").exists()

    def test_only_a_model_that_came_from_the_hub_is_linked(
        self, tmp_path: Path, config: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
        cached = tmp_path / "hub/models--Qwen--Qwen3-4B-Base"  # as huggingface_hub leaves what it downloaded
        for path, text in ((cached / "refs/main", "c0ffee"), (cached / "snapshots/c0ffee/config.json", "{}")):
            path.parent.mkdir(parents=True)
            path.write_text(text)
        (tmp_path / "local/Qwen3").mkdir(parents=True)
        for name, found in (
            ("Qwen/Qwen3-4B-Base", ("Qwen/Qwen3-4B-Base", True)),
            ("models/tiny", ("tiny", False)),  # a folder, as seen from where the run was started
            ("local/Qwen3", ("Qwen3", False)),
            ("../tiny", ("tiny", False)),
            ("/m/a/", ("a", False)),
            ("a--b/c", ("c", False)),  # no name that the hub allows
        ):
            config.actor_rollout_ref.model.path = name
            assert base_model(config) == found

    def test_one_that_was_edited_stays(self, run_dir: Path) -> None:
        target, again = self.exported(run_dir)
        again()
        card = target / "README.md"
        card.write_text(card.read_text().replace("## Use", "## How to use"))
        assert any("edited by hand" in note for note in again())
        assert "## How to use" in card.read_text()

    def test_a_folder_with_something_else_is_refused(self, run_dir: Path) -> None:
        target, again = self.exported(run_dir)
        target.mkdir(parents=True)
        with pytest.raises(ValueError, match="is not an export"):
            again()
        target.rmdir()
        again()
        (run_dir / "checkpoints/global_step_3/actor/model_world_size_1_rank_0.pt").touch()  # saved again
        with pytest.raises(ValueError, match="other shards: of another checkpoint"):
            again()
        (target / "export.json").write_text("{")
        with pytest.raises(ValueError, match=r"export\.json: not JSON"):
            again()

    def test_an_export_in_another_dtype_is_reported_as_that(self, run_dir: Path) -> None:
        target, again = self.exported(run_dir)
        again()
        checkpoint = find_checkpoint(run_dir / "checkpoints", 3, "student")
        with pytest.raises(ValueError, match=r"has an export with dtype float32, not bfloat16; remove it or"):
            export(run_dir, checkpoint, target, "bfloat16")

    def test_of_two_exports_at_once_the_second_waits(
        self, run_dir: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        merges = []

        def slow(checkpoint: Any, folder: Path, dtype: str) -> None:
            merges.append(folder)
            merge(checkpoint, folder, dtype)
            sleep(0.5)  # the other one is there by now

        monkeypatch.setattr("co_rewarding.tools.export.merge.merge", slow)
        target, again = self.exported(run_dir)
        notes: list[list[str]] = []
        both = [threading.Thread(target=lambda: notes.append(again())) for _ in range(2)]
        for thread in both:
            thread.start()
        for thread in both:
            thread.join()
        assert len(merges) == 1 and len(notes) == 2
        assert sorted(len(told) for told in notes) == [0, 1]  # "the model exists already"
        assert "waiting for another export into it" in capfd.readouterr().err
        assert AutoModelForCausalLM.from_pretrained(target).dtype == torch.float32
        assert not target.with_name(target.name + ".unfinished").exists()

    def test_nothing_of_the_libraries_is_printed(self, run_dir: Path, capfd: pytest.CaptureFixture[str]) -> None:
        add_checkpoint(run_dir, 3, world_size=2)
        _, again = self.exported(run_dir)
        capfd.readouterr()
        again()
        out, err = capfd.readouterr()
        assert out == ""
        assert {line.partition(":")[0] for line in err.splitlines()} <= {"checking the shards", "merging"}

    def test_a_hostile_name_ends_no_table(self, run_dir: Path) -> None:
        hostile = run_dir.with_name("a|b\n<script>`x")
        run_dir.rename(hostile)
        target, again = self.exported(hostile)
        again()
        text = card_of(target)
        assert "| run | `a\\|b &lt;script>'x` |" in text


class TestRunConfig:
    def test_a_refused_start_does_not_count(self, run_dir: Path, config: Any) -> None:
        config.actor_rollout_ref.actor.optim.lr = 7.0
        write_start(run_dir, "2026-01-02_03-04-00", config, [])  # refused, then mended
        write_start(run_dir, "2026-03-02_03-04-05", config, [])  # tried when all was done
        (found,) = configs_of(run_dir, 3)
        assert found.actor_rollout_ref.actor.optim.lr != 7.0

    def test_starts_with_different_settings(self, run_dir: Path, config: Any) -> None:
        config.actor_rollout_ref.actor.optim.lr = 2e-6
        write_start(run_dir, "2026-01-03_03-04-05", config, [4, 5])
        first, second = configs_of(run_dir, 5)
        assert second.actor_rollout_ref.actor.optim.lr == 2e-6
        before = first.actor_rollout_ref.actor.optim.lr
        assert changed_between([first, second]) == [f"learning rate: {before:g}, then 2e-06"]
        assert len(configs_of(run_dir, 3)) == 1  # the second start came after step 3

    def test_a_start_that_only_validated_does_not_count(self, tmp_path: Path, config: Any) -> None:
        write_start(tmp_path, "2026-01-02_03-04-05", config, list(range(1, 11)))
        first_lr = config.actor_rollout_ref.actor.optim.lr
        config.actor_rollout_ref.actor.optim.lr = 1e-5
        # val_only after step 10; a start that goes on validates at its step first, too
        for time, trains in (("2026-01-03_03-04-05", []), ("2026-01-04_03-04-05", [11, 12])):
            write_start(tmp_path, time, config, trains)
            path = tmp_path / f"metrics/{time[:-1]}9.jsonl"
            rows = path.read_text() if path.exists() else ""
            path.write_text('{"step": 10, "data": {"val-core/toy/acc/mean@1": 0.5}}\n' + rows)
        (only,) = configs_of(tmp_path, 10)
        assert only.actor_rollout_ref.actor.optim.lr == first_lr
        assert [found.actor_rollout_ref.actor.optim.lr for found in configs_of(tmp_path, 12)] == [first_lr, 1e-5]

    def test_which_methods_save_a_teacher(self, config: Any) -> None:
        def saves(method: str, **teacher: bool) -> bool:
            told = {"co_rewarding": {"method": method}, "actor_rollout_ref": {"teacher": teacher}}
            return saves_teacher(OmegaConf.create(told))

        assert saves("co_rewarding_II", update=True)
        assert saves("format_only", update=True)  # beside a teacher, in the same tree
        assert not saves("co_rewarding_II", update=False)
        assert not saves_teacher(config)  # Co-rewarding-I

    def test_a_setting_that_a_run_is_older_than_is_not_compared(self, config: Any) -> None:
        older = config.copy()
        OmegaConf.set_struct(older, False)
        del older.co_rewarding.payout
        assert "what a vote pays" not in [words for words, *_ in differences(older, "co_rewarding_I")]
        assert changed_between([older, config]) == []
        config.co_rewarding.payout = "soft"
        assert ("what a vote pays", "soft", "hard") in differences(config, "co_rewarding_I")

    def test_values_of_another_method_are_not_compared(self, config: Any) -> None:
        config.actor_rollout_ref.actor.kl_loss_coef = 0.001
        words = [words for words, _, _ in differences(config, "co_rewarding_I")]
        assert "KL coefficient" in words
        words = [words for words, _, _ in differences(config, "co_rewarding_II")]
        assert "KL coefficient" not in words

    def test_a_teacher_that_follows_the_students_temperature(self, config: Any) -> None:
        OmegaConf.set_struct(config, False)
        config.actor_rollout_ref.teacher = {"n": 8, "temperature": None, "update": True}

        def of_teacher() -> dict[str, str]:
            return {words: now for words, now, _ in differences(config, "co_rewarding_II")}

        config.actor_rollout_ref.rollout.temperature = 1.0
        assert not {"teacher’s temperature", "KL term against"} & of_teacher().keys()  # of before it was a setting
        config.actor_rollout_ref.rollout.temperature, config.actor_rollout_ref.teacher.kl_anchor = 0.5, "start"
        assert of_teacher()["teacher’s temperature"] == "0.5" and of_teacher()["KL term against"] == "start"

    @pytest.mark.parametrize(
        "broken", ["a: [", "a: !!python/object/apply:os.system ['true']", "- 1", "text", "a: ${b", "\xff", ""]
    )
    def test_a_broken_configuration_is_named(self, run_dir: Path, run_script: Callable[..., Any], broken: str) -> None:
        add_checkpoint(run_dir, 3)
        (path,) = run_dir.glob("hydra/*/.hydra/config.yaml")
        path.write_text(broken, encoding="latin-1")
        code, _, err = run_script("export_checkpoint.py", run_dir)
        assert (code, len(err.splitlines())) == (2, 1), err
        assert f"error: {path}: " in err

    def test_none_at_all(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="no configuration of a run"):
            configs_of(tmp_path, 1)


class Hub:
    def __init__(self, refuses: bool = False) -> None:
        self.refuses = refuses
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def create_repo(self, repo_id: str, **options: Any) -> None:
        if self.refuses:
            raise OSError("401\nmore")
        self.calls.append((repo_id, options))

    def upload_folder(self, **options: Any) -> None:
        self.calls.append(("upload", options))


def test_sending_is_a_dry_run_unless_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {"README.md": "", "a[1].safetensors": "the model"}
    for name in files:
        (tmp_path / name).write_text("x")
    hub = Hub()
    assert send(tmp_path, files, "model", "me/x", "m", upload=False, public=False, api=hub) == list(files)
    assert hub.calls == []
    assert "dry run: nothing was sent" in capsys.readouterr().out
    send(tmp_path, files, "model", "me/x", "m", upload=True, public=False, api=hub)
    (repo, created), (_, sent) = hub.calls
    assert (repo, created["repo_type"], created["private"]) == ("me/x", "model", True)
    assert list(filter_repo_objects([*files, "a1.safetensors"], allow_patterns=sent["allow_patterns"])) == list(files)
    with pytest.raises(ValueError, match=r"--push_to_hub me/x: 401 \(needs a token"):
        send(tmp_path, files, "model", "me/x", "m", upload=True, public=False, api=Hub(refuses=True))


def test_the_command(run_dir: Path, run_script: Callable[..., Any]) -> None:
    add_checkpoint(run_dir, 3)
    code, out, _ = run_script("export_checkpoint.py", run_dir, "--weights", "teacher", "--push_to_hub", "me/x")
    assert code == 0
    assert f"teacher of step 3: {run_dir}/export/step_3_teacher" in out
    assert "dry run" in out
    for arguments, message in (
        (("--step", "x"), "--step x: must be latest or a whole number"),
        (("--step", "8"), "--step 8: not saved"),
        (("--upload",), "--upload needs --push_to_hub"),
    ):
        code, _, err = run_script("export_checkpoint.py", run_dir, *arguments)
        assert (code, message in err) == (2, True), err
