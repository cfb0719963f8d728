# SPDX-License-Identifier: Apache-2.0
"""Inspection: what it finds in a file and in a pair, and that a page shows hostile text without obeying it."""

import json
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from co_rewarding.storage.rows import make_row, read_rows, write_rows
from co_rewarding.tools.data.inspection import Finding, Lengths, draw_samples, inspect_file, inspect_pair
from co_rewarding.tools.data.inspection_page import as_page, as_text
from co_rewarding.tools.quickstart.tiny_model import build_tokenizer

REPO = Path(__file__).resolve().parents[3]
NAMES = ("a.parquet", "b.parquet")
HOSTILE = "</div><script>alert(1)</script><img src=x onerror=alert(2)>\"'&amp;\x1b[31mred\u202eevil\x00\u200b"


def rows(*questions: str, truths: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    known = truths or tuple(str(i) for i in range(len(questions)))
    return [make_row("set", q, t, i, "train") for i, (q, t) in enumerate(zip(questions, known, strict=True))]


def found(data: list[dict[str, Any]], **options: Any) -> dict[str, tuple[int, ...]]:
    return {finding.text: finding.rows for finding in inspect_file("x", data, **options).findings}


def pair_found(original: list[dict[str, Any]], rephrased: list[dict[str, Any]]) -> dict[str, tuple[int, ...]]:
    return {finding.text: finding.rows for finding in inspect_pair(original, rephrased, NAMES).findings}


@pytest.fixture
def inspect(run_script: Callable[..., Any]) -> Callable[..., tuple[int, str, str]]:
    """inspect(*arguments): exit code, standard output and error of the command."""
    return lambda *arguments: run_script("inspect_data.py", *arguments)


def test_a_clean_file_has_nothing_to_report() -> None:
    report = inspect_file("x", rows("ab", "abcd", "abcdef"))
    assert report.findings == ()
    assert report.num_rows == 3
    (lengths,) = report.lengths
    # of 2, 4 and 6 characters: at least 95 % of three rows are all three, so the 95th percentile is the largest
    assert (lengths.minimum, lengths.median, lengths.p95, lengths.maximum) == (2, 4, 6, 6)


def test_p95_is_the_smallest_length_that_95_percent_do_not_exceed() -> None:
    assert Lengths.of(list(range(1, 101)), "x").p95 == 95
    assert Lengths.of(list(range(1, 21)), "x").p95 == 19  # 19 of 20 are 95 %
    assert Lengths.of(list(range(1, 20)), "x").p95 == 19  # 18 of 19 are 94.7 %
    with pytest.raises(ValueError, match="no x to count"):
        Lengths.of([], "x")


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"prompt": None}, "prompt is not a list of messages"),
        ({"prompt": "What?"}, "prompt is not a list of messages"),
        ({"prompt": []}, "prompt is not a list of messages"),
        ({"prompt": [{"role": "user", "content": None}]}, "prompt has a message without text"),
        ({"prompt": ["What?"]}, "prompt has a message without text"),
        ({"prompt": [None, {"role": "user", "content": "What?"}]}, "prompt has a message without text"),
        ({"prompt": b"What?"}, "prompt is not a list of messages"),
        ({"prompt": [{"role": "user", "content": b"What?"}]}, "prompt has a message without text"),
        (
            {"prompt": [{"role": "human", "content": "x"}]},
            "prompt has a message whose role is none of system, user, assistant",
        ),
        ({"prompt": [{"role": "system", "content": "x"}]}, "prompt does not end with the user's message"),
        ({"prompt": [{"role": "user", "content": " \n"}]}, "question is empty"),
        ({"data_source": None}, "data_source is not text"),
        ({"reward_model": "7"}, "reward_model is no struct with the field ground_truth"),
        ({"reward_model": {"ground_truth": 7}}, "reward_model.ground_truth is not text"),
        ({"extra_info": None}, "extra_info has no index (a number or text), the id that a pair shares"),
        ({"extra_info": "x"}, "extra_info has no index (a number or text), the id that a pair shares"),
        ({"extra_info": {"index": 0}}, "extra_info.index repeats that of an earlier row"),
        ({"extra_info": {"index": [1]}}, "extra_info has no index (a number or text), the id that a pair shares"),
    ],
)
def test_each_departure_from_the_schema_is_a_problem(change: dict[str, Any], fault: str) -> None:
    data = rows("one?", "two?", "three?")
    data[1] |= change
    report = inspect_file("x", data)
    problems = {finding.text: finding.rows for finding in report.findings if finding.is_problem}
    assert problems == {fault: (1,)}
    samples = draw_samples([data, data], 3, seed=0, findings=report.findings)  # shown and compared without a crash
    as_page([report], inspect_pair(data, data, NAMES), samples)


