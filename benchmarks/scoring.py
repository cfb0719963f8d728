#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
r"""Scoring of a step of the paper's size, beside exact strings: a loop that decodes one response after the other, takes
its last box, counts the strings of a group and compares with the most common one by ==.

128 questions x 2 views x 8 responses of 300 to 1,500 tokens, rewarded as Co-rewarding-I. Answers are those of a step of
benchmarks/answers.py: truths of the data in several spellings, mistakes, none in 3 %. The text before them is cut from
the data's questions. The two steps have different questions; before the first no answer has been read.

On the step's path, from the tensor of tokens to that of rewards:

    read     texts (training/decoding.py), answers, one object a response
    vote     GroupRewardManager.score_groups
    write    rewards on the last tokens

Beside the update: metrics of the vote and the dump. "columns" is the time to unwrap verl's columns of objects, which
both ways need. "tails" is the tokenizer's decoding of the last 192 tokens of each response in one batch, which reading
only the ends would need. Medians over the repeats, with least and most; a ratio is that of one repeat. Seconds are by
the clock, in brackets processor seconds of this process and its children. The last column counts rewards that change if
the tokenizer decodes every text singly.

    python benchmarks/scoring.py --tokenizer MODEL
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from answers import DATA, processor_seconds, step_of, table
from omegaconf import OmegaConf
from transformers import AutoTokenizer
from verl.utils import tensordict_utils as tu

from co_rewarding.algo.answers import ground_truth_answer
from co_rewarding.algo.equivalence.reader import read
from co_rewarding.algo.rollouts import VIEWS
from co_rewarding.storage.rows import ground_truth, read_rows
from co_rewarding.training import rollout_io
from co_rewarding.training.decoding import TextDecoder
from co_rewarding.training.rollout_io import Response, dump_rows, read_responses, reward_tensor, write_jsonl
from co_rewarding.training.run_monitor import RunMonitor
from co_rewarding.training.settings import Settings
from co_rewarding_i.reward_manager import CrossViewRewardManager

SYNTHETIC = "A train leaves at {a}, meets another after $\\frac{{{a}}}{{{b}}}$ hours: $x^2 + {a}x = {b}$, as {b} > 1. "
CLOSINGS = ("", ".", " Done.", "\n\nThis is the answer, as \\{a, b\\} shows.")


class Step:
    """Responses of one step where verl's queue has them."""

    def __init__(
        self, args: argparse.Namespace, rng: random.Random, tokenizer: Any, truths: list[str], filler: list[int]
    ):
        questions = rng.sample(truths, args.questions)
        self.keys: list[str] = []
        columns: dict[str, list[Any]] = defaultdict(list)
        responses = []
        for number, (rollout, truth, _) in enumerate(step_of(rng, questions, truths)):
            size, place = rng.randint(*args.tokens), rng.randrange(len(filler) - args.tokens[1])
            said = "" if rollout.answer is None else f" So it is $\\boxed{{{rollout.answer}}}$" + rng.choice(CLOSINGS)
            said = tokenizer(said, add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]
            responses.append(torch.tensor(filler[place : place + max(0, size - len(said))] + said))
            self.keys.append(f"{rollout.question:05}-{rollout.view}_{number}_0")
            for name, value in {
                rollout_io.QUESTION: str(rollout.question),
                rollout_io.VIEW: rollout.view,
                "raw_prompt": [{"role": "user", "content": f"Question {rollout.question}?"}],
                rollout_io.GROUND_TRUTH: truth,
                rollout_io.STATED_AS: {"answer_format": "", "choices": []},
            }.items():
                columns[name].append(value)
        order = sorted(range(len(self.keys)), key=lambda i: rollout_io._order_of_request(self.keys[i]))
        self.keys = [self.keys[i] for i in order]
        self.columns = {name: [values[i] for i in order] for name, values in columns.items()}
        self.responses = torch.nested.as_nested_tensor([responses[i] for i in order], layout=torch.jagged)
        self.wrapped = tu.get_tensordict(self.columns)

    def kv_batch_get(self, **_: Any) -> dict[str, Any]:
        return {"responses": self.responses, **self.columns}


