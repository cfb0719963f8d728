# SPDX-License-Identifier: Apache-2.0
"""The arms through the product: a start and its questions for the run scripts, and dumps compared with training.py.

From a dump `check` takes questions, views, voters, ground truths and response texts. The code of the arms recomputes
answers, labels, rewards, advantages and metrics, which are compared with the run's:

    exactly                    answer, label, reward of every row of the student, and whether it was trained on
    within TOLERANCE           advantages (largest, smallest, mean over tokens) and the vote's metrics, as logged
    within POLICY_TOLERANCE    the policy: the start is retrained here on the run's samples and rewards. Its KL and
                               entropy, and rewards computed from it (self-certainty, entropy)

Order decides ties and coins. A dump has the rows of a group in the order of their requests, not of their completion
(training.rollout_io), trained rows before those that only vote. Coins are the run's own if its co_rewarding.seed is 0:
they depend on step, question, view and place in the group.

A dump has texts and numbers of tokens, but no tokens. In texts of an exported start a byte token is spelled out
(<0x31>), so that it is not taken for the character's own. Where a text can be written with that many tokens in two
ways, what was sampled is unknown; from there on the policies differ, and KL and entropy are only reported.

Legend: B rows that are trained on, N all rows of a step.
"""

from __future__ import annotations

import json
import math
import re
import shlex
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from tokenizers.decoders import Fuse
from transformers import AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerFast

from co_rewarding.algo.answers import extract_answer
from co_rewarding.algo.equivalence.relation import Equivalence
from co_rewarding.algo.rollouts import Rollout
from co_rewarding.monitoring.metrics import group_metrics
from co_rewarding.storage.dumps import dump_rows
from co_rewarding.storage.rows import Row, make_row, write_rows
from co_rewarding.storage.run_dir import RunDir

from .adapter import ALPHA
from .arms import ARMS, BOTH, LEARNING_RATE, NUM_QUESTIONS, NUM_ROLLOUTS, START_SHARE, Arm
from .policy import MAX_TOKENS, Responses, prompt_ids
from .questions import Question, Split
from .training import Policy, group_advantages, on_rows, score

STEPS = 10
TOLERANCE = 1e-4
POLICY_TOLERANCE = 1e-3  # nats, between float32 in two orders of the same operations
MAX_NAMED = 3


def export(start: Path, parts: Split, target: Path) -> None:
    """The model in the folder `start` and its questions as files in `target`; prints a command line for each arm."""
    shutil.copytree(start / "model", target / "model", dirs_exist_ok=True)
    _spell_bytes(target / "model")
    for name, questions, view in (
        ("train", parts.trained, 0),
        ("train_rephrased", parts.trained, 1),
        ("test", parts.held_out, 0),
    ):
        write_rows(_rows(questions, view, name.partition("_")[0]), target / f"{name}.parquet")
    print(_settings(target.resolve()))
    for arm in ARMS.values():
        print(_command(arm))


def _spell_bytes(model: Path) -> None:
    """Of a tokenizer that falls back to bytes: what it decodes can be split into the same tokens again."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.backend_tokenizer.decoder = Fuse()  # without ByteFallback
    tokenizer.add_tokens([f"<0x{byte:02X}>" for byte in range(256)])  # as they are there already, of the same numbers
    tokenizer.save_pretrained(model)


def _rows(questions: Sequence[Question], view: int, split: str) -> list[Row]:
    return [
        make_row("natural_errors", question.text(view), str(question.answer), index, split)
        for index, question in enumerate(questions)
    ]


def _settings(folder: Path) -> str:
    """Run-script variables shared by all arms."""
    variables = {
        "MODEL_PATH": folder / "model",
        "TRAIN_FILE": folder / "train.parquet",
        "TRAIN_AUG_FILE": folder / "train_rephrased.parquet",
        "VAL_FILE": "",
        "RUNS_DIR": folder / "runs",
        "TRAIN_BATCH_SIZE": NUM_QUESTIONS,
        "NUM_ROLLOUTS": NUM_ROLLOUTS,
        "MAX_PROMPT_LENGTH": 64,
        "MAX_RESPONSE_LENGTH": MAX_TOKENS,
        "LEARNING_RATE": LEARNING_RATE,
        "LR_SCHEDULER": "constant",
        "LR_WARMUP_RATIO": 0,
        "SAVE_FREQ": 1000,
        "PLATFORM": "cpu",
        "GPUS_PER_NODE": 1,
        "LOGGER": "[file]",
    }
    return " ".join(["export", *(f"{name}={shlex.quote(str(value))}" for name, value in variables.items())])


def _command(arm: Arm) -> str:
    """One line with the arm's name as a comment at its end."""
    if arm.method.needs_teacher:
        script = f"Co-rewarding-II/run_corewarding-{'III' if arm.wordings == BOTH else 'II'}.sh"
    else:
        script = "scripts/run_baseline.sh" if arm.wordings == (0,) else "Co-rewarding-I/run_corewarding-I.sh"
    name = re.sub(r"\W+", "_", arm.name)
    overrides = shlex.join(f"{key}={value}" for key, value in _keys(arm).items())
    variables = f"RUN_NAME={name}"
    if arm.lora_rank:
        variables += f" LORA_RANK={arm.lora_rank} LORA_ALPHA={ALPHA} KL_ANCHOR=teacher"
        variables += f" LEARNING_RATE={arm.learning_rate}"
    return f"{variables} bash {script} trainer.total_training_steps={STEPS} {overrides}  # {arm.name}"


