#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Estimate GPU memory, host memory and disk for a run, from the model's config.json alone.

Offloading and sizes that are not given are proposed: the cheapest that fit. All numbers are estimates:
co_rewarding/training/estimate.py has the formulas, docs/CLUSTER.md the measurements.

Exit status: 0 it fits, 1 it does not, 2 for an unreadable model or a wrong option.
"""

from __future__ import annotations

import json
import logging
import math
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from co_rewarding.tools.cli import UserError, command, one_line
from co_rewarding.tools.options import Options, option, parse
from co_rewarding.training.estimate import CARDS, GIB, OFFLOAD, Estimate, Setting, estimate, in_words
from co_rewarding.training.fitting import Machine, can_share, changes, closest, fullest, problems, propose
from co_rewarding.training.model_shape import ModelShape

ROOT = Path(__file__).resolve().parents[1]
RECIPES = ROOT / "recipes/models"
LORA_RANK = 32  # of the advice
VARIABLES = {"utilization": "ROLLOUT_MEMORY_UTILIZATION", "tokens": "MAX_TOKENS_PER_GPU"}
VARIABLES |= {"tensor_parallel": "ROLLOUT_TENSOR_PARALLEL", "offload": "OFFLOAD"}
OPTIONS = {"memory_utilization": "ROLLOUT_MEMORY_UTILIZATION", "tensor_parallel": "ROLLOUT_TENSOR_PARALLEL"}
OPTIONS |= {"nodes": "NUM_NODES"}  # variables of recipes/train.sh with other names than the option's in capitals
QUESTIONS, ROLLOUTS = 128, 8  # the paper's, per step and per question; trained rollouts, independent of NUM_VOTES


class Asked(Options):
    """the run"""

    model: str = option(
        "", "folder, config.json, hub name, or a name from recipes/models/", positional=True, metavar="MODEL"
    )
    method: Literal["I", "II", "III", "baseline"] = option("II", "")
    gpus: str = option("", "GPUs of a machine, e.g. 2x48; GB: " + ", ".join(map(str, CARDS)), metavar="NxGB")
    nodes: int = option(1, "such machines", ge=1)
    host_memory: float | None = option(None, "host memory of a machine, to check too", gt=0, metavar="GIB")
    lora_rank: int = option(0, "train an adapter (0: all weights)", ge=0)
    offload: Literal[OFFLOAD] | None = option(
        None, "offload to host memory: nothing, weights and moments while vLLM works, or both always"
    )
    memory_utilization: float | None = option(None, "vLLM's share of a GPU's memory", gt=0, lt=1)
    max_tokens_per_gpu: int | None = option(None, "tokens of a micro-batch", ge=1)
    tensor_parallel: int | None = option(None, "GPUs that share a vLLM engine", ge=1)
    kl_anchor: Literal["teacher", "start"] = option(
        "teacher", "II, III: start keeps one more model, unless an adapter is trained"
    )
    max_prompt_length: int = option(512, "", ge=1)
    max_response_length: int = option(3072, "", ge=1)


class Printed(Options):
    """output"""

    variables: bool = option(False, "the sizes for recipes/train.sh")
    table: bool = option(False, "only docs/CLUSTER.md's table of all recipes")


@command("estimate.py")
def main(arguments: Sequence[str]) -> int:
    try:
        return run(arguments)
    except UserError as error:
        if "--variables" not in arguments:
            raise
        # by the variables of recipes/train.sh, whose user typed no option
        said = re.sub(r"^--(\w+) ", lambda match: f"{OPTIONS.get(match[1], match[1].upper())}=", str(error))
        print(f"error: {said}", file=sys.stderr)
        return 2


def run(arguments: Sequence[str]) -> int:
    asked, printed = parse("estimate.py", __doc__, [Asked, Printed], arguments)
    if printed.table:
        print(table(asked.method, asked.lora_rank))
        return 0
    path, model = read_model(asked.model)
    wanted = setting_of(asked, model)
    machine = Machine(host=asked.host_memory and asked.host_memory * GIB)
    fixed = [field for field, value in given(asked).items() if value is not None]
    found = propose(model, wanted, fixed, machine)
    setting = found or closest(model, wanted, fixed)
    remarks = problems(model, setting, machine)
    if printed.variables:
        if found is None:
            advised = advice(model, wanted, fixed, machine)
            reason = f"{remarks[0].text} ({remarks[0].parts}); {advised}"
            print(f"error: {asked.model} on {asked.gpus}: {reason}", file=sys.stderr)
            return 1
        print(f"MODEL_PATH={path}")
        for field, variable in VARIABLES.items():
            print(f"{variable}={getattr(setting, field)}")
        for key, value in changes(setting.with_offload("none"), setting).items():  # OFFLOAD's keys in a configuration
            print(f"OVERRIDE={key}={value}")
        return 0
    print(report(path, model, setting, asked))
    for problem in remarks:
        print(f"{'does not fit' if problem.is_refused else 'tight'}: {problem.text}")
    if found is None:
        print(advice(model, wanted, fixed, machine))
        return 1
    print(verdict(bool(remarks), fullest(model, setting)))
    if line := batch_that_divides(setting.gpus * setting.nodes):
        print(line)
    print(f"\n{start_command(path, setting, asked)}")
    return 0


def verdict(is_tight: bool, fullest: float) -> str:
    if fullest > 1:
        return "may fit: it exceeds the memory, but within the estimate's error"
    return "fits, tightly" if is_tight else "fits"


def batch_that_divides(devices: int) -> str:
    """The fix if a step's sequences do not divide over the GPUs; "" if they do."""
    if QUESTIONS * ROLLOUTS % devices == 0:
        return ""
    whole = devices // math.gcd(devices, ROLLOUTS)
    return (
        f"TRAIN_BATCH_SIZE={QUESTIONS} must be changed: {QUESTIONS} questions x {ROLLOUTS} rollouts do not divide over "
        f"{devices} GPUs; a multiple of {whole} does, {max(1, round(QUESTIONS / whole)) * whole} is the nearest"
    )