class OneByOne:
    """Reads every full text, singly."""

    def __init__(self, tokenizer: Any):
        self.tokenizer = tokenizer

    def texts(self, tokens_T: np.ndarray, offsets: np.ndarray) -> list[str]:
        rows = np.split(tokens_T, offsets[1:-1])
        return [self.tokenizer.decode(row.tolist(), skip_special_tokens=True) for row in rows]


def tails(step: Step, tokenizer: Any) -> list[str]:
    ends = [response_T[-192:].tolist() for response_T in step.responses.unbind()]
    return tokenizer.backend_tokenizer.decode_batch(ends, skip_special_tokens=True)


def exact_strings(step: Step, tokenizer: Any) -> list[float]:
    answers, votes = [], defaultdict(Counter)
    groups = list(zip(step.columns[rollout_io.QUESTION], step.columns[rollout_io.VIEW], strict=True))
    for group, response_T in zip(groups, step.responses.unbind(), strict=True):
        answers.append(last_box(tokenizer.decode(response_T, skip_special_tokens=True)))
        if answers[-1] is not None:
            votes[group][answers[-1]] += 1
    other = dict(zip(VIEWS, VIEWS[::-1], strict=True))
    labels = {group: found.most_common(1)[0][0] for group, found in votes.items()}
    return [
        float(answer is not None and answer == labels.get((question, other[view])))
        for (question, view), answer in zip(groups, answers, strict=True)
    ]


def last_box(text: str) -> str | None:
    start = text.rfind("\\boxed{")
    depth = 1
    for i in range(start + 7, len(text)) if start >= 0 else ():
        depth += (text[i] == "{") - (text[i] == "}")
        if depth == 0:
            return text[start + 7 : i]
    return None


class Clock:
    """Seconds of named parts, by the clock and of processors."""

    def __init__(self) -> None:
        self.spent: dict[str, tuple[float, float]] = {}

    def __call__(self, name: str, call: Callable[[], Any]) -> Any:
        processor, wall = processor_seconds(), time.perf_counter()
        result = call()
        self.spent[name] = (time.perf_counter() - wall, processor_seconds() - processor)
        return result

    def sum_of(self, names: Sequence[str]) -> tuple[float, float]:
        return tuple(map(sum, zip(*(self.spent[name] for name in names), strict=True)))


PATH, BESIDE = ("read", "vote", "write"), ("metrics", "dump")


def ours(
    step: Step, number: int, decoder: Any, manager: CrossViewRewardManager, monitor: RunMonitor, folder: Path
) -> tuple[Clock, tuple[float | None, ...]]:
    rollout_io.tq = step
    clock = Clock()
    responses: list[Response] = clock("read", lambda: read_responses(step.keys, "train", "student", decoder))
    scores = clock("vote", lambda: manager.score_groups(responses, number))
    clock("write", lambda: reward_tensor(scores.rewards, [response.length for response in responses]))
    clock("metrics", lambda: monitor.step_metrics(responses, scores, manager.equivalence.same))
    clock("dump", lambda: write_jsonl(folder / f"{number}.jsonl", dump_rows(number, responses, scores)))
    return clock, scores.rewards


def truths_and_texts(args: argparse.Namespace, name: str) -> tuple[list[str], list[str]]:
    file = args.data / name / "train_original.parquet"
    if not file.is_file():
        print(f"{file}: no such file; {name} has made-up truths and texts", file=sys.stderr)
        rng = random.Random(args.seed)
        numbers = [rng.randrange(2, 1000) for _ in range(2000)]
        fractions = [rf"\frac{{{a}}}{{{b}}}" for a, b in zip(numbers[:400], numbers[400:800], strict=True)]
        texts = [SYNTHETIC.format(a=a, b=b) for a, b in pairwise(numbers)]
        return list(map(str, numbers)) + (fractions if name == "math" else []), texts
    rows = read_rows(file)
    truths = [truth for row in rows if (truth := ground_truth_answer(ground_truth(row)))]
    return truths, [row["prompt"][-1]["content"] for row in rows[:3000]]