def _keys(arm: Arm) -> dict[str, Any]:
    """The configuration keys in which arms differ, with this arm's values."""
    teacher = {"update": arm.teacher_moves, "start_share": START_SHARE} if arm.method.needs_teacher else {}
    return {
        "co_rewarding.method": arm.name_in_product,
        "co_rewarding.num_votes": arm.num_votes if arm.num_votes > NUM_ROLLOUTS else 0,
        "co_rewarding.payout": arm.payout,
        "co_rewarding.min_agreement": arm.min_agreement,
        "actor_rollout_ref.actor.kl_loss_coef": arm.kl_coef,
        "actor_rollout_ref.model.lora_rank": arm.lora_rank,
        **{f"actor_rollout_ref.teacher.{name}": value for name, value in teacher.items()},
    }


@dataclass
class Compared:
    """The result of `check`."""

    steps: int = 0
    rows: int = 0  # of the student
    labels: int = 0  # of these, that have one
    rewards: int = 0  # likewise
    differences: list[str] = field(default_factory=list)
    largest: dict[str, float] = field(default_factory=dict)  # difference of numbers, by what they are of

    def exactly(self, where: str, column: str, here: Any, there: Any) -> None:
        if here != there:
            self.differences.append(f"{where}: {column} is {here!r} here, {there!r} in the run")

    def within(self, where: str, kind: str, name: str, here: float, there: float, tolerance: float = TOLERANCE) -> None:
        difference = abs(here - there)
        self.largest[kind] = max(self.largest.get(kind, 0.0), difference)
        if not difference <= tolerance:
            self.differences.append(f"{where}: {name} is {here:.6g} here, {there:.6g} in the run")


def check(run_dir: Path, arm_name: str | None = None) -> int:
    """Print how a run compares with its arm; return the number of differences.

    Raises:
        ValueError: there is nothing to compare, or the arm is unknown.
    """
    run = RunDir(run_dir)
    path = run.last_configuration()
    if path is None or not run.dumped_steps():
        raise ValueError(f"{run_dir}: has no configuration or no rollouts; name the directory of a run")
    config = OmegaConf.load(path)
    arm = ARMS[arm_name] if arm_name else arm_of(config, run_dir)
    metrics_of, found = logged(run), Compared()
    policy = Retrained.starting_as(arm, config)
    if policy is None and arm.method.needs_logits:
        raise ValueError(f"{run_dir}: {arm.name} needs the model that the run began with: put it where the run had it")
    with Equivalence() as equivalence:
        for step in run.dumped_steps():
            _compare_step(
                arm,
                step,
                list(dump_rows(run.rollouts_file(step))),
                metrics_of[step],
                policy,
                equivalence,
                found,
            )
    print(_report(arm, found, policy))
    return len(found.differences)


def arm_of(config: DictConfig, run_dir: Path) -> Arm:
    """The arm whose keys have its values.

    Raises:
        ValueError: there is none.
    """

    values = {key: OmegaConf.select(config, key) for key in _keys(ARMS["II"])}
    for arm in ARMS.values():
        if all(values[key] == value for key, value in _keys(arm).items()):
            return arm
    settings = ", ".join(f"{key}={value}" for key, value in values.items())
    raise ValueError(f"{run_dir}: is the run of no arm ({settings}): name one with --arm")


