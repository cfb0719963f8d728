# SPDX-License-Identifier: Apache-2.0
"""benchmarks/natural against plain float64 references, and its questions against arithmetic."""

import math
import re

import pandas as pd
import pytest
import torch
from natural.arms import ARMS, CLAIMS, NUM_QUESTIONS, Arm
from natural.policy import respond, statistics
from natural.questions import FAMILIES, split, templates
from natural.report import claims_table, compared
from natural.summary import Runs, collapse_step, judge, verdict
from natural.training import Policy, group_advantages, score, train, update

from co_rewarding.algo.answers import extract_answer
from co_rewarding.algo.rollouts import Rollout
from co_rewarding.tools.quickstart.tiny_model import build_model, build_tokenizer, render_prompt

UNTRAINED = ("model.embed_tokens.weight", "model.norm.weight", "lm_head.weight")  # of an adapter


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer(templates())


@pytest.fixture(scope="module")
def model(tokenizer):
    return build_model(tokenizer, seed=3, hidden_size=32)


def test_all_that_is_taught_is_true():
    parts = split(100, 100, seed=1)
    for question in [q for taught in parts.taught.values() for q in taught[::9]]:
        assert extract_answer(question.worked) == extract_answer(question.direct) == str(question.answer)
        for left, right in re.findall(r"([-+*\d]+)=(-?\d+)", question.worked):
            assert eval(left) == int(right), question.worked


def test_no_question_is_in_two_parts_and_the_two_wordings_differ():
    parts = split(300, 600, seed=2)
    keys = [q.key for q in (*parts.held_out, *parts.trained, *(q for taught in parts.taught.values() for q in taught))]
    assert len(keys) == len(set(keys)) == sum(len(family.operands) for family in FAMILIES.values())
    assert all(q.text(0) != q.text(1) for q in parts.trained)
    # each wording is as often the original as any other: 200 questions of a family, 50 ± 3 · sqrt(200 · 1/4 · 3/4)
    for family in FAMILIES:
        counts = [sum(q.wordings[0] == i for q in parts.trained if q.family == family) for i in range(4)]
        assert sum(counts) == 200 and all(abs(count - 50) < 19 for count in counts)


def test_more_questions_than_a_family_has_are_refused():
    with pytest.raises(ValueError, match="family product has 720"):
        split(600, 600, seed=1)


def test_greedy_responses_are_those_of_transformers(model, tokenizer):
    questions = ["What is 58 + 23?", "Tom has 81 coins and loses 58. How many now?"]
    ours = respond(model, tokenizer, questions, 1, None)
    for question, prompt, tokens in zip(questions, ours.prompts, ours.tokens, strict=True):
        ids = tokenizer([render_prompt(tokenizer, question)], return_tensors="pt")["input_ids"]
        assert ids[0].tolist() == prompt  # of different lengths, so one is padded here and none is there
        theirs = model.generate(ids, do_sample=False, temperature=None, max_new_tokens=32)[0, len(prompt) :]
        assert theirs.tolist() == tokens


def test_samples_follow_the_distribution(model, tokenizer):
    prompt = respond(model, tokenizer, ["What is 58 + 23?"], 1, None).prompts[0]
    shares = model(torch.tensor([prompt])).logits[0, -1].detach().double().softmax(-1)
    drawn = respond(model, tokenizer, ["What is 58 + 23?"], 2000, torch.Generator().manual_seed(1))
    first = torch.tensor([tokens[0] for tokens in drawn.tokens])
    top = shares.argmax()
    error = math.sqrt(shares[top] * (1 - shares[top]) / 2000)
    assert abs((first == top).double().mean() - shares[top]) < 4 * error