def read_model(name: str) -> tuple[str, ModelShape]:
    """(path or hub name, shapes).

    Raises:
        OSError, UserError: there is none, or its family is not supported.
    """
    if not name:
        raise UserError("name a model: a folder, a config.json, a hub name, or one of recipes/models/; see --help")
    known = next((config for stem, config in recipes().items() if name in (stem, config["_name_or_path"])), None)
    path = Path(name).expanduser()
    if path.is_dir() or path.suffix == ".json":
        file = path / "config.json" if path.is_dir() else path
        return str(path if path.is_dir() else path.parent), shape_in(file)
    if known:
        return known["_name_or_path"], ModelShape.from_config(known)
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise UserError(f"{name}: no such folder, not a hub name (owner/name), and not one of {', '.join(recipes())}")
    import httpx
    from huggingface_hub import hf_hub_download

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # no line per attempt
    try:
        file = Path(hf_hub_download(name, "config.json"))
    except (OSError, httpx.HTTPError) as error:
        raise UserError(f"{name}: no config.json from the hub ({one_line(error)}); give a file or folder") from error
    return name, shape_in(file)


def recipes() -> dict[str, dict[str, Any]]:
    """config.json of the models in recipes/models/, by name, in order."""
    return {file.stem: json.loads(file.read_text()) for file in sorted(RECIPES.glob("*.json"))}


def shape_in(file: Path) -> ModelShape:
    """Raises: OSError, UserError: names the file."""
    try:
        return ModelShape.from_config(json.loads(file.read_text(encoding="utf-8")))
    except ValueError as error:  # of json and of Unicode too
        raise UserError(f"{file}: {error}") from error


def given(args: Asked) -> dict[str, Any]:
    """Given values of the fields of Setting that can be proposed; None: not given."""
    return {
        "utilization": args.memory_utilization,
        "tokens": args.max_tokens_per_gpu,
        "tensor_parallel": args.tensor_parallel,
        "offload": args.offload,
    }


def setting_of(args: Asked, model: ModelShape) -> Setting:
    match = re.fullmatch(r"([1-9][0-9]*)x([1-9][0-9]*)(gb)?", args.gpus or "")
    if match is None or int(match[2]) not in CARDS:
        raise UserError(f"--gpus {args.gpus}: must be like 2x48, with cards of {', '.join(map(str, CARDS))} GB")
    sequence = args.max_prompt_length + args.max_response_length
    if args.max_tokens_per_gpu is not None and args.max_tokens_per_gpu < sequence:
        raise UserError(f"--max_tokens_per_gpu {args.max_tokens_per_gpu}: must hold a sequence of {sequence} tokens")
    if not can_share(model, int(match[1]), args.tensor_parallel or 1):
        raise UserError(
            f"--tensor_parallel {args.tensor_parallel}: must divide the {match[1]} GPUs of a machine and the model's "
            f"{model.heads} heads, and split or repeat its {model.key_heads} heads of keys evenly"
        )
    sizes = {field: value for field, value in given(args).items() if value is not None}
    offload = sizes.pop("offload", "none")
    setting = Setting(
        gpus=int(match[1]), nodes=args.nodes, card=CARDS[int(match[2])] * GIB, is_teacher=args.method in ("II", "III"),
        keeps_start=args.method in ("II", "III") and args.kl_anchor == "start", lora_rank=args.lora_rank,
        sequence=sequence,
    )  # fmt: skip
    return replace(setting, **{"tokens": max(setting.tokens, sequence), **sizes}).with_offload(offload)


