# SPDX-License-Identifier: Apache-2.0
"""The published pairs → the files that Co-rewarding-I, III and test-time training train on by default."""

import functools
import json
import subprocess
import threading
from collections.abc import Callable
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from co_rewarding.storage.rows import check_pairs, content_sha256, file_sha256, made_of, question_text, read_rows
from co_rewarding.tools.data import pairs
from co_rewarding.tools.data.card import CARD_NAME, Card, FileFacts, read_card, write_card
from co_rewarding.tools.data.pairs import ORIGINAL, REPHRASED, main, pair_up
from co_rewarding.tools.data.prepare import main as prepare_own
from co_rewarding.tools.data.published import MADE_BY, PUBLISHED, git_blob, recognise, rows_sha256
from co_rewarding.tools.data.sharing import share
from co_rewarding.tools.data.sources import SOURCES

REPO = Path(__file__).resolve().parents[3]
SYSTEM = r"Let's think step by step and output the final answer within \boxed{}."
QUESTIONS = [f"Let $x = {n}$ and $y = {n + 5}$. Compute the value of $x + y$." for n in range(11, 23)]  # P = 12
REPHRASINGS = [f"Two numbers are given, $x = {n}$ and $y = {n + 5}$. Find the sum of both." for n in range(11, 23)]
REPHRASINGS[2] = "<rewritten question>"
REPHRASINGS[7] = QUESTIONS[7] + " "
INDICES = [*range(5), *range(6, 13)]  # the question 5 was lost, as some of DAPO were


def published_row(question: str, i: int, split: str = "train", **more: str) -> dict[str, Any]:
    """In the authors' layout: their order of fields, and MATH's name in every set."""
    return {
        **more,
        "data_source": "DigitalLearningGmbH/MATH-lighteval",
        "prompt": [{"content": SYSTEM, "role": "system"}, {"content": question, "role": "user"}],
        "ability": "math",
        "reward_model": {"ground_truth": str(27 + 2 * i), "style": "rule"},
        "extra_info": {"index": INDICES[i], "split": split},
    }


def published(questions: list[str], **more: str) -> list[dict[str, Any]]:
    return [published_row(question, i, **more) for i, question in enumerate(questions)]


def put(folder: Path, name: str, rows: list[dict[str, Any]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), folder / name)
    return folder / name


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """A clone of their repository with small sets of math, dapo and amc."""
    data = tmp_path / "clone/Co-rewarding-II/data"
    of_math = {"level": "Level 1", "type": "Algebra"}
    for folder, split, more in (("math", "train", of_math), ("dapo", "train", {}), ("AMC-TTT", "test", {})):
        put(data / folder, f"{split}_original.parquet", published(QUESTIONS, **more))
        put(data / folder, f"{split}_rewrite_Qwen3-32B.parquet", published(REPHRASINGS, **more))
    put(data / "math", "test.parquet", [published_row("Half of 8?", 0, "test", **of_math)])
    return tmp_path / "clone"