def test_statistics_are_those_of_each_response_alone(model, tokenizer):
    responses = respond(model, tokenizer, ["What is 58 + 23?", "Add 9 to 3."], 3, torch.Generator().manual_seed(1))
    found, mask = statistics(model, responses, 3, ("log_probs", "entropy"))
    for row, (prompt, tokens) in enumerate(zip(responses.prompts, responses.tokens, strict=True)):
        logits = model(torch.tensor([prompt + tokens])).logits[0, len(prompt) - 1 : -1].double()
        log_probs = logits.log_softmax(-1)
        expected = log_probs.gather(-1, torch.tensor(tokens)[:, None])[:, 0]
        assert found["log_probs"][row][mask[row]].tolist() == pytest.approx(expected.tolist(), abs=1e-5)
        entropy = -(log_probs.exp() * log_probs).sum(-1)
        assert found["entropy"][row][mask[row]].tolist() == pytest.approx(entropy.tolist(), abs=1e-5)
    assert mask.sum() == sum(map(len, responses.tokens))


def test_advantages_are_of_the_group():
    rows = [Rollout(q, v, "student", None) for q in "ab" for v in ("original", "rephrased") for _ in range(4)]
    rewards = [1, 0, 0, 0, 1, 1, 1, 1, 0, 0, 1, 1, 0.5, 0.25, 0, 0.25]
    found = group_advantages(rows, rewards).tolist()
    # 1 0 0 0: mean 1/4, squared deviations 9/16 + 3/16 = 3/4, over 3: 1/4, so 1/2; (1 − 1/4) / (1/2 + 1e-6)
    assert found[:2] == pytest.approx([0.75 / 0.500001, -0.25 / 0.500001], rel=1e-6)
    assert found[4:8] == [0, 0, 0, 0]
    # 0 0 1 1: mean 1/2, squared deviations 1, over 3: 1/3
    assert found[8] == pytest.approx(-0.5 / (math.sqrt(1 / 3) + 1e-6), rel=1e-6)
    # 1/2 1/4 0 1/4: mean 1/4, squared deviations 1/8, over 3: 1/24
    assert found[12] == pytest.approx(0.25 / (math.sqrt(1 / 24) + 1e-6), rel=1e-6)


def test_an_update_follows_the_gradient_of_the_loss(model, tokenizer):
    """One step of SGD at learning rate 1 is minus the gradient, here by central differences in float64."""
    student = build_model(tokenizer, seed=5, hidden_size=32).double()
    reference = build_model(tokenizer, seed=6, hidden_size=32).double()
    responses = respond(student, tokenizer, ["What is 58 + 23?"], 2, torch.Generator().manual_seed(1))
    advantages, kl_coef = [0.7, -0.3], 0.1
    old = [log_probs_of(student, *pair).detach() for pair in zip(responses.prompts, responses.tokens, strict=True)]
    ref = [log_probs_of(reference, *pair).detach() for pair in zip(responses.prompts, responses.tokens, strict=True)]

    def loss() -> float:
        total = 0.0
        for i, (prompt, tokens) in enumerate(zip(responses.prompts, responses.tokens, strict=True)):
            now = log_probs_of(student, prompt, tokens).detach()
            ratio, away = (now - old[i]).exp(), ref[i] - now
            total += (-ratio * advantages[i] + kl_coef * (away.exp() - away - 1)).mean().item() / 2
        return total

    weight = student.lm_head.weight
    place = (responses.tokens[0][0], 3)
    with torch.no_grad():
        weight[place] += 1e-5
        above = loss()
        weight[place] -= 2e-5
        below = loss()
        weight[place] += 1e-5
    slope, before = (above - below) / 2e-5, weight[place].item()

    float_student, float_reference = (copy.to(torch.float32) for copy in (student, reference))
    optimizer = torch.optim.SGD(float_student.parameters(), lr=1e-3)
    found, mask = statistics(float_student, responses, 2)
    with torch.no_grad():
        reference_log_probs = statistics(float_reference, responses, 2)[0]["log_probs"]
    update(float_student, optimizer, found["log_probs"], reference_log_probs, mask, torch.tensor(advantages), kl_coef)
    norm = math.sqrt(sum(float(p.grad.double().pow(2).sum()) for p in float_student.parameters()))
    assert norm <= 1.0 + 1e-4  # clipped to 1, or smaller than that
    moved = (before - float_student.lm_head.weight[place].item()) / 1e-3
    unclipped = slope / moved
    assert moved * slope > 0 and unclipped >= 1 - 2e-2  # the same direction; as long as it is, or clipped