def logged(run: RunDir) -> dict[int, dict[str, float]]:
    """The metrics of each step; later starts override earlier ones."""
    metrics: dict[int, dict[str, float]] = {step: {} for step in run.dumped_steps()}
    for start in run.starts():
        for line in run.metrics_file(start).read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            metrics.setdefault(row["step"], {}).update(row["data"])
    return metrics


def rollouts_of(rows: Sequence[Mapping[str, Any]]) -> list[Rollout]:
    """N. Of a group the first NUM_ROLLOUTS are trained on."""
    places: Counter[tuple] = Counter()
    rollouts = []
    for row in rows:
        group = row["question"], row["view"], row["voter"]
        rollouts.append(Rollout(*group, extract_answer(row["response"]), trained=places[group] < NUM_ROLLOUTS))
        places[group] += 1
    return rollouts


def _compare_step(
    arm: Arm,
    step: int,
    rows: Sequence[Mapping[str, Any]],
    metrics: Mapping[str, float],
    policy: Retrained | None,
    equivalence: Equivalence,
    found: Compared,
) -> None:
    rollouts, truths = rollouts_of(rows), [row["ground_truth"] for row in rows]
    trained = [place for place, rollout in enumerate(rollouts) if rollout.trained]
    means_B, is_known_B = {}, [True] * len(trained)
    if policy is not None:
        means_B, is_known_B = policy.read([rows[i] for i in trained])
    scores = score(arm, rollouts, truths, on_rows(means_B, trained, len(rows)), step, equivalence.same)
    # of the run's rewards, which equal these or are reported as a difference
    advantages_B = group_advantages([rollouts[i] for i in trained], [rows[i]["reward"] or 0.0 for i in trained])

    found.steps += 1
    known = dict(zip(trained, is_known_B, strict=True))
    for place, (row, rollout, label, reward) in enumerate(
        zip(rows, rollouts, scores.row_labels, scores.rewards, strict=True)
    ):
        if rollout.voter != "student":
            continue
        where = f"step {step}, question {row['question']}, {row['view']}, row {place}"
        found.rows += 1
        found.labels += label is not None
        found.exactly(where, "answer", rollout.answer, row["answer"])
        found.exactly(where, "label", label, row["label"])
        found.exactly(where, "trained", rollout.trained, row.get("trained", True))
        if not arm.method.needs_logits:
            found.rewards += reward is not None
            found.exactly(where, "reward", reward, row["reward"])
        elif known[place]:
            found.rewards += 1
            found.within(where, "rewards", "reward", reward, row["reward"], POLICY_TOLERANCE)

    tokens_B = torch.tensor([float(rows[i]["tokens"]) for i in trained])
    here = {
        "advantages": {
            "critic/advantages/max": advantages_B.max().item(),
            "critic/advantages/min": advantages_B.min().item(),
            "critic/advantages/mean": ((advantages_B * tokens_B).sum() / tokens_B.sum()).item(),
        },
        "metrics of the vote": group_metrics(rollouts, scores, truths, equivalence.same),
    }
    for kind, values in here.items():
        for name in sorted(values.keys() & metrics.keys()):
            if not (arm.method.needs_logits and name.startswith("reward/")):  # means of rewards that are not all known
                found.within(f"step {step}", kind, name, values[name], metrics[name])
    if policy is not None:
        is_judged = policy.is_exact
        for name, value in policy.learn(advantages_B, metrics).items():
            if is_judged and name in metrics:
                found.within(f"step {step}", "policy", name, value, metrics[name], POLICY_TOLERANCE)


def splits(text: str, num_tokens: int, vocabulary: Mapping[str, int]) -> list[list[int]]:
    """Ways to write a text with `num_tokens` tokens; two of them if there are more."""
    longest = max(map(len, vocabulary))

    @cache
    def ways(begin: int, left: int) -> list[list[int]]:
        if not left:
            return [[]] if begin == len(text) else []
        ends = range(begin + 1, min(begin + longest, len(text)) + 1)
        pieces = [text[begin:end] for end in ends if text[begin:end] in vocabulary]
        found = ([vocabulary[piece], *rest] for piece in pieces for rest in ways(begin + len(piece), left - 1))
        return list(islice(found, 2))

    return ways(0, num_tokens)


