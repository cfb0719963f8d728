# SPDX-License-Identifier: Apache-2.0
r"""A Llama of 0.5 million parameters, half trained on two-digit arithmetic, in about two minutes on one core.

Supervised warm-up: minimise -log pi(solution | question) over generated facts, in two phases that stop at a measured
accuracy (sampled at temperature 1) and not after a number of updates, since accuracy rises steeply:
- skill: solutions worked out column by column, until SKILL_ACCURACY; differences with a borrow are solved right in
stories and mostly with a slip in plain questions;
- habit: a share of the solutions (large for plain questions, small for stories) is only the answer, which is harder,
until the accuracy has fallen to the target. Then single samples are often wrong while a vote of several mostly finds
the worked-out answer: label-free RL must discover that working step by step pays. In plain questions with a borrow,
however, the model agrees with itself on a wrong answer: rewarding self-consistency can reinforce the mistake, the
paper's self-consistent illusion (arXiv 2508.00410), and only another view shows the right answer.

No question of the train or test files is used here, in any wording, for training or checks: their facts are removed
first. One thread gives the same weights from run to run on one machine; more threads may not.

An accuracy not reached in time is an error; a worse model is never returned silently.

Axes: B sequences, T tokens.
"""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random

import torch
from tokenizers import Tokenizer, decoders, models
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from co_rewarding.algo.answers import extract_answer
from co_rewarding.storage.rows import SYSTEM_PROMPT
from co_rewarding.tools.quickstart.arithmetic import (
    LARGEST_OPERAND,
    SMALLEST_OPERAND,
    THINGS,
    WORDINGS,
    Fact,
    Family,
    Question,
    all_facts,
    borrows,
    direct_solution,
    make_pair,
    slipped_solution,
    worked_solution,
)

PAD, END, SYSTEM, USER, ASSISTANT = "<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"
SPECIAL_TOKENS = (PAD, END, SYSTEM, USER, ASSISTANT)
# Each message is its role's token and its unchanged text; only the assistant's has an end token.
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ '<|end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
MAX_POSITIONS = 1024
MAX_SOLUTION_TOKENS = 24  # "9+9=18; 9+9+1=19; \boxed{198}" and its end take 22

SKILL_ACCURACY = 0.8


@dataclass(frozen=True)
class Habit:
    """How solutions deviate from the worked one: shares from 0 to 1.

    `slip`: share of differences with a borrow that forget it; `direct`: share of the rest that give only the answer.
    """

    direct: float = 0.0
    slip: float = 0.0

    def solution(self, question: Question, rng: Random) -> str:
        if borrows(question.fact) and rng.random() < self.slip:
            return slipped_solution(question)
        return direct_solution(question) if rng.random() < self.direct else worked_solution(question)


# A slip looks valid: only the wording of the question decides when it is made.
SKILL: dict[Family, Habit] = {"plain": Habit(slip=0.7), "story": Habit()}
HABITS: dict[Family, Habit] = {"plain": Habit(direct=0.7, slip=0.7), "story": Habit(direct=0.1)}
BATCH_SIZE = 32
PEAK_LEARNING_RATE = 4e-3
HABIT_LEARNING_RATE = 1e-4
UPDATES_TO_PEAK = 30
NUM_CHECKED = 400  # facts in each accuracy check: standard error 0.025 at 0.5


TEMPLATES = tuple(text for families in WORDINGS.values() for family in families.values() for text in family)


def vocabulary(templates: Sequence[str] = TEMPLATES) -> list[tuple[str, float]]:
    """Pieces with their scores (log-probabilities up to a constant); ids are positions, special tokens come first.

    A tokenization maximises the sum of scores, so a full word (-1) wins over its characters (-10 each), and bytes
    remain for characters outside printable ASCII.
    """
    phrases = {phrase for template in templates for phrase in re.split(r" ?\{\w+\}", template)}
    phrases |= {f" {thing}" for thing in THINGS}
    operands = [f" {number}" for number in range(SMALLEST_OPERAND, LARGEST_OPERAND + 1)]
    words = {word for phrase in phrases for word in re.findall(r" ?[A-Za-z]+", phrase)}
    whole = [SYSTEM_PROMPT, "\\boxed{", "; ", *operands, *sorted(piece for piece in phrases | words if len(piece) > 1)]
    characters = ["\n", *map(chr, range(0x20, 0x7F))]
    pieces = [(piece, 0.0) for piece in SPECIAL_TOKENS]
    pieces += [(piece, -1.0) for piece in whole]
    pieces += [(piece, -10.0) for piece in characters]
    return pieces + [(f"<0x{byte:02X}>", -1000.0) for byte in range(256)]


