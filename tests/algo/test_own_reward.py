# SPDX-License-Identifier: Apache-2.0
"""A reward in a file of one's own: what it is given, what it may return, and one line for all else."""

from pathlib import Path
from textwrap import dedent

import pytest

from co_rewarding.algo.methods import method, score_rollouts
from co_rewarding.algo.own_function import OwnFunctionError
from co_rewarding.algo.rollouts import RewardInputs, Rollout, Scores

# two responses that are trained on, and a teacher's between them
ROLLOUTS = [
    Rollout("q", "original", "student", "8"),
    Rollout("q", "original", "teacher", "7"),
    Rollout("q", "original", "student", "8"),
]
INPUTS = RewardInputs(
    ROLLOUTS,
    str.__eq__,
    ground_truths=[r"\boxed{8}", "", "7"],
    texts=["aa", "bb", "cccc"],
    prompts=["1+7=", "1+7=", "1+7="],
    lengths=[2, 2, 4],
)


@pytest.fixture
def own(tmp_path: Path):
    """own(source): the place of the function `reward` in a file with that source."""

    def write(source: str, name: str = "mine") -> str:
        (tmp_path / f"{name}.py").write_text(dedent(source))
        return f"{tmp_path}/{name}.py:reward"

    return write


def scores_of(place: str, inputs: RewardInputs = INPUTS) -> Scores:
    return score_rollouts(method(place), inputs)


def test_a_list_of_numbers_is_enough(own) -> None:
    place = own("""
        def reward(inputs):
            return [1 / length for length in inputs.lengths]
    """)
    assert scores_of(place) == Scores(row_labels=(None, None, None), rewards=(0.5, None, 0.25))


@pytest.mark.parametrize(
    "returned", ["[True, None, 3]", "(1, 'a vote', 3.0)", "np.array([1, 9, 3])", "torch.tensor([1.0, 9.0, 3.0])",
    "list(np.float32([1, 9, 3]))", "[np.int64(1), float('nan'), 3]"],
)  # fmt: skip
def test_what_is_a_number_and_what_a_teachers_row_may_be(own, returned: str) -> None:
    place = own(f"import numpy as np\nimport torch\n\ndef reward(inputs):\n    return {returned}")
    rewards = scores_of(place).rewards
    assert rewards == (1.0, None, 3.0) and type(rewards[0]) is float


def test_scores_keep_their_labels(own) -> None:
    place = own("""
        from dataclasses import replace
        from co_rewarding.algo.rewards import consensus_rewards

        def reward(inputs):
            scores = consensus_rewards(inputs.rollouts, "student", "same", inputs.same)
            return replace(scores, rewards=tuple(r and r / 2 for r in scores.rewards))
    """)
    scores = scores_of(place)
    assert scores.row_labels == ("8", "8", "8") and scores.rewards == (0.5, None, 0.5)
    assert scores.group_labels == {("q", "original"): "8"}


def test_ground_truths_are_for_those_that_say_that_they_need_them(own) -> None:
    source = """
        def reward(inputs):
            seen.append(inputs.ground_truths)
            return [0] * len(inputs.rollouts)

        seen = []
    """
    blind, told = own(source, "blind"), own(source + "    reward.needs_labels = True\n", "told")
    assert (method(blind).needs_labels, method(told).needs_labels) == (False, True)
    for name, given in (
        (blind, {"blind": None}),
        (told, {"told": ("8", None, "7")}),  # without the box, and None where nothing is known
        (f"{blind}+{told}", {"blind": None, "told": ("8", None, "7")}),
        (f"{blind}+ground_truth", {"blind": None}),  # a supervised neighbour changes nothing
    ):
        scores_of(name)
        for place in (blind, told):
            seen = method(place).rule.function.__globals__["seen"]
            if Path(place).stem in given:
                assert seen.pop() == given[Path(place).stem]
            assert seen == []
    with pytest.raises(ValueError, match="needs ground truths"):
        scores_of(told, RewardInputs(ROLLOUTS, str.__eq__))