def command(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


@pytest.fixture(autouse=True)
def _work_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def indices(path: Path) -> list[int]:
    return [row["extra_info"]["index"] for row in read_rows(path)]


def test_a_set_becomes_a_pair_of_files_without_what_is_no_pair(
    theirs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("dapo", "--any_rows", "--from_files", theirs) == 0
    folder = tmp_path / "data/dapo"
    original, rephrased = read_rows(folder / ORIGINAL), read_rows(folder / REPHRASED)
    check_pairs(original, rephrased, ("original", "rephrased"))
    # rows 2 (placeholder) and 7 (the same wording) are out; their ids are 2 and 8, since the set skips 5
    kept = [0, 1, 3, 4, 5, 6, 8, 9, 10, 11]
    assert indices(folder / ORIGINAL) == [0, 1, 3, 4, 6, 7, 9, 10, 11, 12]
    assert [question_text(row) for row in original] == [QUESTIONS[i] for i in kept]
    assert [question_text(row) for row in rephrased] == [REPHRASINGS[i] for i in kept]
    assert {row["data_source"] for row in original + rephrased} == {"open-r1/DAPO-Math-17k-Processed"}
    assert made_of(folder / REPHRASED) == MADE_BY and made_of(folder / ORIGINAL) == ""
    out = capsys.readouterr().out
    assert "dropped from both files: placeholder: 1 (rows 2); unchanged: 1 (rows 7)\n" in out
    card = read_card(folder)
    assert card is not None and not card.may_be_shared and card.licence.startswith("none: github.com/tmlr-group/")
    assert "placeholder: 1 (rows 2); unchanged: 1 (rows 7)" in card.note and card.files.keys() == {ORIGINAL, REPHRASED}
    # what III validates on, beside MATH
    assert [question_text(row) for row in read_rows(tmp_path / "data/math/test.parquet")] == ["Half of 8?"]
    with pytest.raises(ValueError, match="may not be redistributed"):
        share(folder, "me/pairs")


def test_math_also_has_its_questions_for_the_methods_without_pairs(theirs: Path, tmp_path: Path) -> None:
    assert command("math", "--any_rows", "--from_files", theirs) == 0
    folder = tmp_path / "data/math"
    whole = {row["extra_info"]["index"]: row for row in read_rows(folder / "train_original.parquet")}
    assert list(whole) == INDICES
    pair = read_rows(folder / ORIGINAL)
    assert pair == [whole[row["extra_info"]["index"]] for row in pair] and len(pair) == 10
    assert pair[0]["level"] == "Level 1" and pair[0]["extra_info"] == {"index": 0, "split": "train"}
    # what is there already is left as it is
    before = {name: (folder / name).stat().st_mtime_ns for name in ("train_original.parquet", "test.parquet")}
    assert command("math", "--any_rows", "--from_files", theirs) == 0
    assert before == {name: (folder / name).stat().st_mtime_ns for name in before}
    assert read_card(folder).files.keys() == {ORIGINAL, REPHRASED, *before}


def test_a_card_of_the_set_itself_does_not_let_the_pairs_out(theirs: Path, tmp_path: Path) -> None:
    assert command("math", "--any_rows", "--from_files", theirs) == 0
    raw = put(tmp_path, "raw.parquet", [{"problem": "1+1?", "level": "1", "type": "A", "solution": r"\boxed{2}"}])
    assert prepare_own("math_dataset", ["--any_rows", "--from_files", f"train={raw}"]) == 0
    card = read_card(tmp_path / "data/math")
    assert not card.may_be_shared and card.files.keys() >= {REPHRASED, "train_original.parquet"}
    assert "names no licence" in card.licence
    (tmp_path / "data/math" / CARD_NAME).unlink()  # and under a card of one's own making
    path = tmp_path / "data/math" / REPHRASED
    facts = FileFacts("train", 10, "mine", "", file_sha256(path), "")
    write_card(Card("Mine", "mine", "mit", "mit", True, files={REPHRASED: facts}), path.parent)
    with pytest.raises(ValueError, match=f"{REPHRASED}: is rephrased by Qwen3-32B, published in .*, and may not be"):
        share(path.parent, "me/pairs")


def test_pairs_of_another_origin_are_not_overwritten(
    theirs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path / "data/dapo", REPHRASED, published(REPHRASINGS))
    assert command("dapo", "--any_rows", "--from_files", theirs) == 2
    assert f"data/dapo/{REPHRASED}: exists and was made by something else; move it away" in capsys.readouterr().err


def test_rows_without_their_twin_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    original, rephrased = published(QUESTIONS), published(REPHRASINGS)
    rephrased[4]["reward_model"]["ground_truth"] = "7"  # another truth
    rephrased[11]["extra_info"]["index"] = 99  # row 11 of both files loses its twin
    rephrased.reverse()  # order does not matter
    found = pair_up(original, rephrased, ["placeholder"])
    # `wrapped` objects to the placeholder only after it; row 7, the same wording, stays and is told
    assert found.left_out == {
        "no rephrasing": [11],
        "no question (rows of the rephrased file)": [0],
        "placeholder": [2],
        "another ground truth": [4],
    }
    assert [i for i, _ in found.kept] == [0, 1, 3, 5, 6, 7, 8, 9, 10]
    assert all(i + j == 11 for i, j in found.kept)
    assert found.objections == {"unchanged": 1}
    with pytest.raises(ValueError, match=r"do not pair up: 0 pairs in 12 and 12 rows \(no rephrasing: 12 \(rows 0, 1"):
        pair_up(original, [row | {"extra_info": {"index": 100 + i}} for i, row in enumerate(rephrased)], [])


def test_one_rephrasing_for_several_questions_is_no_pair() -> None:
    rephrasings = [*REPHRASINGS[:9], *["What is the value of the expression above?"] * 2, REPHRASINGS[11]]
    found = pair_up(published(QUESTIONS), published(rephrasings), ["placeholder", "unchanged"])
    assert found.left_out["one rephrasing for several questions"] == [9, 10]


def test_other_validators_can_leave_out_too(theirs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrapped = [*REPHRASINGS[:10], f"<{REPHRASINGS[10]}>", REPHRASINGS[11]]
    put(theirs / "Co-rewarding-II/data/dapo", "train_rewrite_Qwen3-32B.parquet", published(wrapped))
    for leave_out, told in (
        ((), "validators object: wrapped 1; --leave_out all"),
        (("--leave_out", "all"), "placeholder: 1 (rows 2); unchanged: 1 (rows 7); wrapped: 1 (rows 10)\n"),
        (("--leave_out", "wrapped"), "dropped from both files: wrapped: 1 (rows 10)\n"),
    ):
        assert command("dapo", "--any_rows", "--from_files", theirs, *leave_out) == 0
        assert told in capsys.readouterr().out
    assert command("dapo", "--leave_out", "ugly") == 2
    assert "--leave_out ugly: must be all, or names out of empty, placeholder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("amc", "--from_files", "clone"),
            "12 rows instead of the published 83; download Co-rewarding-II/data/AMC-TTT/",
        ),
        (
            ("math", "--from_files", "original=a"),
            "--from_files: add rephrased=FILE, which the repository calls train_rew",
        ),
        (
            ("amc", "--from_files", "test=a"),
            "--from_files test=a: must be a folder with the published files, or original",
        ),
        (
            ("openrs", "--from_files", "clone"),
            "--from_files clone: no train_original.parquet in it; name it with --from",
        ),
        (("gsm8k",), "name gsm8k: must be 'math', 'dapo', 'openrs' or 'amc'"),
    ],
)
def test_what_cannot_be_taken_is_one_line(
    arguments: tuple[str, ...], message: str, theirs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(*arguments) == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1
    assert not (tmp_path / "data").exists()


def test_another_file_is_refused_and_another_encoding_is_not(theirs: Path) -> None:
    path = theirs / "Co-rewarding-II/data/dapo/train_original.parquet"
    rows, content = read_rows(path), path.read_bytes()
    # git's own number of these bytes
    assert (
        git_blob(content)
        == subprocess.run(["git", "hash-object", str(path)], capture_output=True, text=True, check=True).stdout.strip()
    )
    file = replace(PUBLISHED["dapo"].original, num_rows=12, blob=git_blob(content)[:8], rows_sha256=rows_sha256(rows))
    assert recognise(file, content, rows, "x") == f"git blob {git_blob(content)[:8]}, as published"
    assert recognise(file, content + b" ", rows, "x") == "the published rows, in another parquet file"
    rows[3]["reward_model"]["ground_truth"] = "0"
    with pytest.raises(ValueError, match=r"x: not the published file \(git blob .* instead of .*--any_rows$"):
        recognise(file, content + b" ", rows, "x")
    assert "no hash is known" in recognise(replace(file, blob=""), content, rows, "x")


def test_what_is_known_of_each_file() -> None:
    for name, found in PUBLISHED.items():
        for file in found.files:
            assert len(file.blob) in (0, 8, 40) and bool(file.num_bytes) == bool(file.rows_sha256) == (
                len(file.blob) == 40
            )
            assert file.path.startswith("Co-rewarding-II/data/")
        assert found.source.folder == name


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def test_it_is_downloaded_from_the_commit_or_by_its_content(
    theirs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A server on loopback stands for GitHub's two: the commit has the original alone, the rest comes by its blob."""
    data = theirs / "Co-rewarding-II/data/math"
    small = {}
    for role, name in (("original", "train_original"), ("rephrased", "train_rewrite_Qwen3-32B"), ("test", "test")):
        path = data / f"{name}.parquet"
        blob = git_blob(path.read_bytes())
        small[role] = replace(
            getattr(PUBLISHED["math"], role), num_rows=len(read_rows(path)), num_bytes=path.stat().st_size, blob=blob
        )
        url = f"repos/tmlr-group/Co-rewarding/git/blobs/{blob}"
        if role == "original":
            url = f"tmlr-group/Co-rewarding/6c60ea4/{small[role].path}"
        (tmp_path / "www" / url).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "www" / url).write_bytes(path.read_bytes())
    monkeypatch.setitem(pairs.PUBLISHED, "math", replace(PUBLISHED["math"], **small))
    handler = functools.partial(Quiet, directory=str(tmp_path / "www"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(pairs, "RAW", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setattr(pairs, "API", f"http://127.0.0.1:{server.server_port}")
        assert command("math") == 0
        server.shutdown()
    files = read_card(tmp_path / "data/math").files
    assert {name: facts.rows for name, facts in files.items()} == {
        ORIGINAL: 10, REPHRASED: 10, "train_original.parquet": 12, "test.parquet": 1
    }  # fmt: skip
    assert files[ORIGINAL].revision == "6c60ea4" and files[REPHRASED].revision == ""
    assert small["rephrased"].blob[:8] in files[REPHRASED].made_of
    # what was downloaded is a folder for --from_files
    assert command("math", "--local_dir", "again", "--from_files", "downloads/rephrased/math") == 0
    assert read_rows(tmp_path / "again" / ORIGINAL) == read_rows(tmp_path / "data/math" / ORIGINAL)


def test_without_a_network_it_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pairs, "RAW", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setattr("co_rewarding.tools.data.download.WAIT_S", 0.0)
    assert command("dapo") == 2
    err = capsys.readouterr().err
    assert "train_original.parquet could not be downloaded (http://127.0.0.1:9/tmlr-group/Co-rewarding/6c60ea4/" in err
    assert "get the files of https://github.com/tmlr-group/Co-rewarding/tree/HEAD/Co-rewarding-II/data/dapo" in err
    assert err.endswith("rephrased.py dapo --from_files downloads/rephrased/dapo\n") and err.count("\n") == 1


def test_the_run_scripts_train_on_what_it_writes() -> None:
    for script, folder in (("I/run_corewarding-I.sh", "math"), ("II/run_corewarding-III.sh", "dapo")):
        text = (REPO / f"Co-rewarding-{script}").read_text()
        assert f"$ROOT/data/{folder}/{ORIGINAL}}}" in text and f"$ROOT/data/{folder}/{REPHRASED}}}" in text


def test_help_names_the_validators(run_script: Callable[..., Any]) -> None:
    code, out, _ = run_script("data_preprocess/rephrased.py", "--help")
    assert code == 0 and "default empty,placeholder,unchanged" in out and "figure_vanished" in out


@pytest.mark.parametrize(("name", "num_rows"), [("math", 7479), ("dapo", 14064)])
def test_the_published_files(name: str, num_rows: int, real_data: Path, tmp_path: Path) -> None:
    assert command(name, "--from_files", real_data) == 0  # files are recognised
    folder = tmp_path / "data" / name
    original, rephrased = read_rows(folder / ORIGINAL), read_rows(folder / REPHRASED)
    check_pairs(original, rephrased, ("original", "rephrased"))
    assert len(original) == num_rows
    known = json.loads((REPO / "data/published_pairs.json").read_text())[name.upper()]
    out = {*known["placeholder"], *known.get("unchanged", [])}
    theirs = read_rows(real_data / name / "train_original.parquet")
    kept = [row for i, row in enumerate(theirs) if i not in out]
    source = SOURCES["math_dataset" if name == "math" else name]
    assert original == [row | {"data_source": source.repo_id} for row in kept]
    if name == "math":  # what math_dataset.py writes, byte by byte of the questions
        for split in source.splits:
            questions = [question_text(row) for row in read_rows(folder / split.output)]
            assert content_sha256(questions) == split.questions_sha256