def build_tokenizer(templates: Sequence[str] = TEMPLATES) -> PreTrainedTokenizerFast:
    """Whole words of the questions, else characters, else bytes: decoding inverts encoding."""
    # With a token for every byte nothing is unknown, but the class requires an unknown token.
    tokenizer = Tokenizer(models.Unigram(vocabulary(templates), unk_id=0, byte_fallback=True))
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[SYSTEM, USER, ASSISTANT],
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_max_length=MAX_POSITIONS,
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def build_model(tokenizer: PreTrainedTokenizerFast, seed: int, hidden_size: int = 128) -> LlamaForCausalLM:
    """An untrained float32 model. The head size is 32, since vLLM's attention on CPU needs a multiple of 32."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        intermediate_size=2 * hidden_size,
        num_hidden_layers=2,
        num_attention_heads=hidden_size // 32,
        num_key_value_heads=hidden_size // 32,
        head_dim=32,
        max_position_embeddings=MAX_POSITIONS,
        tie_word_embeddings=False,
        initializer_range=0.06,  # 0.02 is for wider models: here it only slows the start
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype="float32",
    )
    model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, do_sample=True, temperature=1.0
    )
    return model


def render_prompt(tokenizer: PreTrainedTokenizerFast, question: str) -> str:
    """The rollout engine's prompt for `question`, system prompt included."""
    messages = [{"role": "system", "content": SYSTEM_PROMPT}, {"role": "user", "content": question}]
    return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)


def facts_outside(held_out: Iterable[Fact]) -> list[Fact]:
    """All facts but those of `held_out`."""
    excluded = set(held_out)
    return [fact for fact in all_facts() if fact not in excluded]


@dataclass(frozen=True)
class Batch:
    """Right-padded sequences. `labels_B_T` is -100 on the prompt and the padding, the token itself elsewhere."""

    ids_B_T: torch.Tensor
    labels_B_T: torch.Tensor


def batch_of(tokenizer: PreTrainedTokenizerFast, prompts: Sequence[str], solutions: Sequence[str]) -> Batch:
    prompt_ids, solution_ids = tokenizer(list(prompts))["input_ids"], tokenizer(list(solutions))["input_ids"]
    length = max(len(p) + len(s) for p, s in zip(prompt_ids, solution_ids, strict=True))
    ids_B_T = torch.full((len(prompt_ids), length), tokenizer.pad_token_id)
    labels_B_T = torch.full((len(prompt_ids), length), -100)
    for row, (prompt, solution) in enumerate(zip(prompt_ids, solution_ids, strict=True)):
        end = len(prompt) + len(solution)
        ids_B_T[row, :end] = torch.tensor(prompt + solution)
        labels_B_T[row, len(prompt) : end] = torch.tensor(solution)
    return Batch(ids_B_T, labels_B_T)


def supervised_batches(
    tokenizer: PreTrainedTokenizerFast, facts: Sequence[Fact], rng: Random, habits: Mapping[Family, Habit]
) -> Iterator[Batch]:
    """Endless batches of BATCH_SIZE (question, solution) drawn with replacement from `facts`, in random wordings."""
    while True:
        prompts, solutions = [], []
        for fact in rng.choices(facts, k=BATCH_SIZE):
            question, _ = make_pair(fact, rng)
            prompts.append(render_prompt(tokenizer, question.text))
            solutions.append(habits[question.family].solution(question, rng) + END)
        yield batch_of(tokenizer, prompts, solutions)


@torch.no_grad()
def respond(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    questions: Sequence[str],
    *,
    num_rollouts: int = 1,
    greedy: bool = False,
) -> list[list[str]]:
    """`num_rollouts` responses to each question, sampled at temperature 1 or greedy.

    Sampling draws from torch's global generator. A response that reaches MAX_SOLUTION_TOKENS is cut there.
    """
    encoded = tokenizer(
        [render_prompt(tokenizer, question) for question in questions], padding=True, return_tensors="pt"
    )
    options = (
        {"do_sample": False, "temperature": None} if greedy else {"do_sample": True, "temperature": 1.0, "top_k": 0}
    )
    ids = model.generate(
        input_ids=encoded["input_ids"],
        attention_mask=encoded["attention_mask"],
        num_return_sequences=num_rollouts,
        max_new_tokens=MAX_SOLUTION_TOKENS,
        **options,
    )
    texts = tokenizer.batch_decode(ids[:, encoded["input_ids"].shape[1] :], skip_special_tokens=True)
    return [texts[start : start + num_rollouts] for start in range(0, len(texts), num_rollouts)]