@pytest.mark.parametrize("nothing", [{"ground_truth": ""}, {"ground_truth": None}, {"style": "rule"}, None, ...])
def test_a_row_without_ground_truth_is_counted_and_no_problem(nothing: Any) -> None:
    data = rows("one?", "two?", "three?")
    data[1]["reward_model"] = nothing
    if nothing is ...:
        data = [{name: value for name, value in row.items() if name != "reward_model"} for row in data]
    report = inspect_file("x", data)
    (finding,) = report.findings
    assert not finding.is_problem and "ground truth" in finding.text
    assert finding.rows == ((0, 1, 2) if nothing is ... else (1,))


def test_no_rows_and_missing_columns_are_problems() -> None:
    assert found([]) == {"no rows": ()}
    (missing,) = found([{"text": "x", "prompt": "y"}])
    assert missing.startswith("no columns data_source, extra_info; found text, prompt; see data/README.md")


def test_a_table_is_inspected_as_it_is(inspect: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "q.csv").write_text("question;answer\n1+1?;2\n1+1?;3\n")
    code, out, err = inspect(tmp_path / "q.csv", "--answer_format", "number")
    assert code == 0 and "2 rows" in out and "share their question but not their ground truth: 2" in out
    assert "q.csv: 2 questions (question: question, answer: answer" in err


def test_repetitions_spaces_aside_and_their_ground_truths() -> None:
    # rows 0, 2, 3 ask the same; 0 says "5", 2 says nothing, 3 says "6"
    data = rows("Same  one?", "Other?", "Same one?\n", "Same one?", truths=("5", "1", "", "6"))
    assert found(data) == {
        "empty ground truths": (2,),
        "rows that repeat the question of an earlier row": (2, 3),
        "rows that share their question but not their ground truth": (0, 2, 3),
    }
    agreeing = rows("Same?", "Same?", truths=("5", "5 "))
    assert found(agreeing) == {"rows that repeat the question of an earlier row": (1,)}


def test_prompts_over_the_limit_are_counted_with_the_chat_template() -> None:
    asked = []

    def count(prompts: list[list[dict[str, str]]]) -> list[int]:
        asked.append(prompts)
        return [10, 11, 12]

    data = rows("a", "b", "c")
    assert found(data, count_tokens=count, max_prompt_length=10) == {
        "prompts over 10 tokens (66.67 %), left out of training": (1, 2)
    }
    assert asked[0][0] == data[0]["prompt"]  # the whole prompt, system message included


def test_a_good_pair_has_nothing_to_report() -> None:
    report = inspect_pair(rows("abcd", "abcdefgh"), rows("efgh", "ijkl"), NAMES)
    assert report.findings == ()
    assert report.length_ratio == (0.5, 0.75, 1.0)  # 4/4 and 4/8; of two values the ends are the 5 and 95 %


def test_what_training_refuses_is_the_only_problem_reported() -> None:
    report = inspect_pair(rows("a", "b"), rows("c"), NAMES)
    assert [str(finding) for finding in report.findings] == [
        "a.parquet and b.parquet do not pair up: 2 and 1 rows; both files must have the same rows in the same order"
    ]
    assert report.findings[0].is_problem