@pytest.mark.parametrize(
    ("returned", "line", "said"),
    [
        ("[1, 2]", 3, "returned 2 rewards for 3 rows of inputs.rollouts"),
        ("[1, 2, 3, 4]", 3, "returned 4 rewards for 3 rows"),
        ("None", 3, "returned NoneType: must be a list of numbers, one a row, or Scores"),
        ("5", 3, "returned int: must be"),
        ("'abc'", 3, "returned str: must be"),
        ("(r for r in [1, 2, 3])", 3, "returned generator: must be"),
        ("{1: 1, 2: 2, 3: 3}", 3, "returned dict: must be"),
        ("[1, 2, None]", 3, "reward 2 of 3 is None: must be a finite number of at most 1e+12"),
        ("[float('nan'), 2, 3]", 3, "reward 0 of 3 is nan: must be"),
        ("[1, 2, -float('inf')]", 3, "reward 2 of 3 is -inf: must be"),
        ("[1, 2, 10**400]", 3, "reward 2 of 3 is 1000"),
        ("[1, 2, 1e13]", 3, "reward 2 of 3 is 10000000000000.0: must be"),
        ("['1', 2, 3]", 3, "reward 0 of 3 is '1': must be"),
        ("[[1], [2], [3]]", 3, "reward 0 of 3 is [1]: must be"),
        ("[helper(0)] * 3", 8, "ZeroDivisionError: division by zero"),
        ("inputs.statistics['entropy']", 5, "TypeError: 'NoneType' object is not subscriptable"),
        ("Scores((None,), (1, 2, 3))", 3, "returned 1 labels for 3 rows"),
        ("Scores((None,) * 3, (1, 2, float('nan')))", 3, "reward 2 of 3 is nan: must be"),
    ],
)
def test_what_ends_a_run_in_one_line(own, returned: str, line: int, said: str) -> None:
    place = own(f"""from co_rewarding.algo.rollouts import Scores

def reward(inputs):

    return {returned}

def helper(x):
    return 1 / x
""")
    with pytest.raises(OwnFunctionError) as error:
        scores_of(place)
    assert str(error.value).startswith(f"{place.removesuffix(':reward')}:{line} (reward): {said}")
    assert "\n" not in str(error.value) and len(str(error.value)) < 600


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("def reward(inputs:\n    return 1", r"line 1: '\(' was never closed"),
        ("1 / 0", "line 1: ZeroDivisionError: division by zero"),
        ("import nowhere.at_all", "line 1: ModuleNotFoundError: No module named 'nowhere'"),
        ("def other(inputs): ...", "has no function reward; it has other"),
        ("reward = 1", "has no function reward; it has none"),
        ("def reward(): ...", r"must take one argument: def reward\(inputs\)"),
        ("def reward(data_source, solution_str, ground_truth): ...", r"must take one argument: def reward\(inputs\)"),
    ],
)
def test_what_is_refused_before_a_run(own, source: str, said: str) -> None:
    for name in ("{}", "majority_voting+0.5*{}"):
        with pytest.raises(ValueError, match=said) as error:
            method(name.format(own(source)))
        assert "\n" not in str(error.value) and not isinstance(error.value, OwnFunctionError)


def test_what_is_not_there() -> None:
    for name, said in (
        ("/nowhere/mine.py:reward", "/nowhere/mine.py cannot be read"),
        ("no.such.module:reward", "ModuleNotFoundError"),
        ("json:reward", "json has no function reward"),
    ):
        with pytest.raises(ValueError, match=said):
            method(name)


def test_an_importable_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = "class Terse:\n    def __call__(self, inputs):\n        return [1, 1, 1]\n\nreward = Terse()\n"
    (tmp_path / "own_package_of_a_test").mkdir()
    (tmp_path / "own_package_of_a_test/terse.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    assert scores_of("own_package_of_a_test.terse:reward").rewards == (1.0, None, 1.0)