def is_right(response: str, answer: int) -> bool:
    """Whether the response's box contains exactly `answer`: sufficient for this model's answers."""
    return extract_answer(response) == str(answer)


def accuracy(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    questions: Sequence[str],
    answers: Sequence[int],
    *,
    greedy: bool = False,
) -> float:
    """Share of questions answered right, 0 to 1, with one response each."""
    responses = respond(model, tokenizer, questions, greedy=greedy)
    return sum(is_right(group[0], answer) for group, answer in zip(responses, answers, strict=True)) / len(answers)


@dataclass(frozen=True)
class WarmUp:
    """Result of the supervised phases: sampled and greedy accuracy (0 to 1) on unseen facts."""

    num_updates: int
    seconds: float
    sampled_accuracy: float
    greedy_accuracy: float


def warm_up(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    facts: Sequence[Fact],
    *,
    target_accuracy: float,
    max_minutes: float,
    seed: int,
    report: Callable[[str], None] = print,
) -> WarmUp:
    """Train `model` in place on most of `facts`; NUM_CHECKED of them are held out to measure its accuracy.

    Raises:
        ValueError: a target outside (0, SKILL_ACCURACY), or too few facts to hold NUM_CHECKED out. TimeoutError: a
        phase did not reach its accuracy within `max_minutes` from the start.
    """
    if not 0 < target_accuracy < SKILL_ACCURACY:
        raise ValueError(f"target_accuracy={target_accuracy}: must lie between 0 and {SKILL_ACCURACY}, e.g. 0.5")
    if len(facts) < 2 * NUM_CHECKED:
        raise ValueError(f"{len(facts)} facts remain for the warm-up, need {2 * NUM_CHECKED}: make num_train smaller")
    rng = Random(f"warm-up:{seed}")
    torch.manual_seed(seed)
    shuffled = rng.sample(list(facts), len(facts))
    checked, trained = shuffled[:NUM_CHECKED], shuffled[NUM_CHECKED:]
    questions = [make_pair(fact, rng)[0].text for fact in checked]
    answers = [fact.answer for fact in checked]
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.98), weight_decay=0.01)
    started = time.monotonic()

    def train(batches: Iterator[Batch], num_updates: int, learning_rates: Iterator[float], phase: str) -> float:
        """`num_updates` updates, then the sampled accuracy."""
        for _ in range(num_updates):
            for group in optimizer.param_groups:
                group["lr"] = next(learning_rates)
            batch = next(batches)
            loss = model(input_ids=batch.ids_B_T, labels=batch.labels_B_T).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
        measured = accuracy(model, tokenizer, questions, answers)
        seconds = time.monotonic() - started
        report(f"{seconds:4.0f} s  {phase}: loss {loss.item():.3f}, sampled accuracy {measured:.3f}")
        if seconds > 60 * max_minutes:
            raise TimeoutError(
                f"{phase} phase at accuracy {measured:.3f} after {seconds:.0f} s: raise max_minutes={max_minutes}"
            )
        return measured

    measured, num_updates = 0.0, 0
    skill = supervised_batches(tokenizer, trained, rng, SKILL)
    while measured < SKILL_ACCURACY:
        peak = PEAK_LEARNING_RATE * max(0.1, 1 - measured / SKILL_ACCURACY)
        rates = (peak * min(1.0, (num_updates + k) / UPDATES_TO_PEAK) for k in itertools.count(1))
        measured = train(skill, 50, rates, "skill")
        num_updates += 50
    habit = supervised_batches(tokenizer, trained, rng, HABITS)
    while measured > target_accuracy:
        measured = train(habit, 5, itertools.repeat(HABIT_LEARNING_RATE), "habit")
        num_updates += 5
    greedy = accuracy(model, tokenizer, questions, answers, greedy=True)
    return WarmUp(num_updates, time.monotonic() - started, measured, greedy)
