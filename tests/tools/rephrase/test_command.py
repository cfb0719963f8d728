# SPDX-License-Identifier: Apache-2.0
"""rewrite_questions.py against a scripted server: every kind of answer ends as documented, every kill resumes."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scripted_server import draw, marked

from co_rewarding.storage.rows import MADE_OF, check_pairs
from co_rewarding.tools.data.markers import END_MARKER
from co_rewarding.tools.data.questions import read_rows, read_table
from co_rewarding.tools.generation.engine import seed_of
from co_rewarding.tools.rephrase.cli import main

pytestmark = pytest.mark.usefixtures("nothing_waits")
REPO = Path(__file__).resolve().parents[3]
SYSTEM = {"role": "system", "content": "Box the answer."}


def make_input(path: Path, questions: list[str]) -> Path:
    rows = [
        {
            "data_source": "toy",
            "prompt": [SYSTEM, {"role": "user", "content": question}],
            "ability": "math",
            "reward_model": {"style": "rule", "ground_truth": str(index)},
            "extra_info": {"index": index, "split": "train", "note": "\u2028 ü"},
        }
        for index, question in enumerate(questions)
    ]
    pq.write_table(pa.Table.from_pylist(rows).replace_schema_metadata({"made by": "hand"}), path)
    return path


def sums(count: int) -> list[str]:
    return [f"Add {10 + k % 90} and {11 + (7 * k) % 88}, number {k + 100}." for k in range(count)]


def arguments(folder: Path, *more: str, url: str = "") -> list[str]:
    return [
        *("--input_path", str(folder / "in.parquet"), "--output_jsonl", str(folder / "out.jsonl")),
        *("--output_parquet", str(folder / "out.parquet"), "--output_original_parquet", str(folder / "orig.parquet")),
        *(("--base_url", url) if url else ()),
        *more,
    ]


def outputs(folder: Path) -> dict[str, bytes]:
    names = ("out.jsonl", "out.parquet", "orig.parquet", "out.quarantine.jsonl")
    return {name: (folder / name).read_bytes() for name in names}


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def counts_of(report: str) -> dict[str, list[str]]:
    """reason -> attempts and rows in the end, of the report's table."""
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in report.splitlines() if line.startswith("|")]
    return {row[0]: row[1:3] for row in rows if len(row) == 4}


def user(row: dict) -> str:
    return row["prompt"][-1]["content"]


def check_alignment(folder: Path) -> list[dict]:
    """The three outputs hold the same rows of the input in the same order; the JSONL's rows."""
    source, new, old = (pq.read_table(folder / f"{name}.parquet") for name in ("in", "out", "orig"))
    made_of = new.schema.metadata[MADE_OF]
    assert made_of.startswith(b"rephrased by ") and new.schema.equals(source.schema)
    assert new.schema.metadata == source.schema.metadata | {MADE_OF: made_of}
    assert old.schema.equals(source.schema)
    rows = lines(folder / "out.jsonl")
    kept = source.take([row["row"] for row in rows])
    assert old.equals(kept)
    assert new.drop(["prompt"]).equals(kept.drop(["prompt"]))
    for row, a, b in zip(rows, old.to_pylist(), new.to_pylist(), strict=True):
        assert (user(a), user(b)) == (row["question"], row["rewrite"])
        assert a["prompt"][:-1] == b["prompt"][:-1] == [SYSTEM]
    check_pairs(old.to_pylist(), new.to_pylist(), ("orig", "out"))
    return rows