class Retrained:
    """The start, trained by training.py on a run's samples and rewards."""

    def __init__(
        self, arm: Arm, model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, config: DictConfig
    ) -> None:
        rate = config.actor_rollout_ref.actor.optim.lr
        # verl caps k3 of a token at 10, which the arms were trained without
        self._policy = Policy(arm, model, config.trainer.total_training_steps, rate, k3_cap=10.0)
        self._tokenizer = tokenizer
        special = set(tokenizer.all_special_ids)
        self._vocabulary = {token: id_ for token, id_ in tokenizer.get_vocab().items() if id_ not in special}
        self.is_exact, self.rows, self.known_rows = True, 0, 0
        self.curves: dict[str, list[tuple[float, float]]] = {"actor/kl_loss": [], "actor/entropy": []}  # here, there

    @classmethod
    def starting_as(cls, arm: Arm, config: DictConfig) -> Retrained | None:
        """The state at the start of the run; None if its model is missing, or if it had an adapter, drawn there."""
        path = Path(config.actor_rollout_ref.model.path)
        if arm.lora_rank or not (path / "config.json").is_file():
            return None
        model, tokenizer = LlamaForCausalLM.from_pretrained(path), AutoTokenizer.from_pretrained(path)
        return cls(arm, model, tokenizer, config)

    def read(self, rows_B: Sequence[Mapping[str, Any]]) -> tuple[dict[str, list[float]], list[bool]]:
        """Means of the statistics over each response's tokens, and whether they are the run's."""
        tokens, is_known_B = zip(*(self._tokens(row) for row in rows_B), strict=True)
        prompts = prompt_ids(self._tokenizer, [row["prompt"] for row in rows_B])
        responses = Responses(prompts, list(tokens), [row["response"] for row in rows_B])
        self._read = self._policy.read(responses, 1)
        self.rows, self.known_rows = self.rows + len(rows_B), self.known_rows + sum(is_known_B)
        was_exact, self.is_exact = self.is_exact, self.is_exact and all(is_known_B)
        return self._read.means_B, [was_exact and is_known for is_known in is_known_B]

    def _tokens(self, row: Mapping[str, Any]) -> tuple[list[int], bool]:
        """What the row sampled, or the tokenizer's own split; whether there is no doubt."""
        text, count, end = row["response"], row["tokens"], self._tokenizer.eos_token_id
        found = [[*split, end] for split in splits(text, count - 1, self._vocabulary)]
        if count == MAX_TOKENS:  # may have been cut off
            found += splits(text, count, self._vocabulary)
        if len(found) == 1:
            return found[0], True
        return [*self._tokenizer(text, add_special_tokens=False)["input_ids"], end][:MAX_TOKENS], False

    def learn(self, advantages_B: torch.Tensor, metrics: Mapping[str, float]) -> dict[str, float]:
        """The step's update on the read rows; returns its metrics, by the run's names."""
        self._policy.move_teacher(len(self.curves["actor/kl_loss"]) + 1)
        kl = self._policy.learn(self._read, advantages_B)
        here = {"actor/kl_loss": kl, "actor/entropy": fmean(self._read.means_B["entropy"])}
        for name, curve in self.curves.items():
            curve.append((here[name], metrics.get(name, math.nan)))
        return here


def _report(arm: Arm, found: Compared, policy: Retrained | None) -> str:
    largest = ", ".join(f"{kind} {value:.1e}" for kind, value in found.largest.items())
    lines = [
        f"{arm.name}: {found.steps} steps, {found.rows} rows, {found.labels} labels, {found.rewards} rewards, "
        f"{len(found.differences)} differences; largest of numbers: {largest or 'none were logged'}",
        *found.differences[:MAX_NAMED],
    ]
    if policy is not None:
        lines.append(
            f"  tokens known of {policy.known_rows} rows of {policy.rows}; trained on them here, and in the run:"
        )
        for name, curve in policy.curves.items():
            for place, values in zip(("here", "run"), zip(*curve, strict=True), strict=True):
                lines.append(f"  {name:<13} {place:<4} " + " ".join(f"{value:.5f}" for value in values))
    return "\n".join(lines)
