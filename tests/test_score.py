# SPDX-License-Identifier: Apache-2.0
"""The offline scorer on a small file: rows, metrics, refusals, and what it must not import."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from co_rewarding.algo.equivalence.relation import Equivalence
from co_rewarding.score import main

REPO = Path(__file__).resolve().parents[1]

# Question p: original says 1/2 1/2 3 and nothing, rephrased says 0.5 3 3 and 3 in its last, unclosed box.
#   votes: original 1/2 (2 of 4), rephrased 3 (2 of 4: 0.5 is one, the unclosed one states nothing)
#   co_rewarding_I: original is labelled 3 -> 0 0 1 0, rephrased 1/2 -> 1 0 0 0
RESPONSES = {
    "original": [r"so \boxed{1/2}", r"\boxed{\frac12}", r"\boxed{3}", "I do not know"],
    "rephrased": [r"\boxed{0.5}", r"\boxed{3}", r"\fbox{3}", r"cut off at \boxed{3"],
}
ANSWERS = ["1/2", r"\frac12", "3", None, "0.5", "3", "3", None]


def rows(**extra):
    return [
        {"question": "p", "view": view, "voter": "student", "response": response, **extra}
        for view, responses in RESPONSES.items()
        for response in responses
    ]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def score(tmp_path, rows, *options, method="co_rewarding_I"):
    source, target = write(tmp_path / "in.jsonl", rows), tmp_path / "out.jsonl"
    code = main([str(source), "--method", method, "--output", str(target), *options])
    return code, read(target) if target.exists() else None


def test_rows_that_only_vote(tmp_path, capsys):
    # the first two of each wording are trained on, the others vote: labels as above
    given = [{**row, "trained": i % 4 < 2} for i, row in enumerate(rows())]
    code, scored = score(tmp_path, given)
    assert code == 0
    assert [row["label"] for row in scored] == ["3"] * 4 + ["1/2"] * 4
    assert [row["reward"] for row in scored] == [0, 0, None, None, 1, 0, None, None]
    assert [row["trained"] for row in scored] == [row["trained"] for row in given]
    for wrong, text in (
        ("no", "field 'trained' is \"no\": it must be true or false"),
        (False, "every row has trained"),
    ):
        assert score(tmp_path, rows(trained=wrong))[0] == 2
        assert text in capsys.readouterr().err


def test_rows_that_were_stopped_state_nothing(tmp_path, capsys):
    # of a decided vote (7, 7 and 7 of five): what the others had written so far is none of the vote
    teacher = {"question": "p", "view": "original", "voter": "teacher"}
    votes = [{**teacher, "response": r"\boxed{7}"}] * 3 + [{**teacher, "response": r"\boxed{8}", "stopped": True}] * 2
    student = {**teacher, "voter": "student", "response": r"\boxed{7}"}
    code, scored = score(tmp_path, [*votes, student], "--min_agreement", "0.6", method="co_rewarding_II")
    assert code == 0
    assert [row["answer"] for row in scored] == ["7", "7", "7", None, None, "7"]
    assert scored[-1]["label"] == "7" and scored[-1]["reward"] == 1
    assert score(tmp_path, [{**student, "stopped": "no"}], method="co_rewarding_II")[0] == 2
    assert "field 'stopped' is \"no\": it must be true or false" in capsys.readouterr().err


def test_same_rows_same_order_with_labels_and_rewards(tmp_path, capsys):
    given = rows(ground_truth=r"\boxed{0.5}", note="Zürich", step=7)
    code, scored = score(tmp_path, given)
    assert code == 0
    assert [row["answer"] for row in scored] == ANSWERS
    assert [row["label"] for row in scored] == ["3"] * 4 + ["1/2"] * 4
    assert [row["reward"] for row in scored] == [0, 0, 1, 0, 1, 0, 0, 0]
    assert [{k: v for k, v in row.items() if k not in ("answer", "label", "reward")} for row in scored] == given
    out, err = capsys.readouterr()
    assert err == ""
    printed = dict(line.split() for line in out.splitlines()[1:])
    assert printed["label/accuracy"] == "0.5000"  # 1/2 is right, 3 is not
    assert printed["reward/mean"] == "0.2500"  # 2 of 8
    assert printed["answer/share"] == "0.7500"  # 6 of 8


@pytest.mark.parametrize(
    ("options", "rewards"),
    [
        # original 1/2 1/2 3 - by the rephrased 1/2: 1/4, 3: 2/4; rephrased 0.5 3 3 - by the original 1/2: 2/4, 3: 1/4
        (["--payout", "soft"], [1 / 4, 1 / 4, 1 / 2, 0, 1 / 2, 1 / 4, 1 / 4, 0]),
        (["--payout", "negative"], [0, 0, 1, -1, 1, 0, 0, -1]),
        (["--payout", "negative", "--min-agreement", "0.6"], [0, 0, 0, -1, 0, 0, 0, -1]),
    ],
)
def test_what_a_vote_pays(tmp_path, capsys, options, rewards):
    code, scored = score(tmp_path, rows(ground_truth="1/2"), *options)
    assert code == 0 and [row["reward"] for row in scored] == rewards
    out, err = capsys.readouterr()
    assert "reward/mean" in out and "reward/accuracy" not in out
    no_label = "co_rewarding.score: no group has a label: no answer reaches --min_agreement 0.6 of its group's votes\n"
    assert err == (no_label if "0.6" in options else "")


def test_a_dump_scored_twice_is_the_same_dump(tmp_path):
    _, once = score(tmp_path, rows(ground_truth=""))
    _, twice = score(tmp_path, once)
    assert once == twice
    assert list(once[0]) == list(twice[0])


def test_no_label_at_all_is_said(tmp_path, capsys):
    def said(rows, *options, method="co_rewarding_I"):
        code, scored = score(tmp_path, rows, *options, method=method)
        assert code == 0 and not any(row["label"] or row["reward"] for row in scored)
        (line,) = capsys.readouterr().err.splitlines()
        return line.removeprefix("co_rewarding.score: no group has a label, every reward is 0: ")

    unboxed = [row | {"response": "it is 3"} for row in rows()]
    assert said(unboxed) == "none of the student's 8 responses states an answer in its format (--answer_format)"
    # 2 of 4 votes are the most that an answer has
    assert said(rows(), "--min-agreement", "0.6") == "no answer reaches --min_agreement 0.6 of its group's votes"
    teacher = rows() + [row | {"voter": "teacher"} for row in unboxed]
    assert (
        said(teacher, method="co_rewarding_II")
        == "none of the teacher's 8 responses states an answer in its format (--answer_format)"
    )


def test_steps_are_groups_of_their_own(tmp_path):
    # one question in two steps: each step votes by itself
    given = [
        {"question": 1, "view": "original", "voter": "student", "response": rf"\boxed{{{answer}}}", "step": step}
        for step, answer in [(1, "5"), (2, "6"), (1, "5"), (2, "6"), (2, "6")]
    ]
    _, scored = score(tmp_path, given, method="majority_voting")
    assert [row["label"] for row in scored] == ["5", "6", "5", "6", "6"]
    assert [row["reward"] for row in scored] == [1, 1, 1, 1, 1]


def test_teacher_rows_vote_and_earn_nothing(tmp_path):
    teacher = [{**row, "voter": "teacher"} for row in rows()[4:6] * 2 + rows()[5:6]]  # rephrased: 0.5 3 0.5 3 3
    _, scored = score(tmp_path, teacher + rows(), method="co_rewarding_III")
    assert [row["reward"] for row in scored] == [None] * 5 + [0, 0, 1, 0] + [0, 0, 0, 0]
    assert scored[5]["label"] == "3"
    assert scored[9]["label"] is None  # no teacher row on the original view


def test_options_change_what_is_rewarded(tmp_path):
    _, scored = score(tmp_path, rows(), "--min-agreement", "0.6")
    assert {row["label"] for row in scored} == {None}
    # by characters 1/2 and \frac12 differ: a tie of three, which the first wins
    _, scored = score(tmp_path, rows(), "--equivalence", "exact", method="majority_voting")
    assert [row["reward"] for row in scored][:4] == [1, 0, 0, 0]
    first = score(tmp_path, rows(), method="random")[1]
    assert first == score(tmp_path, rows(), "--seed", "0", method="random")[1]
    assert any(first != score(tmp_path, rows(), "--seed", str(seed), method="random")[1] for seed in range(1, 5))


def test_methods_that_read_the_ground_truth(tmp_path):
    truths = rows(ground_truth="0.5")
    assert [row["reward"] for row in score(tmp_path, truths, method="ground_truth")[1]] == [1, 1, 0, 0, 1, 0, 0, 0]
    assert [row["reward"] for row in score(tmp_path, truths, method="incorrect")[1]] == [0, 0, 1, 0, 0, 1, 1, 0]
    assert [row["reward"] for row in score(tmp_path, rows(), method="format_only")[1]] == [1, 1, 1, 0, 1, 1, 1, 0]


def test_json_metrics(tmp_path, capsys):
    assert score(tmp_path, rows(), "--json")[0] == 0
    assert json.loads(capsys.readouterr().out)["reward/mean"] == 0.25


def test_odd_text_survives(tmp_path):
    given = [{**row, "response": row["response"] + "\u2028 \ud800 \x00"} for row in rows()]
    code, _ = score(tmp_path, given)
    assert code == 0
    lines = (tmp_path / "out.jsonl").read_bytes().splitlines()
    assert [json.loads(line)["response"] for line in lines] == [row["response"] for row in given]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"view": "rewritten"}, "line 2: field 'view' is \"rewritten\": it must be one of original, rephrased"),
        ({"view": ...}, "line 2: field 'view' is missing"),
        ({"voter": "ema"}, "line 2: field 'voter' is \"ema\": it must be one of student, teacher"),
        ({"voter": ...}, "line 2: field 'voter' is missing"),
        ({"question": ["p"]}, "line 2: field 'question' is [\"p\"]: it must be a string or an integer"),
        ({"response": None}, "line 2: field 'response' is null: it must be a string"),
        ({"ground_truth": 5}, "line 2: field 'ground_truth' is 5: it must be a string or null"),
        ({"step": 1.5}, "line 2: field 'step' is 1.5: it must be a string, an integer or null"),
    ],
)
def test_bad_fields_are_named(tmp_path, capsys, change, message):
    given = rows()
    given[1] = {name: value for name, value in (given[1] | change).items() if value is not ...}
    assert score(tmp_path, given) == (2, None)
    assert_one_line(capsys, message)


@pytest.mark.parametrize(
    "line",
    [
        b'{"question": ',
        b"[1]",
        b"\xff",
        b"[" * 100_000,
    ],
)
def test_bad_lines_are_named(tmp_path, capsys, line):
    source = write(tmp_path / "in.jsonl", rows())
    source.write_bytes(source.read_bytes() + line + b"\n")
    assert main([str(source), "--method", "co_rewarding_I", "--output", str(tmp_path / "out.jsonl")]) == 2
    assert_one_line(capsys, "in.jsonl, line 9: not a JSON object; repair or remove the line")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl"]


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        (
            "co_rewarding_IV",
            [],
            "--method co_rewarding_IV: method 'co_rewarding_IV' is unknown: use one of co_rewarding_I, ",
        ),
        ("entropy", [], "--method entropy: needs the policy's logits"),
        ("self_certainty", [], "--method self_certainty: needs the policy's logits"),
        ("co_rewarding_II", [], "has no teacher row: in method co_rewarding_II the teacher votes"),
        ("ground_truth", [], "no row has a 'ground_truth', which method ground_truth needs"),
        ("incorrect", [], "no row has a 'ground_truth'"),
        ("co_rewarding_I", ["--min-agreement", "1.5"], "--min_agreement 1.5: must be less than or equal to 1"),
        ("co_rewarding_I", ["--min-agreement", "much"], "--min_agreement much: must be a valid number"),
        ("co_rewarding_I", ["--payout", "half"], "--payout half: must be 'hard', 'soft' or 'negative'"),
        ("format_only", ["--payout", "soft"], "--payout soft: method format_only has no vote that could pay"),
        ("co_rewarding_I", ["--equivalence", "sympy"], "--equivalence sympy: must be 'math', 'string' or 'exact'"),
        ("co_rewarding_I", ["--treshold", "1"], "unrecognized arguments: --treshold 1"),
    ],
)
def test_bad_options_are_named(tmp_path, capsys, method, options, message):
    assert score(tmp_path, rows(), *options, method=method) == (2, None)
    assert_one_line(capsys, message)


def test_bad_files_are_named(tmp_path, capsys):
    source = write(tmp_path / "in.jsonl", rows())
    (tmp_path / "link.jsonl").symlink_to(source)
    for file, output, message in [
        ("none.jsonl", "out.jsonl", "none.jsonl is missing: name a JSONL file"),
        (".", "out.jsonl", "is not a file"),
        ("in.jsonl", "in.jsonl", "is the input: name another file"),
        ("in.jsonl", "link.jsonl", "is the input: name another file"),
        ("in.jsonl", "none/out.jsonl", "its folder must exist"),
    ]:
        assert main([str(tmp_path / file), "--method", "random", "--output", str(tmp_path / output)]) == 2
        assert_one_line(capsys, message)


def test_files_that_could_only_earn_nothing_are_refused(tmp_path, capsys):
    assert score(tmp_path, rows()[:4])[0] == 2
    assert_one_line(capsys, "has only the view 'original': method co_rewarding_I needs votes on two views")
    for given in ([], [{**row, "voter": "teacher"} for row in rows()]):
        assert score(tmp_path, given, method="majority_voting")[0] == 2
        assert_one_line(capsys, "has no student row")


def assert_one_line(capsys, message):
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("co_rewarding.score: error: ") and err.count("\n") == 1
    assert message in err


def test_needs_neither_verl_nor_a_gpu(tmp_path):
    """As a command, over an answer that needs math-verify: nothing heavy is imported, not even math-verify here."""
    given = rows()
    given[0]["response"] = r"\boxed{\sqrt{\frac14}}"
    source = write(tmp_path / "in.jsonl", given)
    arguments = ["score", str(source), "--method", "majority_voting", "--output", str(tmp_path / "out.jsonl")]
    program = f"""