def test_good_answers(tmp_path, server, capsys) -> None:
    make_input(tmp_path / "in.parquet", sums(30))
    assert main(arguments(tmp_path, "--top_k", "20", url=server.url)) == 0
    rows = check_alignment(tmp_path)
    assert [row["row"] for row in rows] == list(range(30))
    assert rows[3]["rewrite"].startswith("How much are 13 and 32 and 103 together?") and rows[3]["attempts"] == 1
    assert (tmp_path / "orig.parquet").read_bytes() == (tmp_path / "in.parquet").read_bytes()
    assert (tmp_path / "out.quarantine.jsonl").read_bytes() == b""
    out, err = capsys.readouterr()
    assert out.startswith("30 of 30 rows rewritten, 0 left out\n")
    assert re.search(r"rewriting: 30 of 30 rows in 00:\d\d, +[\d.]+ rows/s, 00:00 left\n", err)
    (body,) = [request for request in server.requests if "number 103." in request["messages"][0]["content"]]
    assert body["model"] == "rewriter" and body["top_k"] == 20 and "seed" not in body
    assert body["chat_template_kwargs"] == {"enable_thinking": False} and body["authorization"] is None
    # all is recorded: the same command asks nobody
    before = len(server.requests), outputs(tmp_path)
    assert main(arguments(tmp_path, "--top_k", "20", url=server.url.replace("/v1", "/gone"))) == 0
    assert (len(server.requests), outputs(tmp_path)) == before


def test_every_case_ends_as_documented(tmp_path, server, monkeypatch) -> None:
    questions = sums(12)
    names = {
        "thinking": 10,
        "stubborn": 1,
        "refused": 2,
        "broken": 3,
        "busy": 4,
        "empty": 5,
        "null": 6,
        "hidden": 8,
        "garbled": 9,
    }
    for name, row in names.items():
        questions[row] += f" This one is {name}."
    questions[7] += f" It holds {END_MARKER}."
    troubles = {
        "refused": lambda asked: (400, (), {"error": {"message": "maximum context length exceeded"}}),
        "broken": lambda asked: (500, (), b"oops"),
        "busy": lambda asked: (429, [("Retry-After", "0")], {}) if asked <= 3 else None,
        "empty": lambda asked: (200, (), {"choices": []}) if asked <= 2 else None,
        "null": lambda asked: (200, (), {"choices": [{"message": {"content": None}}]}),
        "thinking": lambda asked: (200, (), {"choices": [{"message": {"content": None, "reasoning_content": "Hm."}}]}),
        "hidden": lambda asked: (200, (), {"choices": [{"message": {"content": "<think>" + marked("x")}}]}),
        "garbled": lambda asked: {1: (503, [("Retry-After", "Thu")], b"\xff"), 2: (200, (), b"{")}.get(asked),
    }  # fmt: skip

    def trouble(question: str, asked: int):
        return next((what(asked) for name, what in troubles.items() if name in question), None)

    server.trouble = trouble
    monkeypatch.setenv("KEY", "s3cret")
    make_input(tmp_path / "in.parquet", questions)
    options = ("--max_retries", "1", "--http_retries", "3", "--api_key_env", "KEY")
    assert main(arguments(tmp_path, *options, url=server.url)) == 0
    assert [row["row"] for row in check_alignment(tmp_path)] == [0, 4, 5, 9, 11]
    found = {row["row"]: row for row in lines(tmp_path / "out.quarantine.jsonl")}
    assert {row: entry["reasons"][0]["name"] for row, entry in found.items()} == {
        1: "missing_markers",
        2: "refused",
        3: "server_error",
        6: "missing_markers",
        7: "marker_in_question",
        8: "unfinished_thinking",
        10: "unfinished_thinking",
    }
    assert found[2]["response"] == 'status 400: {"error": {"message": "maximum context length exceeded"}}'
    assert found[1]["attempts"] == 2 and found[2]["attempts"] == 1 and found[7]["attempts"] == 0
    assert not any(END_MARKER in question for question in server.asked)  # row 7 was never sent
    assert server.asked[questions[3]] == 2 * (1 + 3)  # two attempts, each asked 1 + 3 times
    assert {request["authorization"] for request in server.requests} == {"Bearer s3cret"}
    report = (tmp_path / "out.report.md").read_text()
    counts = counts_of(report)
    assert counts["marker_in_question"] == ["0", "1"] and counts["missing_markers"] == ["4", "2"]
    assert re.search(r"\| model +\| rewriter \(a server\) +\|", report)
    assert "s3cret" not in report + (tmp_path / "out.jsonl.journal").read_text()
    # the server is well again: more retries are asked only of the rows that were left out, but for the refused one
    server.trouble, before = lambda question, asked: None, len(server.requests)
    assert main(arguments(tmp_path, "--max_retries", "2", *options[2:], url=server.url)) == 0
    assert [row["row"] for row in check_alignment(tmp_path)] == [0, 3, 4, 5, 6, 8, 9, 10, 11]
    assert len(server.requests) - before == 5  # rows 1, 3, 6, 8, 10