def log_probs_of(model, prompt: list[int], tokens: list[int]) -> torch.Tensor:
    logits = model(torch.tensor([prompt + tokens])).logits[0, len(prompt) - 1 : -1]
    return logits.log_softmax(-1).gather(-1, torch.tensor(tokens)[:, None])[:, 0]


def test_of_an_adapter_only_the_factors_are_trained_and_averaged(model, tokenizer):
    policy = Policy(ARMS["II, LoRA"], model, steps=10)
    responses = respond(policy.student, tokenizer, ["What is 1 + 2?"], 4, torch.Generator().manual_seed(1))
    assert responses == respond(model, tokenizer, ["What is 1 + 2?"], 4, torch.Generator().manual_seed(1))  # B is 0
    policy.learn(policy.read(responses, 4), torch.tensor([1.0, -1.0, 1.0, -1.0]))
    policy.move_teacher(2)
    # alpha 32, r 8
    layer, of_start = (m.model.layers[1].mlp.down_proj for m in (policy.student, model))
    factors = layer.parametrizations.weight[0]
    assert factors.A.shape == (8, of_start.in_features) and factors.B.abs().max() > 0
    assert torch.allclose(layer.weight, of_start.weight + 4 * factors.B @ factors.A)
    assert all(torch.equal(policy.student.get_parameter(name), model.get_parameter(name)) for name in UNTRAINED)
    # the teacher: A did not differ in the start, B was 0 there
    decay = policy._schedule.decay(2)
    of_teacher = policy.reference.model.layers[1].mlp.down_proj.parametrizations.weight[0]
    assert torch.allclose(of_teacher.B, (1 - decay) * factors.B, rtol=1e-6)


@pytest.mark.parametrize("name", ARMS)
def test_every_arm_trains(name, model, tokenizer, monkeypatch):
    monkeypatch.setattr("natural.training.VALIDATE_EVERY", 1)
    parts = split(12, 39, seed=1)
    start = {key: value.clone() for key, value in model.state_dict().items()}
    curves = train(ARMS[name], model, tokenizer, parts, seed=1, steps=2)
    assert all(torch.equal(value, start[key]) for key, value in model.state_dict().items())  # a copy was trained
    assert list(curves.metrics.step) == [1, 2]
    assert len(curves.groups) == 2 * NUM_QUESTIONS * len(ARMS[name].wordings)
    assert curves.verdicts.groupby(["step", "how", "view"]).size().to_dict() == {
        (step, how, view): 12
        for step in (0, 1, 2)
        for how, view in (("greedy", "original"), ("greedy", "rephrased"), ("sampled", "original"))
        if how == "greedy" or step != 1
    }


def rows_of(answers: dict[str, list[str]], voter: str = "student", num_trained: int = 8) -> list[Rollout]:
    return [
        Rollout("q", view, voter, answer, trained=i < num_trained)
        for view, given in answers.items()
        for i, answer in enumerate(given)
    ]


def test_the_arms_are_what_they_are_called():
    same = str.__eq__

    def rewards(arm: str, rows: list[Rollout]) -> list[float | None]:
        return list(score(ARMS[arm], rows, ["7"] * len(rows), {}, 1, same).rewards)

    both = rows_of({"original": ["7", "7", "5"], "rephrased": ["5", "5", "7"]})
    assert rewards("majority voting, both wordings", both) == [1, 1, 0, 1, 1, 0]  # each view by its own majority
    assert rewards("I", both) == rewards("I, same wording twice", both) == [0, 0, 1, 0, 0, 1]  # by the other's
    assert rewards("ground truth", rows_of({"original": ["7", "5"]})) == [1, 0]
    # of 4 votes 2 are trained on: the label is 5, which the two others said
    assert rewards("majority voting, 2 G votes", rows_of({"original": ["7", "5", "5", "5"]}, num_trained=2)) == [
        0, 1, None, None,
    ]  # fmt: skip
    assert rewards("soft vote", rows_of({"original": ["7", "7", "5", "9"]})) == [0.5, 0.5, 0.25, 0.25]
    taught = rows_of({"original": ["7", "5"]}) + rows_of({"original": ["5", "5"]}, "teacher")
    assert rewards("II", taught) == [0, 1, None, None]
    # the other view's majority has 2 of 4 votes: half is enough, of 5 it is not
    half = {"original": ["7", "7", "5", "9"], "rephrased": ["7", "7", "7", "7"]}
    assert rewards("I, half must agree", rows_of(half)) == [1, 1, 0, 0, 1, 1, 1, 1]
    assert rewards("I, half must agree", rows_of(half | {"original": ["7", "7", "5", "9", "4"]}))[5:] == [0, 0, 0, 0]
    assert {arm: ARMS[arm].rollouts for arm in ("majority voting", "I", "II", "III", "majority voting, 2 G votes")} == {
        "majority voting": 1, "I": 2, "II": 2, "III": 4, "majority voting, 2 G votes": 2,
    }  # fmt: skip