import runpy, sys
sys.argv = {arguments!r}
try:
    runpy.run_module("co_rewarding.score", run_name="__main__", alter_sys=True)
except SystemExit as end:
    heavy = {{"verl", "ray", "vllm", "torch", "transformers", "numpy", "sympy", "math_verify"}}
    print(end.code, sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=REPO, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 []"
    assert [row["reward"] for row in read(tmp_path / "out.jsonl")][:4] == [1, 1, 0, 0]


def test_progress_is_shown_for_what_takes_long(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("co_rewarding.score.QUIET_S", 0.0)
    assert score(tmp_path, rows())[0] == 0
    err = capsys.readouterr().err
    assert "co_rewarding.score: reading: 8 rows in 00:00" in err
    assert "pairs of answers in 00:00" in err
    assert "co_rewarding.score: writing: 8 of 8 rows in 00:00" in err


def test_a_reader_that_has_read_enough_ends_it_quietly(tmp_path):
    source = write(tmp_path / "in.jsonl", rows())
    command = f"'{sys.executable}' -m co_rewarding.score {source} --method random --output {tmp_path}/out.jsonl | true"
    done = subprocess.run(["bash", "-c", command], cwd=REPO, capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_each_step_has_the_time_of_a_step(tmp_path, monkeypatch):
    """As in training: a file of many steps must not give up answers that any of them alone would have read."""
    prepared = []
    monkeypatch.setattr(Equivalence, "prepare", lambda self, groups: prepared.append(list(groups)))
    given = [row | {"step": step} for row in rows(ground_truth="0.5") for step in (7, 8)]
    assert score(tmp_path, given)[0] == 0
    answers = [answer for answer in ANSWERS for _ in range(2) if answer]  # each beside the truth, which 8 rows have
    assert [[sorted(group) for group in groups] for groups in prepared] == [[sorted(answers[::2] + ["0.5"] * 8)]] * 2


BREVITY = """
def short(inputs):
    return [1 / n for n in inputs.lengths]

def asks(inputs):
    return [float("twice" in prompt) for prompt in inputs.prompts]

def supervised(inputs):
    return [float(row.answer == truth) for row, truth in zip(inputs.rollouts, inputs.ground_truths)]

supervised.needs_labels = True
"""


def test_a_reward_of_ones_own_and_a_sum(tmp_path, capsys):
    own = tmp_path / "brevity.py"
    own.write_text(BREVITY)
    given = [
        row | {"tokens": 2**i, "prompt": "twice" if i % 2 else "once", "ground_truth": "3"}
        for i, row in enumerate(rows())
    ]
    code, scored = score(tmp_path, given, method=f"{own}:short")
    assert code == 0 and [row["reward"] for row in scored] == [2**-i for i in range(8)]
    assert all(row["label"] is None and "rewards" not in row for row in scored)
    capsys.readouterr()
    code, scored = score(tmp_path, given, method=f"co_rewarding_I+0.5*{own}:short+2*{own}:asks+0*{own}:supervised")
    # co_rewarding_I gives 0 0 1 0 | 1 0 0 0 (see above), asks every second row 1, the truth is 3
    votes, asked, truth = [0, 0, 1, 0, 1, 0, 0, 0], [0, 1] * 4, [0, 0, 1, 0, 0, 1, 1, 0]
    assert code == 0
    assert [row["reward"] for row in scored] == [votes[i] + 0.5 * 2**-i + 2 * asked[i] for i in range(8)]
    assert [row["label"] for row in scored] == ["3"] * 4 + ["1/2"] * 4
    terms = ("co_rewarding_I", "brevity.short", "brevity.asks", "brevity.supervised")
    values = zip(votes, [2**-i for i in range(8)], asked, truth, strict=True)
    assert [row["rewards"] for row in scored] == [dict(zip(terms, row, strict=True)) for row in values]
    printed = dict(line.split() for line in capsys.readouterr().out.splitlines()[1:])
    assert printed["reward/co_rewarding_I/mean"] == "0.2500"
    assert printed["reward/brevity.short/mean"] == "0.2490"  # (2 - 1/128) / 8
    assert printed["reward/brevity.supervised/mean"] == "0.3750"
    again = score(tmp_path, scored, method="majority_voting")[1]  # a dump of a sum is a dump
    assert [row["reward"] for row in again] == [1, 1, 0, 0, 0, 1, 1, 0]


def test_a_reward_of_ones_own_that_fails(tmp_path, capsys):
    own = tmp_path / "brevity.py"
    own.write_text(BREVITY)
    for method, said in (
        (f"{own}:short", f"{own}:3 (short): TypeError: 'NoneType' object is not iterable"),  # no row has tokens
        (f"{own}:long", f"--method {own}:long: {own} has no function long; it has short, asks, supervised"),
        (f"{own}:supervised", "no row has a 'ground_truth', which method"),
        (f"random+0.5*{own}:supervised", "no row has a 'ground_truth', which method"),
        ("entropy+random", "--method entropy+random: needs the policy's logits"),
        ("majority_voting+co_rewarding_I", "a sum may have only one"),
        ("majority_votin", "'majority_votin' is unknown: use one of co_rewarding_I"),
    ):
        assert score(tmp_path, rows(), method=method) == (2, None)
        (line,) = capsys.readouterr().err.splitlines()
        assert said in line