def measured(args: argparse.Namespace, name: str, tokenizer: Any) -> None:
    truths, texts = truths_and_texts(args, name)
    filler = tokenizer("\n\n".join(texts), add_special_tokens=False)["input_ids"]
    config = OmegaConf.create({"co_rewarding": {"method": "co_rewarding_I"}})
    decoder, rng = TextDecoder(tokenizer), random.Random(args.seed)
    found: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    differing = Counter()
    for _ in range(args.repeats):
        steps = [Step(args, rng, tokenizer, truths, filler) for _ in range(2)]
        manager = CrossViewRewardManager(config, tokenizer)
        manager.equivalence.prepare([["n!!+1", "n!!+2"]])  # its worker is there before the first step, as in training
        read.cache_clear()
        monitor = RunMonitor(Settings("co_rewarding_I"), args.tokens[1], Path())
        with tempfile.TemporaryDirectory() as folder:
            for number, (of, step) in enumerate(zip(("first", "second"), steps, strict=True)):
                strings = Clock()
                strings("exact strings", lambda step=step: exact_strings(step, tokenizer))
                clock, rewards = ours(step, number, decoder, manager, monitor, Path(folder))
                for part, spent in clock.spent.items():
                    found[of, part].append(spent)
                other = Clock()
                other("columns", lambda step=step: [rollout_io.column(step.wrapped, name) for name in step.columns])
                other("tails", lambda step=step: tails(step, tokenizer))
                for part, spent in other.spent.items():
                    found[of, part].append(spent)
                path, everything = clock.sum_of(PATH), clock.sum_of(PATH + BESIDE)
                found[of, "exact strings"].append(theirs := strings.spent["exact strings"])
                found[of, "ours, path"].append(path)
                found[of, "path / exact"].append((path[0] / theirs[0], path[1] / theirs[1]))
                found[of, "all / exact"].append((everything[0] / theirs[0], everything[1] / theirs[1]))
                alone = manager.score_groups(read_responses(step.keys, "train", "student", OneByOne(tokenizer)), number)
                differing[of] += sum(a != b for a, b in zip(rewards, alone.rewards, strict=True))
        manager.equivalence.close()
    names = ["exact strings", "ours, path", *PATH, *BESIDE, "columns", "tails", "path / exact", "all / exact"]
    rows = []
    for of in ("first", "second"):
        row = [name, of]
        for part in names:
            wall, processor = zip(*found[of, part], strict=True)
            digits = 2 if "/" in part else 3
            numbers = [f"{number:.{digits}f}" for number in (median(wall), min(wall), max(wall), median(processor))]
            row.append("{}, {}-{} ({})".format(*numbers))
        rows.append([*row, differing[of]])
    rollouts, tokens = len(steps[0].keys), int(steps[0].responses.offsets()[-1])
    title = f"{rollouts} responses, {tokens / rollouts:.0f} tokens each, {args.repeats} repeats"
    head = " | ".join(["data", "step", *names, "rewards that differ"])
    table(title, head, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", required=True, help="folder or name of a model")
    parser.add_argument("--data", type=Path, default=Path(DATA), help="folder of math and dapo (default: %(default)s)")
    parser.add_argument(
        "--questions", type=int, default=128, help="of a step, 16 responses each (default: %(default)s)"
    )
    parser.add_argument("--tokens", type=int, nargs=2, default=[300, 1500], help="least and most of a response")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(args.tokenizer)
    print(f"{os.cpu_count()} processors, {torch.__version__=}, tokenizer {len(tokenizer)} tokens")
    for name in ("math", "dapo"):
        measured(args, name, tokenizer)
    print(f"\nLargest memory of this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


if __name__ == "__main__":
    main()