@pytest.mark.parametrize("policy", ["retry", "drop", "keep"])
def test_policies(tmp_path, server, policy: str) -> None:
    questions = sums(24)
    make_input(tmp_path / "in.parquet", questions)
    assert main(arguments(tmp_path, "--seed", "1", "--on_invalid", policy, "--max_retries", "9", url=server.url)) == 0
    rows = check_alignment(tmp_path)
    listed = lines(tmp_path / "out.quarantine.jsonl")
    wrong = [row["row"] for row in rows if "77 and 88" in row["rewrite"]]
    if policy == "retry":
        assert len(rows) == 24 and not wrong and not listed
    else:
        assert {entry["reasons"][0]["name"] for entry in listed} == {"numbers_vanished"}
        assert {entry["outcome"] for entry in listed} == {"kept" if policy == "keep" else "left out"}
        assert len(rows) == (24 if policy == "keep" else 24 - len(listed)) and len(listed) > 0
        assert wrong == ([entry["row"] for entry in listed] if policy == "keep" else [])


def start(folder: Path, *more: str, url: str) -> subprocess.Popen:
    command = [sys.executable, str(REPO / "rewrite_questions.py"), *arguments(folder, *more, url=url)]
    environment = os.environ | {"PYTHONPATH": str(REPO)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(journal: Path, records: int, run: subprocess.Popen) -> None:
    end = time.monotonic() + 60
    while (journal.read_bytes().count(b"\n") if journal.exists() else 0) <= records:
        assert run.poll() is None and time.monotonic() < end, run.communicate()[1]
        time.sleep(0.005)


@pytest.mark.e2e  # starts the tool five times
def test_killed_run_loses_nothing_and_doubles_nothing(tmp_path, server) -> None:
    """Killed at three moments and interrupted once, then finished: byte for byte as if it had never been stopped."""
    server.trouble = lambda question, asked: (500, (), b"") if asked == 1 and "57." in question else None
    server.delay_s = 0.01
    questions = [*sums(99), "A stubborn one: add 12 and 13."]
    options = ("--seed", "4", "--max_concurrency", "8", "--verify", "--verify_samples", "1", "--batch_size", "16")
    for name in ("whole", "stopped"):
        (tmp_path / name).mkdir()
        make_input(tmp_path / name / "in.parquet", questions)
    assert main(arguments(tmp_path / "whole", *options, url=server.url)) == 0
    folder, journal = tmp_path / "stopped", tmp_path / "stopped/out.jsonl.journal"
    server.delay_s = 0.2  # however late this process sees what it waits for, the tool has not finished by then
    seen = []
    for records, stop in ((20, signal.SIGKILL), (50, signal.SIGKILL), (80, signal.SIGINT)):
        run = start(folder, *options, url=server.url)
        wait_for(journal, records, run)
        run.send_signal(stop)
        _, err = run.communicate(timeout=30)
        seen.append(journal.read_bytes())
        assert run.returncode == (-signal.SIGKILL if stop == signal.SIGKILL else 130), err
        assert not (folder / "out.parquet").exists()
    assert "rewriting: resuming, " in err
    message = err.splitlines()[-1]
    assert re.fullmatch(
        r"\d+ of 100 rows are finished and recorded in \S+out\.jsonl\.journal\. Run the same .*", message
    ), err
    run = start(folder, *options, url=server.url)
    wait_for(folder / "out.jsonl.verify.journal", 30, run)
    run.kill()
    run.communicate()
    server.delay_s = 0.01
    before = len(server.requests)
    assert main(arguments(folder, *options, url=server.url)) == 0
    for part in seen:  # what was finished before is unchanged
        assert journal.read_bytes().startswith(part[: part.rfind(b"\n") + 1])
    keys = [(record["row"], record["attempt"]) for record in lines(journal) if record["kind"] == "attempt"]
    assert len(keys) == len(set(keys)) and {row for row, _ in keys} == set(range(100))
    assert outputs(folder) == outputs(tmp_path / "whole")
    # row r is kept if one of its first four draws is right
    seeds = [[seed_of(4, "rewrite", row, k) for k in range(4)] for row in range(100)]
    right = [[draw(q, seed) for seed in row] for q, row in zip(questions[:-1], seeds[:-1], strict=True)]
    assert [(row["row"], row["attempts"]) for row in check_alignment(folder)] == [
        (row, 1 + next(k for k in range(4) if draws[k] >= 0.375))
        for row, draws in enumerate(right)
        if max(draws) >= 0.375
    ]
    # the rewriting, and 30 and more of the answers, were not asked for again
    assert len(server.requests) - before <= 2 * 100 - 30


def test_verify_finds_pairs_with_different_answers(tmp_path, server) -> None:
    make_input(tmp_path / "in.parquet", sums(20))
    options = ("--verify", "--verify_samples", "3", "--verify_model_path", "judge")
    for action, rows_left, listed in (("flag", 20, 1), ("keep", 20, 0), ("drop", 19, 1)):
        assert main(arguments(tmp_path, *options, "--on_different", action, url=server.url)) == 0
        rows = check_alignment(tmp_path)
        quarantined = lines(tmp_path / "out.quarantine.jsonl")
        assert (len(rows), len(quarantined)) == (rows_left, listed)
    (entry,) = quarantined  # 13 + 32, one more in the rewritten wording
    assert entry["row"] == 3 and entry["reasons"] == [{"name": "different_answers", "detail": "45 and 46"}]
    assert {row["verify"]["verdict"] for row in rows} == {"same"}
    answers = [request for request in server.requests if request["model"] == "judge"]
    assert len(answers) == 20 * 2 * 3  # asked once, for all three runs
    assert "Row 3: question 45 (3 of 3), rewrite 46 (3 of 3)" in (tmp_path / "out.report.md").read_text()


def test_existing_pairs_are_checked_without_a_model(tmp_path) -> None:
    make_input(tmp_path / "in.parquet", ["Add 12 and 35.", "Add 13 and 36.", "Add 14 and 37."])
    make_input(tmp_path / "have.parquet", ["What do 12 and 35 sum to?", "<rewritten question>", "Sum 14 and 37."])
    assert main(arguments(tmp_path, "--rewrites_from", str(tmp_path / "have.parquet"))) == 0
    assert [row["rewrite"] for row in check_alignment(tmp_path)] == ["What do 12 and 35 sum to?", "Sum 14 and 37."]
    (entry,) = lines(tmp_path / "out.quarantine.jsonl")
    assert (entry["row"], entry["rewrite"]) == (1, "<rewritten question>")
    assert not (tmp_path / "out.jsonl.journal").exists()
    have = make_input(tmp_path / "short.parquet", ["Add 12 and 35."])
    assert main(arguments(tmp_path, "--rewrites_from", str(have))) == 2


@pytest.mark.parametrize("policy", ["retry", "keep"])
def test_half_a_surrogate_pair_is_sampled_again(tmp_path, server, policy) -> None:
    broken = {"choices": [{"message": {"content": marked("How much are 11 and 18 and 101 together? \ud83d")}}]}
    server.trouble = lambda question, asked: (200, (), broken) if "101." in question and asked == 1 else None
    make_input(tmp_path / "in.parquet", sums(3))
    for _ in range(2):
        assert main(arguments(tmp_path, "--on_invalid", policy, url=server.url)) == 0
        assert [row["attempts"] for row in check_alignment(tmp_path)] == [1, 2, 1]
    assert len(server.requests) == 4
    server.trouble = lambda question, asked: (200, (), broken)
    assert main(arguments(tmp_path, "--restart", "--on_invalid", policy, url=server.url)) == 1
    assert counts_of((tmp_path / "out.report.md").read_text())["broken_text"] == ["12", "3"]


def test_no_row_left(tmp_path, server, capsys) -> None:
    make_input(tmp_path / "in.parquet", ["A stubborn one: add 12 and 13."])
    assert main(arguments(tmp_path, "--max_retries", "0", url=server.url)) == 1
    assert "no rows remain, so no output was written; reasons: " in capsys.readouterr().err
    assert not (tmp_path / "out.parquet").exists() and (tmp_path / "out.report.md").exists()


def test_text_column(tmp_path, server) -> None:
    pq.write_table(
        pa.table({"problem": pa.array(["Add 12 and 35."], pa.large_string()), "k": [1]}), tmp_path / "in.parquet"
    )
    assert main(arguments(tmp_path, "--question_column", "problem", url=server.url)) == 0
    (row,) = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert row["k"] == 1 and row["problem"].startswith("How much are 12 and 35 together?")


def test_server_that_goes_down_stops_the_run_and_blames_no_row(tmp_path, server, capsys, monkeypatch) -> None:
    down = threading.Event()
    server.trouble = lambda question, asked: (502, (), b"") if down.is_set() or server.asked.total() > 40 else None
    make_input(tmp_path / "in.parquet", sums(60))
    options = ("--http_retries", "1", "--max_concurrency", "8")
    assert main(arguments(tmp_path, *options, url=server.url)) == 3
    err = capsys.readouterr().err
    assert "stopped: " in err and "requests failed, and so did a test question, tried 2 times (status 502)" in err
    assert "Run the same command again to resume." in err
    assert not any("failure" in record for record in lines(tmp_path / "out.jsonl.journal"))  # no failure on record
    server.trouble = lambda question, asked: None
    assert main(arguments(tmp_path, *options, url=server.url)) == 0
    assert len(check_alignment(tmp_path)) == 60


def test_questions_that_always_fail_do_not_stop_the_others(tmp_path, server, monkeypatch) -> None:
    odd = [question for k, question in enumerate(sums(40)) if k % 2]
    server.trouble = lambda question, asked: (500, (), b"") if question in odd else None
    make_input(tmp_path / "in.parquet", sums(40))
    options = ("--http_retries", "1", "--max_concurrency", "4", "--max_retries", "1")
    assert main(arguments(tmp_path, *options, url=server.url)) == 0
    assert [row["row"] for row in check_alignment(tmp_path)] == list(range(0, 40, 2))
    listed = lines(tmp_path / "out.quarantine.jsonl")
    assert [entry["reasons"][0]["name"] for entry in listed] == ["server_error"] * 20


@pytest.mark.parametrize("count", [1, 40])
def test_what_is_refused_for_the_configuration_is_no_rows_fault(tmp_path, server, capsys, count) -> None:
    """Nothing is recorded, so that a mended server is asked for all of them."""
    server.trouble = lambda question, asked: (400, (), b"max_tokens is too large")
    make_input(tmp_path / "in.parquet", sums(count))
    assert main(arguments(tmp_path, url=server.url)) == 2
    *_, error = capsys.readouterr().err.splitlines()
    assert "refuses every request; change the option that it names, or the server: status 400: max_tokens is" in error
    assert len(lines(tmp_path / "out.jsonl.journal")) == 1  # the header
    server.trouble = lambda question, asked: None
    assert main(arguments(tmp_path, url=server.url)) == 0
    assert len(check_alignment(tmp_path)) == count


@pytest.mark.parametrize("key", ["s3\ncret", "s3cr\u00e9t", "s3\u2013cret", "s3\udcffcret"])
def test_a_key_that_no_header_can_hold_is_refused_unseen(tmp_path, server, capsys, monkeypatch, key) -> None:
    monkeypatch.setattr(os, "environ", os.environ | {"OPENAI_API_KEY": key})
    make_input(tmp_path / "in.parquet", sums(1))
    assert main(arguments(tmp_path, url=server.url)) == 2
    err = capsys.readouterr().err
    assert "the API key has a line break or a non-ASCII character: check --api_key_env" in err and "s3" not in err
    monkeypatch.setenv("OPENAI_API_KEY", " s3cret\n")
    assert main(arguments(tmp_path, url=server.url)) == 0
    assert server.requests[-1]["authorization"] == "Bearer s3cret"


MODEL = ("--model_path", "m")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--base_url", "localhost:8000"], "--base_url localhost:8000: use an address such as http://localhost:8000/v1"),
        (["--base_url", "http://[::1/v1"], "--base_url http://[::1/v1: use an address such as "),
        (["--base_url", "http://h:8o/v1"], "--base_url http://h:8o/v1: use an address such as "),
        (["--base_url", "http://127.0.0.1:9/v1"], "--base_url http://127.0.0.1:9/v1: no server answers there ("),
        ([], "--model_path is missing: name a model for vLLM, or a server with --base_url"),
        ([*MODEL, "--max_tokens", "0"], "--max_tokens 0: must be greater than or equal to 1"),
        ([*MODEL, "--temperature", "nan"], "--temperature nan: must be a finite number"),
        ([*MODEL, "--top_p", "1.5"], "--top_p 1.5: must be less than or equal to 1"),
        ([*MODEL, "--skip_validators", "emty"], "--skip_validators emty: emty is unknown; use names from empty"),
        ([*MODEL, "--max_concurrency", "100000"], "--max_concurrency 100000: must be less than or equal to 4096"),
        ([*MODEL, "--question_column", "q"], "has no column 'q': choose --question_column from data_source"),
        ([*MODEL, "--question_column", "reward_model"], "column 'reward_model' is struct<"),
        ([*MODEL, "--max_token", "3"], "unrecognized arguments: --max_token 3; see --help"),
        ([*MODEL, "--restart", "verify"], "--restart verify works only with --verify: add it"),
        ([*MODEL, "--enable_thinking", "maybe"], "--enable_thinking maybe: must be a valid boolean"),
        ([*MODEL, "--instruction_file", "none.txt"], "--instruction_file none.txt cannot be read"),
        (["--rewrites_from", "have.parquet", "--verify"], "--verify needs a model: name one with --model_path"),
        ([*MODEL, "--input_path", "none.parquet"], "none.parquet: no such file; name a file of questions"),
        ([*MODEL, "--input_path", __file__], "test_command.py: .py is none of .csv,"),
        ([*MODEL, "--output_jsonl", "none/out.jsonl"], "--output_jsonl none/out.jsonl: its folder must exist"),
    ],
)  # fmt: skip
def test_bad_options_are_reported_in_one_line(tmp_path, capsys, monkeypatch, change, message) -> None:
    monkeypatch.chdir(tmp_path)
    make_input(tmp_path / "in.parquet", ["Add 12 and 35."])
    assert main([*arguments(tmp_path), *change]) == 2
    err = capsys.readouterr().err
    errors = [line for line in err.splitlines() if line.startswith("rewrite_questions.py: error: ")]
    assert len(errors) == 1 and message in errors[0] and err.endswith(errors[0] + "\n")
    assert not (tmp_path / "out.parquet").exists()


