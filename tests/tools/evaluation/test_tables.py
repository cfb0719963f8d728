# SPDX-License-Identifier: Apache-2.0
"""Results to tables: order, notes, and files that are read back."""

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest

from co_rewarding.tools.bootstrap import interval
from co_rewarding.tools.evaluation.paired import difference
from co_rewarding.tools.evaluation.results import FORMAT, find_results, in_paper_order, read_result, write_result
from co_rewarding.tools.evaluation.tables import csv_table, make_table, markdown, write_tables


def entry(value: float, metric: str = "pass@1", **more: Any) -> dict[str, Any]:
    base = {
        "questions": 500,
        "num_rows": 500,
        "without_ground_truth": 0,
        "samples": 1,
        "primary": metric,
        "accuracy": {metric: {"value": value, "standard_error": 0.021}},
        "boxed_rate": {"value": 0.9, "standard_error": 0.01},
        "tokens": {"value": 412.4, "standard_error": 9.0},
        "tokens_median": 390,
        "cut_off": 0.05,
        "prompt_too_long": 0,
        "sampling": {"temperature": 0.8},
    }
    return base | more


def result(name: str, method: str | None = None, **tasks: dict[str, Any]) -> dict[str, Any]:
    return {"format": FORMAT, "name": name, "method": method, "base_model": None, "tasks": tasks}


def table_of(*results: dict[str, Any]) -> Any:
    return make_table(in_paper_order([(Path(f"runs/{r['name']}/results.json"), r) for r in results]))


def test_columns_and_rows_stand_in_the_papers_order() -> None:
    ii = result("ii", "co_rewarding_II", mine=entry(0.1), amc=entry(0.4, "avg@8"), math500=entry(0.8))
    gt = result("gt", "ground_truth", ifeval=entry(0.5, "strict prompt"), gsm8k=entry(0.9), math500=entry(0.7))
    table = table_of(ii, result("extra", None, math500=entry(0.2)), gt, result("start", "base", math500=entry(0.3)))
    assert table.headings == ["MATH-500 pass@1", "GSM8K pass@1", "AMC avg@8", "IFEval strict prompt", "mine pass@1"]
    assert table.rows == ["Before RL", "GT-Reward", "Co-rewarding-II", "extra"]
    lines = markdown(table).splitlines()
    assert [cell.strip() for cell in lines[2].split("|")[1:4]] == ["Before RL", "30.00 ± 2.10", "–"]
    assert "**80.00 ± 2.10**" in lines[4]  # the best of its column
    assert "**90.00" not in lines[3]  # the only one of its column


def test_csv_holds_full_numbers_and_empty_cells() -> None:
    table = table_of(result("a", "base", math500=entry(1 / 3)), result("b", None, gsm8k=entry(0.5)))
    rows = list(csv.DictReader(csv_table(table).splitlines()))
    assert float(rows[0]["MATH-500 pass@1"]) == pytest.approx(100 / 3)
    assert float(rows[0]["MATH-500 pass@1 standard error"]) == pytest.approx(2.1)
    assert (rows[0]["GSM8K pass@1"], rows[0]["method"], rows[1]["model"]) == ("", "base", "b")


def test_what_makes_numbers_unlike_is_noted() -> None:
    part = entry(0.5, questions=20)
    greedy = entry(0.6, without_ground_truth=2, sampling={"temperature": 0.0})
    text = markdown(table_of(result("a", math500=part), result("b", math500=greedy)))
    assert "50.00 ± 2.10 †" in text
    assert "† MATH-500: 20 of 500 (a) questions." in text
    assert "MATH-500: 2 (b) questions have no ground truth" in text
    assert "MATH-500: different temperature: 0.8 (a), 0.0 (b)." in text


def test_a_part_of_a_set_is_not_the_best_beside_whole_ones() -> None:
    part = result("part", mine=entry(0.9, questions=20))
    table = table_of(part, result("a", mine=entry(0.5)), result("b", mine=entry(0.6)))
    assert [table.is_best(row, 0) for row in range(3)] == [False, False, True]
    assert not table_of(part, result("a", mine=entry(0.5))).is_best(1, 0)  # nothing to be better than
    assert table_of(part, result("other", mine=entry(0.5, questions=20))).is_best(0, 0)


def test_prompts_and_types_of_numbers_are_noted() -> None:
    def asked(system: str | None, **sampling: Any) -> dict[str, Any]:
        return entry(0.5, sampling={"temperature": 0.8} | sampling, prompt={"system": system, "example": "…"})

    first = asked("Think\nfirst.", dtype="bfloat16", chat_template_kwargs={"enable_thinking": False})
    text = markdown(table_of(result("a", mine=first), result("b", mine=asked(None, dtype="float32"))))
    assert "mine: different dtype: bfloat16 (a), float32 (b)." in text
    assert "mine: different chat_template_kwargs: {'enable_thinking': False} (a), None (b)." in text
    assert re.search(r"mine: different system prompt: Think first\. \([0-9a-f]{8}\) \(a\), None \(b\)\.", text)


