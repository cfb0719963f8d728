# SPDX-License-Identifier: Apache-2.0
"""A known answer set, graded by hand and by the harness; saved responses graded again."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from co_rewarding.algo.equivalence.relation import Equivalence
from co_rewarding.tools.cli import UserError
from co_rewarding.tools.evaluation import extraction
from co_rewarding.tools.evaluation.extraction import extract_anywhere
from co_rewarding.tools.evaluation.generate import Generation
from co_rewarding.tools.evaluation.grade import grade, group, read_saved, scores
from co_rewarding.tools.evaluation.protocols import LIGHTEVAL_GSM8K, LIGHTEVAL_MATH
from co_rewarding.tools.quickstart.tiny_model import build_tokenizer
from co_rewarding.training.reward_manager import GroupRewardManager

# question -> ground truth, four responses, their verdicts by hand
KNOWN = {
    0: (r"\frac{1}{2}", [r"\boxed{0.5}", r"\boxed{1/2}", r"\boxed{\dfrac12}", r"so 1/2"], "yyyn"),
    1: ("12", [r"\boxed{12}", r"\boxed{13}", r"first \boxed{12}, no: \boxed{13}", r"\boxed{13"], "ynnn"),
    2: ("(1,2)", [r"\boxed{(2,1)}", r"\boxed{( 1, 2 )}", r"\boxed{}", r"\boxed{\left(1,2\right)}"], "nyny"),
    3: (None, [r"\boxed{5}", r"\boxed{6}", "", ""], "    "),
    4: ("x+1", [r"\boxed{1+x}", r"\boxed{x-1}", r"\boxed{2}", r"\boxed{2}"], "ynnn"),
}


@pytest.fixture(scope="module")
def equivalence() -> Iterator[Equivalence]:
    with Equivalence() as made:
        yield made


@pytest.fixture(scope="module")
def known() -> list[Generation]:
    return [
        Generation(index, sample, "question", truth, response, 10 * (sample + 1), "stop" if sample else "length")
        for index, (truth, responses, _) in KNOWN.items()
        for sample, response in enumerate(responses)
    ]


def test_verdicts_of_the_known_set(known: list[Generation], equivalence: Equivalence) -> None:
    verdict = {True: "y", False: "n", None: " "}
    graded = group(grade(known[::-1], equivalence.same))
    assert ["".join(verdict[row.correct] for row in graded_G) for graded_G in graded] == [v for *_, v in KNOWN.values()]


def test_scores_of_the_known_set(known: list[Generation], equivalence: Equivalence) -> None:
    found = scores(group(grade(known, equivalence.same)), equivalence.same)
    assert (found["questions"], found["without_ground_truth"], found["responses"]) == (5, 1, 20)
    # right of four: 3, 1, 2, 1 of the four questions with a ground truth
    value = {name: score["value"] for name, score in found["accuracy"].items()}
    assert found["primary"] == "avg@4"
    assert value["avg@4"] == value["pass@1"] == pytest.approx(7 / 16)
    # 1 − C(4−c, 2) / 6: 1 − 0, 1 − 3/6, 1 − 1/6, 1 − 3/6
    assert value["pass@2"] == pytest.approx((1 + 1 / 2 + 5 / 6 + 1 / 2) / 4)
    assert value["pass@4"] == 1.0
    # votes: 1/2 three times, right; 13 twice against 12 once, wrong; (1,2) twice, right; 2 twice, wrong
    assert value["maj@4"] == 0.5
    # pairs: (1/2, 1/2) (1/2, none) | (12, 13) tie for 12, (13) | ((2,1), (1,2)) tie, (none, (1,2)) | (1+x, x−1), (2, 2)
    assert value["maj@2"] == pytest.approx((1 + 1 / 2 + 1 / 2 + 1 / 2) / 4)
    # boxed: 3, 3 (a box that never closes is none), 3 (an empty box is none), 2, 4 of 4
    assert found["boxed_rate"]["value"] == pytest.approx(15 / 20)
    # of four responses for the majority answer: 1/2 three, 13 two, (1,2) two, 5 one, 2 two; the fourth has no truth
    assert found["agreement"]["value"] == pytest.approx((3 + 2 + 2 + 1 + 2) / 20)
    # each question's responses have 10, 20, 30, 40 tokens, the first is cut off
    assert found["tokens"] == {"value": 25, "standard_error": 0}
    assert (found["tokens_median"], found["cut_off"]) == (25, 0.25)


def test_one_response_is_pass_at_1(known: list[Generation], equivalence: Equivalence) -> None:
    first = [generation for generation in known if generation.sample == 0]
    found = scores(group(grade(first, equivalence.same)), equivalence.same)
    assert found["primary"] == "pass@1"
    assert list(found["accuracy"]) == ["pass@1"] and found["agreement"] is None
    # y y n y: 3/4, s² = (3 · 1/16 + 9/16) / 3 = 1/4, s/√4 = 1/4
    assert found["accuracy"]["pass@1"] == {"value": 0.75, "standard_error": pytest.approx(0.25)}


def test_a_set_without_ground_truths_has_no_accuracy(equivalence: Equivalence) -> None:
    graded = grade([Generation(0, 0, "q", None, r"\boxed{1}", 5, "stop")], equivalence.same)
    found = scores(group(graded), equivalence.same)
    assert (found["primary"], found["accuracy"], found["boxed_rate"]["value"]) == (None, {}, 1.0)
    sampled = [Generation(0, i, "q", None, text, 5, "stop") for i, text in enumerate([r"\boxed{1}", "1", r"\boxed{1}"])]
    found = scores(group(grade(sampled, equivalence.same)), equivalence.same)
    assert (found["accuracy"], found["agreement"]["value"]) == ({}, pytest.approx(2 / 3))


def test_a_prompt_that_was_never_asked_has_no_length(equivalence: Equivalence) -> None:
    never = [Generation(1, 0, "q", "1", "", 0, "prompt_too_long"), Generation(2, 0, "q", "1", "", 0, "refused")]
    graded = grade([Generation(0, 0, "q", "1", r"\boxed{1}", 5, "stop"), *never], equivalence.same)
    found = scores(group(graded), equivalence.same)
    assert (found["tokens"]["value"], found["tokens_median"]) == (5, 5)
    assert (found["prompt_too_long"], found["refused"]) == (1, 1)
    assert found["accuracy"]["pass@1"]["value"] == pytest.approx(1 / 3)  # they are wrong all the same
    assert scores(group(graded[1:]), equivalence.same)["tokens"] is None


def test_validation_grades_the_known_set_alike(known: list[Generation]) -> None:
    tokenizer = build_tokenizer()
    manager = GroupRewardManager(OmegaConf.create({"co_rewarding": {"method": "majority_voting"}}), tokenizer)
    verdicts: dict[int, str] = {}
    with manager.equivalence:
        for generation in known:
            if generation.ground_truth is not None:  # validation does not ask its grader about the others
                response_T = [*tokenizer.encode(generation.response, add_special_tokens=False), tokenizer.eos_token_id]
                _, correct = manager._grade(response_T, generation.ground_truth, "", ())
                verdicts[generation.index] = verdicts.get(generation.index, "") + ("y" if correct else "n")
    assert verdicts == {index: by_hand for index, (truth, _, by_hand) in KNOWN.items() if truth is not None}


# --- saved responses


def save(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_a_validation_dump_is_graded_as_it_was(tmp_path: Path, equivalence: Equivalence) -> None:
    # two responses to one question (one uid), one to another of the same wording, one without a ground truth
    rows = [
        {"input": "q", "output": r"\boxed{0.5}", "gts": "1/2", "score": 1.0, "acc": 1.0, "uid": "a-b_0_0"},
        {"input": "q", "output": r"\boxed{2}", "gts": "1/2", "score": 0.0, "acc": 0.0, "uid": "a-b_1_0"},
        {"input": "q", "output": r"\boxed{3}", "gts": "1/2", "score": 1.0, "acc": 1.0, "uid": "c-d_0_0"},
        {"input": "r", "output": r"\boxed{3}", "gts": "", "score": 0.0, "uid": "e-f_0_0"},
    ]
    saved = read_saved(save(tmp_path / "10.jsonl", rows))
    graded = grade(saved.generations, equivalence.same)
    assert [len(graded_G) for graded_G in group(graded)] == [2, 1, 1]
    assert [row.correct for row in graded] == [True, False, False, None]
    assert saved.verdicts == [True, False, True, None]  # 3 is not 1/2, whatever the file says; no truth, no verdict


def test_generations_and_graded_files_are_read(tmp_path: Path) -> None:
    row = {"index": 7, "sample": 0, "question": "q", "ground_truth": "4", "response": "r", "tokens": 3, "finish": None}
    header = {"kind": "header", "version": 1, "settings": {"temperature": 0.8}}
    saved = read_saved(save(tmp_path / "toy.jsonl", [header, row, row | {"sample": 1, "correct": True}]))
    assert saved.settings == {"temperature": 0.8}
    assert saved.verdicts == [None, True]
    assert [(g.index, g.sample, g.tokens) for g in saved.generations] == [(0, 0, 3), (0, 1, 3)]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "has no responses"),
        ([{"kind": "header", "settings": {}}], "has no responses"),
        ([{"prompt": "q", "response": "r"}], r"response 1: must have output and gts .* it has prompt, response"),
        ([{"output": 3, "gts": "4"}], "response 1: the response is 3"),
        ([{"output": "r", "gts": ["4"]}], r"response 1: the ground truth is \[\"4\"\]"),
        ([{"output": "r", "gts": "4", "score": "yes"}], 'stored verdict is "yes"'),
        ([{"index": None, "response": "r", "ground_truth": "4"}], "the index is null"),
    ],
)
def test_what_cannot_be_graded_again_is_reported(tmp_path: Path, rows: list[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_saved(save(tmp_path / "x.jsonl", rows))


def test_a_missing_or_broken_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such file; name a JSONL file"):
        read_saved(tmp_path / "absent.jsonl")
    with pytest.raises(ValueError, match="line 1: not a JSON object"):
        read_saved(save(tmp_path / "x.jsonl", [[1]]))


# --- lighteval's extraction


def test_an_answer_anywhere_is_read_as_lighteval_reads_it() -> None:
    texts = [
        "It costs 3 + 4 dollars. So the answer is $7$.",
        r"Half of 5 is 2.5. Therefore, the final answer is: $\boxed{\frac{1}{2}}$. I hope it is correct",
        "18 eggs are left.",
        "no number at all",
        "",
    ]
    assert extract_anywhere(texts, boxed_priority=55) == ["7", r"\frac{1}{2}", "18", None, None]


def test_of_a_box_and_a_final_answer_the_task_says_which_counts() -> None:
    texts = [r"I see \boxed{3}. No: the final answer is $4$."]
    assert [LIGHTEVAL_MATH.answers(texts), LIGHTEVAL_GSM8K.answers(texts)] == [["4"], ["3"]]


def test_a_text_that_math_verify_does_not_finish_has_no_answer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(extraction, "TIMEOUT_S", 3.0)
    bomb = r"The answer is $\binom{1000000000}{500000000}$"
    assert extract_anywhere(["It is $1$.", bomb, "It is $2$."], 0) == ["1", None, "2"]
    assert "note: in 1 responses no answer was found within 3 s" in capsys.readouterr().err


def test_without_math_verify_nothing_is_graded_as_wrong(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "math_verify.py").write_text("raise ImportError('broken')")
    monkeypatch.syspath_prepend(tmp_path)  # the new process gets this path
    with pytest.raises(UserError, match=r"math-verify.* does not start"):
        extract_anywhere(["It is $1$."], 0)
