# SPDX-License-Identifier: Apache-2.0
"""The whole command with a server as the model: recorded, graded, stopped by an outage and resumed."""

import json
from pathlib import Path

import pytest
from scripted_server import Server

from co_rewarding.storage.rows import make_row, write_rows
from co_rewarding.tools.evaluation.cli import main


@pytest.fixture
def arguments(server: Server, tmp_path: Path) -> list[str]:
    # the server adds up the numbers of two digits, so three of four answers are right
    truths = ["23", "27", "31", "0"]
    rows = [make_row("toy", f"{11 + i} + {12 + 3 * i}?", truth, i, "test") for i, truth in enumerate(truths)]
    write_rows(rows, tmp_path / "toy.parquet")
    asked = ["--base_url", server.url, "--data", f"toy={tmp_path / 'toy.parquet'}", "--http_retries", "1"]
    return [*asked, "--output_dir", str(tmp_path / "out")]


def test_a_served_model_is_evaluated(
    arguments: list[str], server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    assert main(arguments) == 0
    assert "| rewriter | 75.00 ± 25.00 |" in " ".join(capsys.readouterr().out.split())
    result = json.loads((tmp_path / "out/results.json").read_text())
    assert (result["name"], result["model"]) == ("rewriter", {"path": None, "fingerprint": "served rewriter"})
    entry = result["tasks"]["toy"]
    assert entry["tokens"] is None and entry["cut_off"] == 0  # the server does not say how many
    assert entry["sampling"]["seeding"] == "each response" and "vllm" not in entry["sampling"]
    assert len({request["seed"] for request in server.requests}) == 4
    assert server.requests[0]["authorization"] == "Bearer sk-secret"
    assert not [p for p in tmp_path.rglob("*") if p.is_file() and b"sk-secret" in p.read_bytes()]
    server.requests.clear()
    assert main(arguments) == 0 and not server.requests  # nothing is left to ask
    # another model's answers are not mixed in
    server.models = ["another"]
    assert main(arguments) == 2
    assert "from another model (served rewriter, this is served another)" in capsys.readouterr().err


@pytest.mark.usefixtures("nothing_waits")
def test_an_outage_ends_with_what_is_kept_and_the_same_command_resumes(
    arguments: list[str], server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # from the third question on the server is down, for ours and for any other
    down = (503, (), {"error": "loading"})
    server.trouble = lambda question, asked: None if question.startswith(("11", "12")) else down
    assert main([*arguments, "--max_concurrency", "1"]) == 3
    out, err = capsys.readouterr()
    assert out == "" and "Finished responses are kept: the same command resumes." in err
    lines = (tmp_path / "out/generations/toy.jsonl").read_text().splitlines()
    assert sorted(json.loads(line)["index"] for line in lines[1:]) == [0, 1]
    server.trouble = lambda question, asked: None
    server.requests.clear()
    assert main(arguments) == 0
    assert len(server.requests) == 2
    entry = json.loads((tmp_path / "out/results.json").read_text())["tasks"]["toy"]
    assert entry["accuracy"]["pass@1"]["value"] == 0.75


def test_a_prompt_that_the_server_refuses_is_recorded_and_not_asked_again(
    arguments: list[str], server: Server, tmp_path: Path
) -> None:
    server.trouble = lambda question, asked: (400, (), {"error": "too long"}) if question.startswith("14") else None
    assert main(arguments) == 0
    entry = json.loads((tmp_path / "out/results.json").read_text())["tasks"]["toy"]
    assert (entry["refused"], entry["prompt_too_long"], entry["responses"]) == (1, 0, 4)
    server.requests.clear()
    assert main(arguments) == 0 and not server.requests