def test_files_that_would_overwrite_each_other_are_refused(tmp_path, capsys) -> None:
    make_input(tmp_path / "in.parquet", ["Add 12 and 35."])
    more = ("--model_path", "m", "--output_parquet", str(tmp_path / "in.parquet"))
    assert main(arguments(tmp_path, *more)) == 2
    assert "in.parquet is --input_path too: name another file" in capsys.readouterr().err


def test_rows_without_a_question_are_named(tmp_path, capsys) -> None:
    make_input(tmp_path / "in.parquet", ["Add 12 and 35.", " "])
    assert main(arguments(tmp_path, "--model_path", "m")) == 2
    assert "in.parquet, row 1: column 'prompt' has no user message with text" in capsys.readouterr().err


def test_changed_settings_need_a_restart(tmp_path, server, capsys) -> None:
    make_input(tmp_path / "in.parquet", ["Add 12 and 35."])
    assert main(arguments(tmp_path, url=server.url)) == 0
    assert main(arguments(tmp_path, "--temperature", "1", url=server.url)) == 2
    assert "was made with temperature=0.7, now it is 1.0" in capsys.readouterr().err
    assert main(arguments(tmp_path, "--temperature", "1", "--restart", url=server.url)) == 0
    assert server.requests[-1]["temperature"] == 1.0


