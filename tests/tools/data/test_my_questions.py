# SPDX-License-Identifier: Apache-2.0
"""scripts/data_preprocess/my_questions.py from the command line to its files."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from co_rewarding.storage.rows import question_text
from co_rewarding.tools.data.card import changed_files, read_card
from co_rewarding.tools.data.inspection import inspect_file

REPO = Path(__file__).resolve().parents[3]


@pytest.fixture
def command(run_script: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: run_script("data_preprocess/my_questions.py", *arguments)


def rows_of(path: str) -> list[dict[str, Any]]:
    return pq.read_table(path).to_pylist()


def questions(path: str) -> list[str | None]:
    return [question_text(row) for row in rows_of(path)]


def write(path: str, texts: Sequence[str]) -> None:
    Path(path).write_text("".join(json.dumps({"question": text, "answer": len(text)}) + "\n" for text in texts))


def test_csv_with_everything(command: Callable[..., Any]) -> None:
    Path("quiz.csv").write_bytes(
        b"\xef\xbb\xbf"
        + 'Nummer;Aufgabe;题目;A;B;Antwort\nq-1;x;"Sag ""ja"",\noder nein.";ja;nein;B\n'.encode()
        + "q-2;x;首都？;北京;上海;A\n".encode()
    )
    code, out, _ = command("quiz.csv", "--id", "Nummer", "--answer", "Antwort", "--held_out", "0", "--license", "mit")
    assert code == 0
    assert (
        "2 questions (question: 题目, answer: Antwort, choices: A, B, id: Nummer); 2 have an answer; 2 letters" in out
    )
    assert '| 0       | Sag "ja", oder nein. A. ja B. nein | 2         | B        | choice   |' in out
    assert '[user] Sag "ja",\noder nein.\n\nA. ja\nB. nein' in out
    rows = rows_of("data/quiz/train.parquet")
    assert [(row["id"], row["choices"], row["answer_format"]) for row in rows] == [
        ("q-1", ["ja", "nein"], "choice"),
        ("q-2", ["北京", "上海"], "choice"),
    ]
    assert not Path("data/quiz/test.parquet").exists()
    assert inspect_file("x", rows).findings == ()
    card = read_card(Path("data/quiz"))
    assert card is not None and card.may_be_shared and not changed_files(card, Path("data/quiz"))


def test_what_is_there_twice_is_merged_and_disputes_are_reported(command: Callable[..., Any]) -> None:
    Path("q.csv").write_text("question,answer\n1+1?,2\n 1+1? ,2\n2+2?,4\n2+2?,5\n2+2?,\n3+3?,\n3+3?,6\n")
    code, out, _ = command("q.csv", "--held_out", "0")
    assert code == 0
    assert "4 rows repeat an earlier question and are merged with it; the answers of 1 questions differ" in out
    assert "(extra_info.index 2)" in out
    rows = rows_of("data/q/train.parquet")
    assert [(row["extra_info"]["index"], row["reward_model"]["ground_truth"]) for row in rows] == [
        (0, "2"),
        (2, ""),
        (5, "6"),
    ]


def test_rephrasings_follow_their_questions(command: Callable[..., Any]) -> None:
    numbers = range(3, 40)
    rows = "1+1?,2\n2+2?,\n1+1?,2\n" + "\n".join(f"{i}+{i}?,{2 * i}" for i in numbers)
    Path("q.csv").write_text(f"question,answer\n{rows}")
    twins = ["Twice 1?", "Twice 2?", "One and one?", *(f"Twice {i}?" for i in numbers)]
    Path("r.csv").write_text("question\n" + "\n".join(twins))
    code, out, _ = command("q.csv", "--rephrased", "r.csv", "--held_out", "5")
    assert code == 0 and "data/q/train_rephrased.parquet: 34 questions" in out
    original, rephrased = rows_of("data/q/train.parquet"), rows_of("data/q/train_rephrased.parquet")
    trained = [text.partition("+")[0] for text in questions("data/q/train.parquet")]
    assert questions("data/q/train_rephrased.parquet") == [f"Twice {number}?" for number in trained]
    for name in ("extra_info", "reward_model"):  # r.csv has no answers
        assert [row[name] for row in original] == [row[name] for row in rephrased]
    held_out = {text.partition("+")[0] for text in questions("data/q/test.parquet")}
    assert len(held_out) == 5 and not held_out & set(trained)
    assert "train_rephrased.parquet" in Path("data/q/README.md").read_text()
    Path("r.csv").write_text("question\nTwice 1?\n")
    code, _, err = command("q.csv", "--rephrased", "r.csv", "--name", "other")
    assert not list(Path("data/other").glob("*"))
    assert code == 2 and "--rephrased r.csv: has 1 rows, and q.csv 40; they must be the same questions" in err


def test_a_question_keeps_its_place_when_rows_are_added(command: Callable[..., Any]) -> None:
    texts = [f"What is {i} + {i}?" for i in range(400)]
    write("q.jsonl", texts)
    assert command("q.jsonl")[0] == 0
    held_out = set(questions("data/q/test.parquet"))
    assert 20 <= len(held_out) <= 60  # 40 expected, standard deviation 6
    assert held_out | set(questions("data/q/train.parquet")) == set(texts)
    write("q.jsonl", [f"Another {i}?" for i in range(100)] + texts[::-1])
    assert command("q.jsonl")[0] == 0
    assert held_out == {text for text in questions("data/q/test.parquet") if text.startswith("What")}
    assert command("q.jsonl", "--held_out", "7", "--name", "seven")[0] == 0
    assert len(questions("data/seven/test.parquet")) == 7
    assert {row["extra_info"]["split"] for row in rows_of("data/seven/test.parquet")} == {"test"}


def test_prompts_and_formats(command: Callable[..., Any]) -> None:
    write("q.jsonl", ["1?", "2?"])
    Path("system.txt").write_text("Answer in one word.\n")
    for given, system in (("system.txt", "Answer in one word."), ("Be brief.", "Be brief."), ("", None)):
        assert command("q.jsonl", "--held_out", "0", "--system_prompt", given, "--answer_format", "tag")[0] == 0
        row = rows_of("data/q/train.parquet")[0]
        assert [message["content"] for message in row["prompt"]] == [*([system] if system else []), "1?"]
        assert row["answer_format"] == "tag"


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["absent.csv"], "absent.csv: no such file; name a file of questions (.csv,"),
        (
            ["q.jsonl", "--question", "text"],
            "--question text: no such column; its columns are question, answer",
        ),
        (["q.jsonl", "--answer_format", "boxes"], "--answer_format boxes: answer format 'boxes' is unknown"),
        (["q.jsonl", "--held_out", "1.5"], "--held_out 1.5: must be a share below 1, or a whole number"),
        (["q.jsonl", "--held_out", "2"], "--held_out 2: none of 2 questions remains to train on"),
        (["q.jsonl", "--config", "main"], "--config main: applies to data sets on the hub"),
        (["empty.csv"], "empty.csv: no rows"),
        (["verl.parquet"], "verl.parquet: is already in verl's schema"),
        (["owner/name:train"], "owner/name: no such file, and not loadable from the hub"),
        (["choices.jsonl"], "choices.jsonl: row 0: its answer '1' may be among numbers of options counted from 0 or"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, arguments: list[str], why: str
) -> None:
    write("q.jsonl", ["1?", "2?"])
    Path("empty.csv").write_text("question,answer\n")
    Path("choices.jsonl").write_text('{"question": "1?", "choices": ["x", "y", "z"], "answer": 1}')
    write("v.jsonl", ["1?"])
    assert command("v.jsonl", "--held_out", "0", "--local_dir", "v")[0] == 0
    Path("v/train.parquet").rename("verl.parquet")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    code, _, err = command(*arguments)
    assert (code, err.count("\n")) == (2, 1) and why in err
    assert not Path("data").exists()


def test_the_page_says_what_works(command: Callable[..., Any]) -> None:
    section = (REPO / "data/README.md").read_text().partition("### Your own questions\n")[2].partition("\n## ")[0]
    lines = [line.split() for line in section.splitlines() if line.startswith("    python scripts/data_preprocess/")]
    assert len(lines) >= 2
    for line in lines:
        Path(line[2]).write_text('{"text": "1+1?", "question": "1+1?", "key": 2}\n{"question": "2+2?", "text": "2+2?"}')
        for name in line[2:]:
            if Path(name).suffix == ".csv":
                Path(name).write_text("question,answer\n1+1?,2\n2+2?,4\n")
        arguments = ["1" if word == "200" else word for word in line[2:]]
        assert command(*arguments)[0] == 0, line
