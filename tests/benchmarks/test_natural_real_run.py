# SPDX-License-Identifier: Apache-2.0
"""The benchmark's arms as command lines of the run scripts, and its check of a run's dumps on made-up ones."""

import json
import math
import shlex
import sys

import natural_errors
import pytest
import torch
import yaml
from natural.arms import ARMS
from natural.questions import split, templates
from natural.real_run import arm_of, check, export, splits
from omegaconf import OmegaConf
from transformers import AutoTokenizer

from co_rewarding.storage.rows import check_pairs, read_rows
from co_rewarding.tools.quickstart.tiny_model import build_model, build_tokenizer, render_prompt


def config_of(**co_rewarding):
    defaults = {"method": "majority_voting", "num_votes": 0, "payout": "hard", "min_agreement": 0.0}
    actor = {"kl_loss_coef": 0.005, "optim": {"lr": 1e-4}}
    return {
        "co_rewarding": defaults | co_rewarding,
        "actor_rollout_ref": {"actor": actor, "model": {"path": "nowhere", "lora_rank": 0}},
        "trainer": {"total_training_steps": 10},
    }


def write_run(folder, rows, logged, config):
    """A run of one step."""
    for name, text in (
        ("hydra/2026-01-01_00-00-00/.hydra/config.yaml", yaml.safe_dump(config)),
        ("metrics/2026-01-01_00-00-00.jsonl", json.dumps({"step": 1, "data": logged}) + "\n"),
        ("rollouts/1.jsonl", "".join(json.dumps(row) + "\n" for row in rows)),
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def rows_of(answers, label, rewards):
    return [
        {
            "step": 1,
            "question": "4",
            "view": "original",
            "voter": "student",
            "prompt": "What is 1 + 2?",
            "response": "I do not know" if answer is None else rf"it is \boxed{{{answer}}}",
            "answer": answer,
            "label": label,
            "reward": reward,
            "ground_truth": "3",
            "tokens": 5,
        }
        for answer, reward in zip(answers, rewards, strict=True)
    ]


# 3 and 7 have three votes each and 3 came first. Mean 3/8, deviation √(8/7 · 3/8 · 5/8) = 0.517549, so the advantages
# are 0.625 / 0.517549 and −0.375 / 0.517549; as many tokens everywhere, so that their mean is 0.
ANSWERS, REWARDS = ["3", "7", "7", "3", "3", "7", None, "5"], [1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0]
LOGGED = {
    "critic/advantages/max": 1.207615,
    "critic/advantages/min": -0.724569,
    "critic/advantages/mean": 0.0,
    "label/accuracy": 1.0,
    "label/agreement": 3 / 8,
    "reward/mean": 3 / 8,
    "answer/share": 7 / 8,
    "actor/kl_loss": 0.0,
}


def test_a_dump_that_agrees(tmp_path, capsys):
    run = write_run(tmp_path, rows_of(ANSWERS, "3", REWARDS), LOGGED, config_of())
    assert check(run) == 0
    assert "majority voting: 1 steps, 8 rows, 8 labels, 8 rewards, 0 differences" in capsys.readouterr().out


def test_whoever_came_first_decides_a_tie(tmp_path):
    # the same answers in the other order: 7 comes first, so that all eight labels and the six rewards of 3 and 7 differ
    rows = rows_of(ANSWERS[::-1], "3", REWARDS[::-1])
    assert check(write_run(tmp_path, rows, LOGGED, config_of())) == 8 + 6 + 1  # and label/accuracy


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"reward": 0.0}, "step 1, question 4, original, row 3: reward is 1.0 here, 0.0 in the run"),
        ({"label": "7"}, "row 3: label is '3' here, '7' in the run"),
        ({"answer": None}, "row 3: answer is '3' here, None in the run"),
        ({"trained": False}, "row 3: trained is True here, False in the run"),
    ],
)
def test_a_row_that_differs(tmp_path, capsys, monkeypatch, change, told):
    rows = rows_of(ANSWERS, "3", REWARDS)
    rows[3] |= change
    run = write_run(tmp_path, rows, {}, config_of())
    monkeypatch.setattr(sys, "argv", ["natural_errors.py", "check", str(run)])
    with pytest.raises(SystemExit) as end:
        natural_errors.main()
    assert end.value.code == 1
    assert told in capsys.readouterr().out


@pytest.mark.parametrize("name", ["critic/advantages/max", "critic/advantages/mean", "label/accuracy"])
def test_a_logged_number_that_differs(tmp_path, capsys, name):
    logged = LOGGED | {name: LOGGED[name] + 0.001}
    assert check(write_run(tmp_path, rows_of(ANSWERS, "3", REWARDS), logged, config_of())) == 1
    assert f"step 1: {name} is " in capsys.readouterr().out
    assert check(write_run(tmp_path, rows_of(ANSWERS, "3", REWARDS), LOGGED | {name: math.nan}, config_of())) == 1


def test_more_votes_than_rows_that_are_trained_on(tmp_path):
    # the first eight are trained on; with the others 5 has nine votes
    rows = [row | {"trained": True} for row in rows_of(ANSWERS, "5", [0.0] * 7 + [1.0])]
    rows += [row | {"trained": False} for row in rows_of(["5"] * 8, "5", [None] * 8)]
    assert check(write_run(tmp_path, rows, {"reward/mean": 1 / 8}, config_of(num_votes=16))) == 0