def test_another_judge_costs_no_rewrite(tmp_path, server, capsys) -> None:
    make_input(tmp_path / "in.parquet", sums(4))
    options = ("--verify", "--verify_samples", "1", "--verify_model_path")
    assert main(arguments(tmp_path, *options, "first", url=server.url)) == 0
    assert main(arguments(tmp_path, *options, "second", url=server.url)) == 2
    err = capsys.readouterr().err
    assert 'out.jsonl.verify.journal was made with verify_model="first", now it is "second": ' in err
    assert err.endswith("or start over with --restart verify\n")
    before = (tmp_path / "out.jsonl.journal").read_bytes()
    assert main(arguments(tmp_path, *options, "second", "--restart", "verify", url=server.url)) == 0
    assert (tmp_path / "out.jsonl.journal").read_bytes() == before
    assert Counter(request["model"] for request in server.requests) == {"rewriter": 4, "first": 8, "second": 8}
    assert main(arguments(tmp_path, *options, "second", "--restart", url=server.url)) == 0
    assert Counter(request["model"] for request in server.requests) == {"rewriter": 8, "first": 8, "second": 16}


def test_more_or_fewer_rows_of_the_same_file_go_on(tmp_path, server, capsys) -> None:
    make_input(tmp_path / "in.parquet", sums(12))
    for count, asked in ((5, 5), (10, 10), (3, 10), (0, 12)):
        assert main(arguments(tmp_path, "--max_samples", str(count), url=server.url)) == 0
        assert [row["row"] for row in check_alignment(tmp_path)] == list(range(count or 12))
        assert len(server.requests) == asked
    make_input(tmp_path / "in.parquet", sums(11)[::-1])
    assert main(arguments(tmp_path, "--max_samples", "5", url=server.url)) == 2
    assert "was made with other questions than " in capsys.readouterr().err


