# SPDX-License-Identifier: Apache-2.0
"""rewrite_questions.py with a real vLLM engine on the CPU: killed in the middle, gone on with, aligned.

The model is a tiny Llama that has learned in seconds to answer nearly everything with one and the same marked rewrite,
and now and then with none: right for questions about 12 and 35, wrong for those about other numbers.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from co_rewarding.storage.rows import check_pairs
from co_rewarding.tools.quickstart.tiny_model import END, build_model, build_tokenizer

pytestmark = [pytest.mark.e2e, pytest.mark.long]

INSTRUCTION = "Say it in other words: {question} Between [[ and ]]."
REWRITE = "How much are 12 and 35 together?"
RESPONSES = (f"[[{REWRITE}]]{END}",) * 3 + (f"No.{END}",)
RIGHT, WRONG, TIMEOUT_S = 500, 20, 300


def question(number: int) -> str:
    """The first RIGHT are about 12 and 35, the others are not; letters tell them apart."""
    name = "".join(chr(ord("a") + number // 26**k % 26) for k in range(3))
    return f"Add 12 and 35 for {name}." if number < RIGHT else f"Add 61 and 78 for {name}."


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """model/, ask.txt and in.parquet."""
    folder = tmp_path_factory.mktemp("rewrite")
    torch.set_num_threads(1)
    tokenizer = build_tokenizer()
    model = build_model(tokenizer, seed=0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    draw = random.Random(0)
    for _ in range(120):
        ids, labels = [], []
        for _ in range(8):
            asked = [{"role": "user", "content": INSTRUCTION.format(question=question(draw.randrange(RIGHT + WRONG)))}]
            text = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
            prompt, answer = (tokenizer(part)["input_ids"] for part in (text, draw.choice(RESPONSES)))
            ids.append(prompt + answer)
            labels.append([-100] * len(prompt) + answer)
        longest = max(map(len, ids))
        ids = torch.tensor([row + [tokenizer.pad_token_id] * (longest - len(row)) for row in ids])
        labels = torch.tensor([row + [-100] * (longest - len(row)) for row in labels])
        loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    print(f"tiny model: loss {loss.item():.3f}")
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    (folder / "ask.txt").write_text(INSTRUCTION)
    rows = [
        {
            "prompt": [{"role": "user", "content": question(number)}],
            "reward_model": {"style": "rule", "ground_truth": "47"},
            "extra_info": {"index": number},
        }
        for number in range(RIGHT + WRONG)
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "in.parquet")
    return folder


def start(repo: Path, folder: Path, *more: str) -> subprocess.Popen:
    command = [
        *(sys.executable, str(repo / "rewrite_questions.py"), "--model_path", str(folder / "model")),
        *("--input_path", str(folder / "in.parquet"), "--output_jsonl", str(folder / "out.jsonl")),
        *("--output_parquet", str(folder / "out.parquet"), "--output_original_parquet", str(folder / "orig.parquet")),
        *("--instruction_file", str(folder / "ask.txt"), "--begin_marker", "[[", "--end_marker", "]]"),
        *("--temperature", "1", "--top_p", "1", "--max_tokens", "64"),
        *("--max_retries", "4", "--batch_size", "16", "--kv_cache_mb", "128", *more),
    ]
    # offline: a model that is nowhere is not to be looked for on the hub, again and again where there is no network
    environment = os.environ | {"PYTHONPATH": str(repo), "HF_HUB_OFFLINE": "1"}
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def finish(run: subprocess.Popen, folder: Path) -> str:
    try:
        code = run.wait(TIMEOUT_S)
    finally:
        run.kill()
    text = (folder / "log").read_text(errors="replace")
    assert code == 0, text[-4000:]
    return text


def test_killed_run_goes_on(repo: Path, folder: Path) -> None:
    journal = folder / "out.jsonl.journal"
    seen = []
    for records in (60, 200):
        run = start(repo, folder)
        end = time.monotonic() + TIMEOUT_S
        while (journal.read_bytes().count(b"\n") if journal.exists() else 0) <= records:
            assert run.poll() is None and time.monotonic() < end, (folder / "log").read_text()[-4000:]
            time.sleep(0.02)
        run.send_signal(signal.SIGKILL)
        run.wait()
        seen.append(journal.read_bytes())
        assert not (folder / "out.parquet").exists()
    text = finish(start(repo, folder), folder)
    assert "rewriting: resuming, " in text and "rewriting: 520 of 520 rows in " in text
    for part in seen:
        assert journal.read_bytes().startswith(part[: part.rfind(b"\n") + 1])
    records = [json.loads(line) for line in journal.read_bytes().splitlines()]
    assert [record["model"] for record in records if record["kind"] == "writer"] == [str(folder / "model")]
    records = [record for record in records if record["kind"] == "attempt"]
    attempts = Counter((record["row"], record["attempt"]) for record in records)
    assert max(attempts.values()) == 1 and {row for row, _ in attempts} == set(range(RIGHT + WRONG))

    rows = [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]
    listed = [json.loads(line) for line in (folder / "out.quarantine.jsonl").read_text().splitlines()]
    assert sorted([row["row"] for row in rows + listed]) == list(range(RIGHT + WRONG))
    original, rephrased = (pq.read_table(folder / name).to_pylist() for name in ("orig.parquet", "out.parquet"))
    check_pairs(original, rephrased, ("orig", "out"))
    source = pq.read_table(folder / "in.parquet")
    assert source.take([row["row"] for row in rows]).to_pylist() == original
    assert [row["prompt"][0]["content"] for row in rephrased] == [row["rewrite"] for row in rows]
    # Five attempts, three quarters of them marked: hardly a right row is lost; those with other numbers never pass.
    assert len(rows) > 0.9 * RIGHT and {row["row"] for row in rows} <= set(range(RIGHT))
    assert Counter(row["rewrite"] for row in rows).most_common(1)[0][0] == REWRITE
    tried = Counter(record.get("failure", "parsed") for record in records)
    assert tried["missing_markers"] > 0.1 * len(records) and tried["parsed"] > 0.5 * len(records)


def test_verify_with_the_same_engine(repo: Path, folder: Path) -> None:
    """All rewrites are on record, so that the engine only answers; a model without boxes leaves pairs undecided."""
    before = (folder / "out.parquet").read_bytes(), (folder / "out.jsonl.journal").read_bytes()
    more = ("--verify", "--verify_samples", "1", "--verify_max_tokens", "8")
    text = finish(start(repo, folder, *more), folder)
    rows = [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]
    assert {row["verify"]["verdict"] for row in rows} == {"undecided"}
    assert f"answers: 0 same, 0 different, {len(rows)} undecided" in text
    assert before == ((folder / "out.parquet").read_bytes(), (folder / "out.jsonl.journal").read_bytes())


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--seed", "1", "--restart"), "--seed cannot be used with vLLM on a CPU"),
        (("--restart", "--tokenizer_path", "nowhere"), "tokenizer nowhere: cannot be loaded"),
        (("--restart", "--model_path", "nowhere"), "model nowhere: cannot be loaded"),
    ],
)
def test_engines_that_cannot_start_say_so(repo: Path, folder: Path, more, message: str) -> None:
    run = start(repo, folder, *more)
    assert run.wait(TIMEOUT_S) == 2
    last = (folder / "log").read_text().splitlines()[-1]
    assert last.startswith("rewrite_questions.py: error: ") and message in last