def test_arguments_of_lm_eval_are_compared() -> None:
    def called(arguments: str) -> dict[str, Any]:
        return entry(0.5, "strict prompt", arguments=arguments)

    one, other = result("a", ifeval=called("")), result("b", ifeval=called("--gen_kwargs temperature=0.8"))
    note = "IFEval: different lm_eval's arguments: None (a), --gen_kwargs temperature=0.8 (b)."
    assert note in markdown(table_of(one, other))
    assert "different" not in markdown(table_of(one, one))


def test_names_that_repeat_are_told_apart() -> None:
    x, y = result("final", "co_rewarding_I", mine=entry(0.1)), result("final", "co_rewarding_I", mine=entry(0.2))
    table = make_table([(Path("runs/p/x/evaluation/final/results.json"), x), (Path("q/y/results.json"), y)])
    assert table.rows == ["Co-rewarding-I (x/final)", "Co-rewarding-I (q/y)"]


def test_a_table_without_accuracy_is_still_a_table() -> None:
    unlabelled = entry(0.0, accuracy={}, primary=None, tokens=None, tokens_median=None, cut_off=None)
    sampled = unlabelled | {"agreement": {"value": 0.625, "standard_error": 0.1}}
    text = " ".join(markdown(table_of(result("a", mine=unlabelled), result("b", mine=sampled))).split())
    assert "| a | mine | 90.0 | – | – | – | – | 0 |" in text
    assert "| b | mine | 90.0 | 62.5 | – | – | – | 0 |" in text


def test_files_are_written_and_found_again(tmp_path: Path) -> None:
    for step in (10, 9):
        write_result(tmp_path / f"run/evaluation/step_{step}", result(f"step_{step}", mine=entry(0.1 + step / 100)))
    (tmp_path / "run/evaluation/step_9/lm_eval").mkdir()
    (tmp_path / "run/evaluation/step_9/lm_eval/results.json").write_text('{"results": {}}')  # not ours
    found = find_results([tmp_path / "run", tmp_path / "run"])
    assert [r["name"] for _, r in found] == ["step_9", "step_10"]
    paths = write_tables(tmp_path / "out", make_table(found))
    assert [path.name for path in paths] == ["table.md", "table.csv", "table.tex", "details.csv"]
    assert r"step\_10 & 20.00 $\pm$ 2.10" in paths[2].read_text()
    assert "step_10,mine,pass@1,20" in paths[3].read_text()


def test_missing_and_broken_results_are_reported(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"--compare .*absent: no such folder"):
        find_results([tmp_path / "absent"])
    with pytest.raises(ValueError, match=r"no results.json of an evaluation below it"):
        find_results([tmp_path])
    path = write_result(tmp_path, result("a"))
    path.write_text(path.read_text()[:-5])
    with pytest.raises(ValueError, match=r"results.json: not JSON .*evaluate again"):
        find_results([tmp_path])
    path.write_text("")  # torn before anything of it says whose it is
    with pytest.raises(ValueError, match=r"results.json: not JSON .*evaluate again"):
        find_results([tmp_path])
    path.write_text(json.dumps({"format": "other"}))
    with pytest.raises(ValueError, match=r"not a result of scripts/evaluate.py"):
        read_result(path)