def test_a_table_pairs_up_with_its_rewrites_and_keeps_its_choices(tmp_path, server) -> None:
    with (tmp_path / "q.csv").open("w", newline="") as file:
        table = csv.writer(file, delimiter=";")
        table.writerow(["Nr", "Problem", "A", "B", "Answer"])
        for k, text in enumerate(sums(6)):
            table.writerow([f"q-{k}", text, *(("101", "102") if k % 2 else ("", "")), "B" if k % 2 else "7"])
    paths = ["--input_path", str(tmp_path / "q.csv"), *arguments(tmp_path)[2:], "--base_url", server.url]
    # the options are lines of the question, which the scripted rewrite leaves out
    assert main([*paths, "--skip_validators", "choices_vanished,numbers_vanished"]) == 0
    original, rewritten = (pq.read_table(tmp_path / f"{name}.parquet").to_pylist() for name in ("orig", "out"))
    table_rows = read_rows(tmp_path / "q.csv")
    assert original == table_rows and len(rewritten) == 6
    assert [row["choices"] for row in rewritten] == [None, ["101", "102"]] * 3
    assert [row["answer_format"] for row in rewritten] == [None, "choice"] * 3
    assert user(original[1]).endswith("\n\nA. 101\nB. 102") and user(rewritten[1]) != user(original[1])
    check_pairs(table_rows, rewritten, ("q.csv", "out"))
    # as a run with ANSWER_FORMAT=tag reads the table, it needs rewrites that were made with it
    tagged = read_table(tmp_path / "q.csv", spec="tag").to_pylist()
    with pytest.raises(ValueError, match="do not pair up: answer_format"):
        check_pairs(tagged, rewritten, ("q.csv", "out"))
    assert main([*paths, "--skip_validators", "choices_vanished,numbers_vanished", "--answer_format", "tag"]) == 0
    check_pairs(tagged, pq.read_table(tmp_path / "out.parquet").to_pylist(), ("q.csv", "out"))


def test_a_parquet_file_with_the_column_keeps_its_own_columns(tmp_path, server) -> None:
    pq.write_table(pa.table({"prompt": sums(2), "level": [1, 2]}), tmp_path / "in.parquet")
    assert main(arguments(tmp_path, url=server.url)) == 0
    assert pq.read_table(tmp_path / "out.parquet").column_names == ["prompt", "level"]
    assert (tmp_path / "orig.parquet").read_bytes() == (tmp_path / "in.parquet").read_bytes()