def report(path: str, model: ModelShape, setting: Setting, args: Asked) -> str:
    needs = estimate(model, setting)
    lora = f", LoRA of rank {setting.lora_rank}" if setting.lora_rank else ""
    machines = f"{args.nodes} machines of " if args.nodes > 1 else ""
    lines = [
        f"{path}: {model.parameters:,} weights, {args.method}{lora}, on {machines}{args.gpus} GB "
        f"({setting.card / GIB:.1f} GiB of each usable)",
        " ".join(f"{variable}={getattr(setting, field)}" for field, variable in VARIABLES.items()),
        "",
        "GiB of one GPU",
        *(f"  {stage.name:<20}{stage.total / GIB:6.1f}   {in_words(stage.parts)}" for stage in needs.gpu),
        f"  vLLM's cache: {cache(needs, setting)}",
        "GiB of a machine",
        f"  {needs.host.name:<20}{needs.host.total / GIB:6.1f}   {in_words(needs.host.parts)}; "
        f"and about {needs.host_processes / GIB:.0f} for processes",
        "GiB of disk",
        f"  {'a checkpoint':<20}{needs.checkpoint / GIB:6.1f}   two are kept while the next is written",
        "",
    ]
    return "\n".join(lines)


def cache(needs: Estimate, setting: Setting) -> str:
    return f"{needs.cache_tokens:,} tokens, {needs.cache_sequences:.0f} sequences of {setting.sequence:,}"


def advice(model: ModelShape, setting: Setting, fixed: list[str], machine: Machine) -> str:
    """A short note on what would fit."""
    if fixed and (better := propose(model, setting, machine=machine)):
        chosen = [f"{VARIABLES[field]}={getattr(better, field)}" for field in VARIABLES]
        return f"what fits: {' '.join(chosen)}"
    adapter = replace(setting, lora_rank=LORA_RANK)
    if not setting.lora_rank and propose(model, adapter, machine=machine):
        return f"use LoRA (LORA_RANK={LORA_RANK}), a smaller model, or more or larger GPUs"
    return "use a smaller model, or more or larger GPUs"


def start_command(path: str, setting: Setting, args: Asked) -> str:
    """The command that starts the run."""
    sizes = {"NUM_NODES": args.nodes} if args.nodes > 1 else {}
    for field, variable in VARIABLES.items():
        if given(args)[field] is not None:
            sizes[variable] = getattr(setting, field)
    usually = {"max_prompt_length": 512, "max_response_length": 3072, "lora_rank": 0, "kl_anchor": "teacher"}
    for name, usual in usually.items():
        if getattr(args, name) != usual:
            sizes[name.upper()] = getattr(args, name)
    for name, config in recipes().items():
        if config["_name_or_path"] == path and args.method != "baseline" and setting.gpus <= 8:
            machine = args.gpus.removesuffix("gb") + "gb"
            return " ".join([*assigned(sizes), f"bash recipes/train.sh {args.method} {name} {machine}"])
    sizes.pop("OFFLOAD", None)
    sizes |= {"MODEL_PATH": path, "GPUS_PER_NODE": setting.gpus}
    sizes |= {variable: getattr(setting, field) for field, variable in VARIABLES.items() if field != "offload"}
    script = {"I": "Co-rewarding-I/run_corewarding-I.sh", "baseline": "scripts/run_baseline.sh"}.get(
        args.method, f"Co-rewarding-II/run_corewarding-{args.method}.sh"
    )
    keys = changes(replace(setting.with_offload("none"), lora_rank=0), setting)
    return " ".join([*assigned(sizes), "bash", script, *assigned(keys)])


def assigned(values: Mapping[str, object]) -> list[str]:
    """Shell words."""
    return [f"{name}={shlex.quote(str(value))}" for name, value in values.items()]


def table(method: str, lora_rank: int) -> str:
    """Markdown: proposals for each model of recipes/models/ and each machine that differ from the defaults."""
    usual = Setting(gpus=1)
    lines = [
        "| model | GPUs | " + " | ".join(f"{size} GB" for size in CARDS) + " |",
        "|---|---|" + "---|" * len(CARDS),
    ]
    for name, config in recipes().items():
        model = ModelShape.from_config(config)
        for gpus in (1, 2, 4, 8):
            cells = []
            for card in CARDS.values():
                asked = replace(
                    usual, gpus=gpus, card=card * GIB, is_teacher=method in ("II", "III"), lora_rank=lora_rank
                )
                found = propose(model, asked)
                cells.append("–" if found is None else cell(model, found))
            lines.append(f"| {name} | {gpus} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def cell(model: ModelShape, setting: Setting) -> str:
    words = [setting.offload]
    words += [f"{setting.tokens // 1024}k"] if setting.tokens != 8192 else []
    words += [f"{setting.utilization:g}"] if setting.utilization != 0.6 else []
    words += [f"tp{setting.tensor_parallel}"] if setting.tensor_parallel != 1 else []
    return " ".join(words) + ("!" if problems(model, setting) else "")


if __name__ == "__main__":
    sys.exit(main())