def test_a_soft_vote_is_told_from_the_configuration(tmp_path):
    # each answer's votes of eight
    rows = rows_of(ANSWERS, "3", [3 / 8, 3 / 8, 3 / 8, 3 / 8, 3 / 8, 3 / 8, 0.0, 1 / 8])
    assert check(write_run(tmp_path / "soft", rows, {}, config_of(payout="soft"))) == 0
    assert check(write_run(tmp_path / "hard", rows, {}, config_of())) > 0


def test_rewards_of_the_policy_are_held_to_a_tolerance(tmp_path, capsys):
    tokenizer = build_tokenizer(templates())
    model = build_model(tokenizer, seed=3, hidden_size=32)
    rows = rows_of(ANSWERS, None, [0.0] * 8)
    for row in rows:
        prompt = tokenizer(render_prompt(tokenizer, row["prompt"]))["input_ids"]
        response = [*tokenizer(row["response"])["input_ids"], tokenizer.eos_token_id]
        with torch.no_grad():
            logits = model(torch.tensor([prompt + response])).logits[0, len(prompt) - 1 : -1].double()
        entropy = -(logits.softmax(-1) * logits.log_softmax(-1)).sum(-1).mean()
        row |= {"reward": -entropy.item(), "tokens": len(response)}
    rows[1] |= {"tokens": rows[1]["tokens"] + 1, "reward": 0.0}  # sampled in other pieces: cannot be known
    config = config_of(method="entropy")
    config["actor_rollout_ref"]["model"]["path"] = str(tmp_path / "model")
    run = write_run(tmp_path / "run", rows, {"actor/kl_loss": 0.0}, config)
    with pytest.raises(ValueError, match="entropy needs the model that the run began with"):
        check(run)
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    assert check(run) == 0
    assert "entropy: 1 steps, 8 rows, 0 labels, 7 rewards, 0 differences" in (told := capsys.readouterr().out)
    assert "tokens known of 7 rows of 8" in told
    assert "actor/kl_loss here 0.00000" in told
    rows[3]["reward"] += 0.01
    assert check(write_run(tmp_path / "run", rows, {"actor/kl_loss": 0.1}, config)) == 1
    rows[1]["tokens"] -= 1  # now it is known as well, its reward is wrong, and the policy is the run's
    assert check(write_run(tmp_path / "run", rows, {"actor/kl_loss": 0.1}, config)) == 3


def test_the_run_of_no_arm_is_refused(tmp_path):
    run = write_run(tmp_path, rows_of(ANSWERS, "3", REWARDS), {}, config_of(payout="negative"))
    with pytest.raises(ValueError, match=r"is the run of no arm \(.*co_rewarding.payout=negative.*--arm"):
        check(run)
    with pytest.raises(ValueError, match="has no configuration or no rollouts"):
        check(tmp_path / "nothing")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    start, target = tmp_path_factory.mktemp("start"), tmp_path_factory.mktemp("target")
    build_tokenizer(templates()).save_pretrained(start / "model")
    (start / "model/config.json").write_text("{}")
    parts = split(30, 60, seed=1)
    with pytest.MonkeyPatch.context() as patched:
        lines = []
        patched.setattr("builtins.print", lines.append)
        export(start, parts, target)
    return target, parts, lines


def test_the_questions_of_a_start_pair_up(exported):
    target, parts, _ = exported
    train, rephrased, test = (read_rows(target / f"{name}.parquet") for name in ("train", "train_rephrased", "test"))
    check_pairs(train, rephrased, ("train", "rephrased"))
    for rows, questions, view in (
        (train, parts.trained, 0),
        (rephrased, parts.trained, 1),
        (test, parts.held_out, 0),
    ):
        assert [row["prompt"][-1]["content"] for row in rows] == [question.text(view) for question in questions]
        assert [row["reward_model"]["ground_truth"] for row in rows] == [str(question.answer) for question in questions]
    assert (target / "model/config.json").is_file()


def test_what_an_exported_start_says_can_be_split_into_the_same_tokens(exported):
    tokenizer = AutoTokenizer.from_pretrained(exported[0] / "model")
    told = build_tokenizer(templates())
    assert tokenizer.get_vocab() == told.get_vocab()
    six, byte_of_six = told.convert_tokens_to_ids(["6", "<0x36>"])
    assert told.decode([six, byte_of_six]) == "66"
    sampled = [six, byte_of_six, *told("What is 66?")["input_ids"]]
    assert tokenizer(tokenizer.decode(sampled), add_special_tokens=False)["input_ids"] == sampled
    assert tokenizer.decode(sampled) == "6<0x36>What is 66?"


def test_texts_that_can_be_written_in_two_ways():
    vocabulary = {token: place for place, token in enumerate(("; ", ";", " *", "*", " ", "3"))}
    assert splits("; *3", 3, vocabulary) == [[1, 2, 5], [0, 3, 5]]  # ";" " *" "3" and "; " "*" "3"
    assert splits("; *3", 4, vocabulary) == [[1, 4, 3, 5]]
    assert splits("; *3", 2, vocabulary) == splits("; *4", 3, vocabulary) == []
    assert splits("", 0, vocabulary) == [[]]


def test_every_arm_is_recognised_by_what_its_command_sets(exported):
    _, _, (settings, *commands) = exported
    assert settings.startswith("export MODEL_PATH=")
    for command, arm in zip(commands, ARMS.values(), strict=True):
        words, name = shlex.split(command, comments=True), command.partition("  # ")[2]
        config = OmegaConf.from_dotlist(words[words.index("bash") + 2 :])
        assert name == arm.name
        assert arm_of(config, "a run") is arm