def test_one_rephrasing_for_different_questions_is_a_problem() -> None:
    original = rows("What is one?", "two?", "What is three?", "four?")
    rephrased = rows("<rewritten question>", "deux?", "<rewritten question>", "quatre?")
    text = "rephrasings shared by questions with different ground truths, most often '<rewritten question>'"
    assert pair_found(original, rephrased) == {text: (0, 2)}
    # the same question twice, or two questions with one answer, may share a rephrasing
    assert pair_found(rows("x?", "x?", truths=("1", "2")), rows("y?", "y?", truths=("1", "2"))) == {}
    assert pair_found(rows("x?", "z?", truths=("1", "1")), rows("y?", "y?", truths=("1", "1"))) == {}


def test_notes_on_pairs() -> None:
    original = rows("same  words?", "abcdefghij", "ab", "ef", truths=("0", "1", "2", ""))
    rephrased = rows("same words?", "abc", "abcdefg", "gh", truths=("0", "1", "2", "3"))
    rephrased[3]["prompt"][0] = {"role": "system", "content": "Other."}
    rephrased[2]["data_source"] = "other"
    assert pair_found(original, rephrased) == {
        "identical pairs (they vote for themselves)": (0,),
        "pairs whose messages differ beyond the user's": (3,),
        "pairs that differ in the column data_source": (2,),
        "pairs with a ground truth in one file only": (3,),
        "rephrasings more than 3 times as long": (2,),  # 7 / 2; row 1 is 3 / 10
        "rephrasings less than 1/3 as long": (1,),
    }


def test_samples_are_the_same_rows_of_both_files_and_reproducible() -> None:
    original, rephrased = rows(*"abcdefghij"), rows(*"ABCDEFGHIJ")
    samples = draw_samples([original, rephrased], 4, seed=1)
    assert samples == draw_samples([original, rephrased], 4, seed=1)
    assert samples != draw_samples([original, rephrased], 4, seed=2)
    assert all(sample.texts[0].upper() == sample.texts[1] for sample in samples)
    assert [s.row for s in samples] == sorted({s.row for s in samples})
    assert len(draw_samples([original, rephrased[:3]], 10, seed=1)) == 3
    rephrased[2]["prompt"] = rephrased[2]["prompt"][:1]  # a row that has no question to be shown
    assert [s.row for s in draw_samples([original, rephrased[:4]], 10, seed=1)] == [0, 1, 3]


def test_rows_with_findings_are_shown_too_each_finding_in_turn() -> None:
    files = [rows(*"abcdefghij"), rows(*"ABCDEFGHIJ")]
    often, once = Finding("often", rows=(1, 2, 3, 4, 5, 6)), Finding("once", rows=(4, 9))
    random = [sample.row for sample in draw_samples(files, 3, seed=1)]
    samples = draw_samples(files, 3, seed=1, findings=[often, Finding("of the file"), once])
    named = {sample.row for sample in samples} - set(random)
    assert {sample.row for sample in samples} >= set(random)
    assert 4 in named | set(random) and 9 in named | set(random)  # the second finding has its turns, too
    assert {s.row: s.findings for s in samples if s.findings} == {
        row: tuple(f.text for f in (often, once) if row in f.rows)
        for row in {*random, *named}
        if row in (*often.rows, *once.rows)
    }
    page, text = as_page([], None, samples), as_text([], None, samples)
    assert "row 9, index 9, ground truth: 9; once" in page and "row 9, index 9, ground truth: 9; once" in text


