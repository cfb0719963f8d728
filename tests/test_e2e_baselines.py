# SPDX-License-Identifier: Apache-2.0
"""A baseline that needs the policy's logits, and Co-rewarding-III, through the whole stack on the CPU."""

import re
from collections import Counter, defaultdict
from pathlib import Path

import pytest
import torch
from e2e_runs import QUESTIONS, ROLLOUTS, finish, metrics_of, rows_of, start
from transformers import AutoModelForCausalLM, AutoTokenizer

from co_rewarding.toy.arithmetic import SYSTEM_PROMPT

pytestmark = pytest.mark.e2e

SHORT = ("trainer.total_training_steps=2", "trainer.val_before_train=False", "trainer.test_freq=-1")


def test_self_certainty_is_what_the_starting_model_computes_in_float64(toy: Path) -> None:
    run = start("baseline", toy, "certainty", *SHORT, METHOD="self_certainty", SAVE_FREQ="-1")
    finish(run, toy / "certainty.log")
    run_dir = toy / "runs/co-rewarding/certainty"
    tokenizer = AutoTokenizer.from_pretrained(toy / "model")
    model = AutoModelForCausalLM.from_pretrained(toy / "model", dtype=torch.float64)
    rows, compared = rows_of(run_dir / "rollouts/1.jsonl"), 0
    assert len(rows) == QUESTIONS * ROLLOUTS
    for row in [row for row in rows if "\ufffd" not in row["response"]][:12]:  # text that gives its tokens back
        messages = [{"role": "system", "content": SYSTEM_PROMPT}, {"role": "user", "content": row["prompt"]}]
        prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        prompt_ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
        response_ids = tokenizer(row["response"], add_special_tokens=False)["input_ids"]
        if len(response_ids) < 32:  # not cut off: the end of text was sampled, too
            response_ids = [*response_ids, tokenizer.eos_token_id]
        with torch.no_grad():
            logits = model(torch.tensor([prompt_ids + response_ids])).logits[0, len(prompt_ids) - 1 : -1]
        # KL(U ‖ π) = −(1/|V|) Σ_v log(|V| π_v), mean over the response's tokens
        size = logits.shape[-1]
        certainty = -(torch.log_softmax(logits, dim=-1) + torch.log(torch.tensor(float(size)))).mean(dim=-1)
        assert row["reward"] == pytest.approx(float(certainty.mean()), rel=1e-4)
        compared += 1
    assert compared == 12
    metrics = metrics_of(run_dir)[2]
    assert "label/accuracy" not in metrics  # nobody votes
    assert "reward/accuracy" not in metrics  # nats are neither right nor wrong
    assert 0 < metrics["answer/accuracy"] <= 1
    assert metrics["collapse/length"] == pytest.approx(
        sum(len(tokenizer(row["response"])["input_ids"]) + 1 for row in rows_of(run_dir / "rollouts/2.jsonl"))
        / len(rows),
        abs=1.0,
    )


def test_the_teachers_vote_on_one_wording_rewards_the_other(toy: Path) -> None:
    finish(start("III", toy, "three", *SHORT, SAVE_FREQ="-1", TEACHER_NUM_ROLLOUTS="6"), toy / "three.log")
    rewards, skipped = [], 0
    for step in (1, 2):
        rows = rows_of(toy / f"runs/co-rewarding/three/rollouts/{step}.jsonl")
        # both answer both wordings
        groups = Counter((row["question"], row["view"], row["voter"]) for row in rows)
        assert Counter((voter, count) for (_, _, voter), count in groups.items()) == {
            ("student", ROLLOUTS): 2 * QUESTIONS,
            ("teacher", 6): 2 * QUESTIONS,
        }
        answers = defaultdict(list)
        for row in rows:
            boxes = re.findall(r"\\boxed\{([^{}]*)\}", row["response"])
            answers[row["question"], row["view"], row["voter"]].append(boxes[-1].strip() or None if boxes else None)
        odd = {q for (q, _, _), group in answers.items() if not all(a is None or a.isdigit() for a in group)}
        for row in rows:
            if row["voter"] == "teacher":
                assert row["reward"] is None
                continue
            if row["question"] in odd:
                skipped += 1
                continue
            other = "rephrased" if row["view"] == "original" else "original"
            votes = Counter(int(a) for a in answers[row["question"], other, "teacher"] if a is not None)
            label = votes.most_common(1)[0][0] if votes else None
            assert row["reward"] == float(
                label is not None and row["answer"] is not None and int(row["answer"]) == label
            )
            rewards.append(row["reward"])
    assert skipped < len(rewards) / 4
    assert 0 < sum(rewards) < len(rewards)