def answered(folder: Path, name: str, verdicts_P_G: list[list[int]], method: str | None = None) -> tuple[Path, Any]:
    """A result whose graded responses are there."""
    shares = [sum(verdicts_G) / len(verdicts_G) for verdicts_G in verdicts_P_G]
    mean = sum(shares) / len(shares)
    score = {"value": mean, "standard_error": 0.5 * mean}
    found = result(
        name, method, toy=entry(mean, accuracy={"pass@1": score}, questions=len(shares), num_rows=len(shares))
    )
    rows = [
        {"index": p, "sample": g, "question": f"q{p}", "correct": bool(verdict)}
        for p, verdicts_G in enumerate(verdicts_P_G)
        for g, verdict in enumerate(verdicts_G)
    ]
    (folder / name / "graded").mkdir(parents=True)
    (folder / name / "graded/toy.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return write_result(folder / name, found), found


def test_a_difference_is_of_the_same_questions(tmp_path: Path) -> None:
    # shares of right responses: 1/2, 1, 0, 1 and 1/2, 1/2, 0, 0
    a = answered(tmp_path, "a", [[1, 0], [1, 1], [0, 0], [1, 1]])
    b = answered(tmp_path, "b", [[0, 1], [1, 0], [0, 0], [0, 0]])
    found = difference(a, b, "toy")
    # differences 0, 1/2, 0, 1: mean 3/8; what an interval is, tests/tools/test_bootstrap.py says
    low_and_high = interval({"": dict(enumerate((0.0, 0.5, 0.0, 1.0)))})
    assert (found.value, found.questions) == (3 / 8, 4)
    assert found.bounds[1] == low_and_high.high and found.bounds[0] < 0 and not found.is_clear
    # other questions: the errors of both add up, 0.5 · 0.625 and 0.5 · 0.2, whose hypotenuse is 0.3281
    other = answered(tmp_path, "other", [[1], [0], [0], [0], [0]])
    found = difference(a, other, "toy")
    assert (found.value, found.questions) == (pytest.approx(0.625 - 0.2), None)
    assert found.bounds == (
        pytest.approx(0.425 - 1.96 * 0.3281, abs=1e-4),
        pytest.approx(0.425 + 1.96 * 0.3281, abs=1e-4),
    )


def test_the_best_is_marked_only_where_the_interval_excludes_0(tmp_path: Path) -> None:
    # 30 questions; a is right on 20 of them, b on 10 of these, c on 19 of these
    a = answered(tmp_path, "a", [[1]] * 20 + [[0]] * 10)
    b = answered(tmp_path, "b", [[1]] * 10 + [[0]] * 20)
    c = answered(tmp_path, "c", [[1]] * 19 + [[0]] * 11)
    # a − b: 10 ones in 30, mean 1/3, s² = (10 · 4/9 + 20 · 1/9) / 29 = 0.2299, error 0.0875: 3.8 errors away
    assert make_table([b, a]).is_best(1, 0) and not make_table([b, a]).is_best(0, 0)
    # a − c: 1 one in 30, mean 1/30, s² = ((29/30)² + 29/900) / 29 = 1/30, error 1/30: one error away
    assert not make_table([b, a, c]).is_best(1, 0)
    text = markdown(make_table([b, a, c]))
    assert "**" not in text
    row = re.search(r"\| a \| b \| toy pass@1 \| \+33\.33 \| \+([\d.]+) to \+([\d.]+) \| 30 \|", " ".join(text.split()))
    # Student's t(29) = 2.045 of these errors, 17.9, on each side; the bootstrap is a little askew
    assert [float(bound) for bound in row.groups()] == [
        pytest.approx(33.33 - 17.9, abs=2),
        pytest.approx(33.33 + 17.9, abs=2),
    ]


def test_a_difference_is_to_the_model_before_rl_of_the_same_base(tmp_path: Path) -> None:
    found = [
        answered(tmp_path, "x", [[1], [1]], "co_rewarding_I"),
        answered(tmp_path, "y", [[1], [0]], "base"),
        answered(tmp_path, "z", [[0], [0]], "majority_voting"),
        answered(tmp_path, "other", [[0], [1]]),
    ]
    for (_, model), base in zip(found, ("B", "B", "C", "C"), strict=True):
        model["base_model"] = base
    text = " ".join(markdown(make_table(in_paper_order(found))).split())
    # differences 0, 1, of which nothing follows; and 0, 1 once more
    assert "| B: Co-rewarding-I | B: Before RL | toy pass@1 | +50.00 | -100.00 to +100.00 | 2 |" in text
    assert "| C: other | C: Majority-Voting | toy pass@1 | +50.00 | -100.00 to +100.00 | 2 |" in text
    assert "| C: other | B: Before RL |" not in text and "| B: Before RL | B: Before RL |" not in text


def test_a_graded_file_that_is_none_is_reported_by_its_name(tmp_path: Path) -> None:
    a, b = (answered(tmp_path, name, [[1], [0]]) for name in "ab")
    (tmp_path / "b/graded/toy.jsonl").write_text('{"correct": true}\n')
    with pytest.raises(ValueError, match=r"b/graded/toy.jsonl: a line without index, question and correct"):
        difference(a, b, "toy")


def test_names_of_other_peoples_results_stay_text() -> None:
    hostile = result("<script>|\n# x", **{"a|b\n<i>": entry(0.5, questions=20)})
    text = markdown(table_of(hostile, result("b", **{"a|b\n<i>": entry(0.5)})))
    assert "<script>" not in text and "<i>" not in text and "\n# x" not in text
    assert "| model | a\\|b &lt;i> pass@1 |" in " ".join(text.split())


def test_a_column_says_its_protocol() -> None:
    text = markdown(table_of(result("a", math500=entry(0.5), math500_lighteval=entry(0.6), cruxeval=entry(0.1))))
    assert "| MATH-500 pass@1 | MATH-500 (lighteval) pass@1 |" in " ".join(text.split())
    assert "- MATH-500: training’s prompt, the last \\boxed{}." in text
    assert "- MATH-500 (lighteval): lighteval’s prompt, an answer anywhere." in text
    assert "- CRUXEval-O: by lm_eval, which counts a right output that is a string as wrong" in text