def test_every_claim_is_of_arms_that_there_are():
    for claim in CLAIMS:
        for what in (claim.better, claim.worse):
            name, _, step = what.partition("@")
            assert isinstance(ARMS[name], Arm) and (not step or int(step) % 25 == 0)


def verdicts_of(right_at: dict[int, list[int]]) -> pd.DataFrame:
    return pd.DataFrame(
        {"step": step, "question": f"q{i}", "view": view, "how": "greedy", "right": bool(right)}
        for step, column in right_at.items()
        for view in ("original", "rephrased")
        for i, right in enumerate(column)
    )


def test_a_collapse_is_a_fall_that_stays():
    up, down, dip = [1] * 40, [1] * 20 + [0] * 20, [1] * 39 + [0]
    # 20 of 40 lost: mean 0.5, standard deviation 0.506, error 0.080; one of 40: 0.025 with error 0.025, no fall
    assert collapse_step(verdicts_of({0: down, 25: up, 50: down, 75: down})) == 50
    assert collapse_step(verdicts_of({0: down, 25: up, 50: down, 75: up})) is None
    assert collapse_step(verdicts_of({0: up, 25: dip, 50: dip})) is None


def test_a_claim_is_judged_by_its_interval():
    good = {start: verdicts_of({0: [0] * 40, 200: [1] * 30 + [0] * 10}) for start in (1, 2, 3)}
    bad = {start: verdicts_of({0: [1] * 20 + [0] * 20, 200: [0] * 40}) for start in (1, 2, 3)}
    arms = {"II": Runs({}, {}, good), "majority voting": Runs({}, {}, bad)}
    claim = next(c for c in CLAIMS if c.better == "II" and c.worse == "majority voting" and c.of == "accuracy")
    found = judge(claim, arms)
    assert found.value == pytest.approx(0.75) and verdict(found) == "holds"
    swapped = judge(claim, {"II": arms["majority voting"], "majority voting": arms["II"]})
    assert swapped.value == pytest.approx(-0.75) and verdict(swapped) == "refuted"
    assert verdict(judge(claim, {"II": arms["II"]})) == "not run"
    corrupted = next(c for c in CLAIMS if c.of == "corrupted")
    assert judge(corrupted, arms).value == pytest.approx(0.5)  # 20 of 40 by majority voting, none by II


def test_two_results_are_compared_claim_by_claim():
    def result(verdict: str, value: float | None) -> dict:
        number = {} if value is None else {"value": value, "low": value - 0.01, "high": value + 0.01}
        claim = {"claim": "II is better", "better": "II", "worse": "majority voting", "of": "accuracy"}
        return {"made_at": "abc", "hard": [claim | {"verdict": verdict, "starts": 5, "questions": 300} | number]}

    stayed = compared(result("holds", 0.05), result("holds", 0.04))
    assert "| +5.0 [+4.0, +6.0] | +4.0 [+3.0, +5.0] | holds |" in " ".join(stayed.split())
    assert "holds / undecided" in compared(result("holds", 0.05), result("undecided", 0.0))
    assert "holds / not run" in compared(result("holds", 0.05), {"made_at": "def"})
    both = claims_table({"easy": result("not run", None)["hard"], "hard": result("refuted", -0.05)["hard"]})
    assert "–: not run" in both and "−5.0 [−6.0, −4.0]: refuted" in both