class Tags(HTMLParser):
    """Elements, and text by itself, as a browser sees them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_page_shows_hostile_text_and_does_not_obey_it() -> None:
    harmless, hostile = rows("x?", "y?"), rows(HOSTILE, HOSTILE, truths=(HOSTILE, "1"))
    for row in hostile:
        row["extra_info"]["split"] = HOSTILE
    report = inspect_file(HOSTILE, hostile)
    pair = inspect_pair(hostile, hostile, (HOSTILE, HOSTILE))
    page = as_page([report, report], pair, draw_samples([hostile, hostile], 2, seed=0))
    seen = Tags(page)
    plain = Tags(as_page([inspect_file("n", harmless)] * 2, None, draw_samples([harmless] * 2, 2, seed=0)))
    assert set(seen.tags) <= set(plain.tags) | {"p", "ul", "li", "span"}  # no script, no img
    assert not seen.attributes & {"src", "href", "onerror", "onload"}
    assert "<script>alert(1)</script>" in seen.text  # as text
    assert r"\u{1b}[31mred\u{202e}evil\u{0}\u{200b}" in seen.text
    for character in "\x1b\u202e\x00\u200b":
        assert character not in page
        assert character not in as_text([report], pair, draw_samples([hostile], 2, seed=0))
    assert "default-src 'none'" in page


def test_the_command(inspect: Callable[..., Any], tmp_path: Path) -> None:
    good, twin, page = tmp_path / "good.parquet", tmp_path / "twin.parquet", tmp_path / "out/page.html"
    write_rows(rows("one?", "two?"), good)
    write_rows(rows("un?", "deux?"), twin)
    code, out, _ = inspect(good, twin, "--html", page)
    assert code == 0 and "2 rows" in out and "un?" in out
    before = page.read_bytes()
    assert inspect(good, twin, "--html", page)[0] == 0
    assert page.read_bytes() == before

    write_rows(rows("one?"), twin)
    code, out, _ = inspect(good, twin)  # does not pair up
    assert code == 1 and "PROBLEM" in out
    write_rows(rows(*["one?"] * 30), twin)
    assert inspect(twin, "--json", tmp_path / "out/findings.json")[0] == 0
    (finding,) = json.loads((tmp_path / "out/findings.json").read_text())["files"][0]["findings"][:1]
    assert finding["rows"] == list(range(1, 30))  # all of them, where the text names 10


def test_files_without_the_schema_are_reported_in_few_lines_and_not_shown(
    inspect: Callable[..., Any], tmp_path: Path
) -> None:
    pq.write_table(pa.table({"prompt": [["x"]], "answer": ["y"]}), tmp_path / "x.parquet")
    code, out, _ = inspect(tmp_path / "x.parquet", tmp_path / "x.parquet")
    assert code == 1
    assert out.count("PROBLEM") == 3  # one a file, and that they do not pair up
    assert "see data/README.md" in out and "--- row" not in out


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["absent.parquet"], "absent.parquet: no such file"),
        (["."], "text.parquet: not readable as parquet"),
        (["text.parquet"], "text.parquet: not readable as parquet"),
        (["text.jsonl"], "text.jsonl: no column for the question"),
        (["good.parquet"] * 3, "3 files"),
        (["good.parquet", "--num-samples", "-1"], "--num_samples -1: must be greater than or equal to 0"),
        (["good.parquet", "--max_prompt_length", "0"], "--max_prompt_length 0: must be greater than or equal to 1"),
        (["good.parquet", "--tokenizer", "."], "cannot be loaded"),
        (["good.parquet", "--html", "good.parquet/x.html"], "good.parquet/x.html: File exists"),
        (["good.parquet", "--drop_invalid", "clean"], "name two files"),
        (["good.parquet", "short.parquet", "--drop_invalid", "."], "contains the input files"),
        (["good.parquet", "short.parquet", "--drop-invalid", "clean"], "do not pair up"),
        (["good.parquet", "twin.parquet", "--skip_validators", "taste"], "'taste' is unknown"),
    ],
)
def test_what_cannot_be_done_is_reported_in_one_line(
    inspect: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: list[str], why: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, num in (("good", 2), ("twin", 2), ("short", 1)):
        write_rows(rows(*["one?", "two?"][:num]), Path(f"{name}.parquet"))
    Path("text.parquet").write_text("x")
    Path("text.jsonl").write_text("{}")
    code, _, err = inspect(*arguments)
    assert code == 2
    (line,) = err.splitlines()
    assert why in line


def test_invalid_pairs_are_reported_and_dropped(inspect: Callable[..., Any], tmp_path: Path) -> None:
    files, clean = [tmp_path / "o.parquet", tmp_path / "r.parquet"], tmp_path / "clean"
    original = rows("How much is 12 and 35?", "How much is 61 and 78?", "Is 5 odd?", "How much is 3 and 9?")
    rephrased = rows("Add 12 and 35.", "<rewritten question>", "<rewritten question>", "How much is 3 and 9?")
    write_rows(original, files[0])
    write_rows(rephrased, files[1])
    code, out, _ = inspect(*files)
    assert code == 1  # one rephrasing for two questions
    assert "note: placeholder (the instruction's placeholder instead of a question): 2 (rows 1, 2)" in out
    assert "note: unchanged (the question itself): 1 (rows 3)" in out
    assert "row 1, index 1, ground truth: 1; placeholder (" in out
    code, out, _ = inspect(*files, "--drop-invalid", clean)
    assert code == 0  # nothing is left of the problem
    assert f"{clean / 'r.parquet'}: 1 rows, 3 dropped" in out
    assert read_rows(clean / "o.parquet") == original[:1] and read_rows(clean / "r.parquet") == rephrased[:1]
    assert pq.read_schema(clean / "r.parquet").equals(pq.read_schema(files[1]), check_metadata=True)
    assert inspect(*files, "--drop_invalid", clean, "--skip_validators", "unchanged")[0] == 0
    assert read_rows(clean / "o.parquet") == [original[0], original[3]]


def test_the_command_counts_tokens(inspect: Callable[..., Any], tmp_path: Path) -> None:
    tokenizer = build_tokenizer()
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    data = rows("What is 1 + 1?")
    write_rows(data, tmp_path / "x.parquet")
    expected = len(
        tokenizer(tokenizer.apply_chat_template(data[0]["prompt"], tokenize=False, add_generation_prompt=True))[
            "input_ids"
        ]
    )
    code, out, err = inspect(tmp_path / "x.parquet", "--tokenizer", tmp_path / "tokenizer")
    assert code == 0 and f"tokens a prompt: {expected} to {expected}" in out
    assert f"counting tokens of {tmp_path}/x.parquet: 1 of 1 prompts" in err

    tokenizer.chat_template = None
    tokenizer.save_pretrained(tmp_path / "bare")
    assert "has no chat template" in inspect(tmp_path / "x.parquet", "--tokenizer", tmp_path / "bare")[2]


@pytest.mark.parametrize(
    ("folder", "num_rows", "placeholders", "identical", "longer", "shorter"),
    [("math", 7500, 19, 2, 184, 112), ("dapo", 14109, 45, 0, 20, 128)],
)
def test_figures_of_the_published_pairs(
    folder: str, num_rows: int, placeholders: int, identical: int, longer: int, shorter: int, real_data: Path
) -> None:
    # what data/README.md says of them
    original = read_rows(real_data / folder / "train_original.parquet")
    rephrased = read_rows(real_data / folder / "train_rewrite_Qwen3-32B.parquet")
    assert len(original) == num_rows
    assert not any(finding.is_problem for finding in inspect_file("o", original).findings)
    counts = {text: len(rows) for text, rows in pair_found(original, rephrased).items()}
    expected = {
        "rephrasings shared by questions with different ground truths, most often '<rewritten question>'": placeholders,
        "identical pairs (they vote for themselves)": identical,
        "rephrasings more than 3 times as long": longer,
        "rephrasings less than 1/3 as long": shorter,
    }
    assert counts == {text: n for text, n in expected.items() if n}
    marked = [i for i, row in enumerate(rephrased) if row["prompt"][1]["content"] == "<rewritten question>"]
    assert len(marked) == placeholders
