# SPDX-License-Identifier: Apache-2.0
"""Published sets → verl's schema: each set's column layout, what is checked, and what is said when it cannot be had."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from co_rewarding.storage.ground_truths import boxed_truth, hash_mark_truth, number_truth
from co_rewarding.storage.rows import SYSTEM_PROMPT, arrow_schema, make_row, question_text
from co_rewarding.tools.data.prepare import main
from co_rewarding.tools.data.sources import SOURCES

REPO = Path(__file__).resolve().parents[3]

# Invented questions in the column layout and with the types that each set has on the hub.
RAW: dict[str, list[dict[str, Any]]] = {
    "math_dataset": [
        {"problem": "What is $1+1$?\n", "level": "Level 1", "type": "Algebra", "solution": r"It is $\boxed{ 2}$."},
        {"problem": "Half of 3?", "level": "Level ?", "type": "Prealgebra", "solution": r"So $\boxed{\frac{3}{2}}$."},
        {"problem": "No answer?", "level": "Level 5", "type": "Geometry", "solution": "There is none."},
    ],
    "dapo": [
        {
            "prompt": "What is $2+2$?",
            "solution": "4",
            "data_source": "math_dapo",
            "source_prompt": [{"content": "What is $2+2$?", "role": "user"}],
            "ability": "MATH",
            "reward_model": {"ground_truth": "4", "style": "rule-lighteval/MATH_v2"},
            "extra_info": {"index": "9a9b6eb4"},
        },
    ],
    "openrs": [
        {"problem": "What is $3+3$?", "solution": r"$\boxed{6}$", "answer": "6", "level": "Easy"},
        {"problem": "What is $4+4$?", "solution": "…", "answer": None, "level": "Hard"},
    ],
    "gsm8k": [
        {"question": "Ann has 3 pens and buys 4. How many?", "answer": "3 + 4 = <<3+4=7>>7\n#### 7"},
        {"question": "And a thousand more than 234?", "answer": "Add.\n#### 1,234"},
    ],
    "math500": [
        {
            "problem": "What is $5+5$?",
            "solution": r"$\boxed{10}$",
            "answer": "10",
            "subject": "Algebra",
            "level": 3,
            "unique_id": "test/algebra/1.json",
        },
    ],
    "amc": [
        {"id": 0, "problem": "What is $70+72$?", "answer": 142.0, "url": "https://example.org"},
        {"id": 1, "problem": "Half of 1?", "answer": 0.5, "url": "https://example.org"},
    ],
}
TRUTHS = {
    "math_dataset": [" 2", r"\frac{3}{2}", ""],
    "dapo": ["4"],
    "openrs": ["6", ""],
    "gsm8k": ["7", "1234"],
    "math500": ["10"],
    "amc": ["142", "0.5"],
}


def test_each_set_has_its_command(run_script: Callable[..., Any]) -> None:
    commands = {path.stem for path in (REPO / "scripts/data_preprocess").iterdir()}
    assert commands == SOURCES.keys() | {"my_questions", "rephrased"}
    for name, source in SOURCES.items():
        code, out, _ = run_script(f"data_preprocess/{name}.py", "--help")
        assert code == 0 and source.repo_id in out and f"to data/{source.folder} " in out


def test_the_page_names_the_pinned_commits() -> None:
    page = (REPO / "data/README.md").read_text(encoding="utf-8")
    for pinned in SOURCES.values():
        (row,) = (line for line in page.splitlines() if f"`{pinned.repo_id}`" in line and line.startswith("| `python"))
        assert f"`{pinned.revision[:8]}…`" in row
    openrs = SOURCES["openrs"]
    assert f"hf download {openrs.repo_id} --repo-type dataset --revision {openrs.revision} " in page


def write_raw(folder: Path, name: str, rows: list[dict[str, Any]] | None = None) -> list[str]:
    """A file in the set's layout for each of its splits, and the --from_files items that name them."""
    items = []
    for split in SOURCES[name].splits:
        path = folder / split.hub_files.replace("*", "00000-of-00001")
        path.parent.mkdir(parents=True, exist_ok=True)
        content = RAW[name] if rows is None else rows
        if path.suffix == ".jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in content))
        else:
            pq.write_table(pa.Table.from_pylist(content), path)
        items.append(f"{split.name}={path}")
    return items


def prepare(name: str, out: Path, *options: str) -> None:
    assert main(name, ["--local_dir", str(out), *options]) == 0


def refusal(name: str, out: Path, *options: str, capsys: pytest.CaptureFixture) -> str:
    """The message with which the command ends."""
    assert main(name, ["--local_dir", str(out), *options]) == 2
    message = capsys.readouterr().err
    assert "Traceback" not in message
    return message


@pytest.mark.parametrize("name", SOURCES)
def test_each_layout_becomes_verls_schema(name: str, tmp_path: Path) -> None:
    write_raw(tmp_path / "raw", name)
    prepare(name, tmp_path / "out", "--any_rows", "--from_files", str(tmp_path / "raw"))
    spec = SOURCES[name]
    for split in spec.splits:
        table = pq.read_table(tmp_path / "out" / split.output)
        assert table.schema.remove_metadata() == arrow_schema(tuple(spec.extra))
        rows = table.to_pylist()
        assert [row["reward_model"]["ground_truth"] for row in rows] == TRUTHS[name]
        asked = [next(raw[key] for key in ("problem", "question", "prompt") if key in raw) for raw in RAW[name]]
        assert [question_text(row) for row in rows] == asked  # byte for byte, the line feed at the end included
        for i, row in enumerate(rows):
            assert row["prompt"][0] == {"role": "system", "content": SYSTEM_PROMPT}
            assert row["extra_info"] == {"index": i, "split": split.role}
            assert row["data_source"] == spec.repo_id
            assert (row["ability"], row["reward_model"]["style"]) == ("math", "rule")


def test_math_500_writes_levels_as_math_does(tmp_path: Path) -> None:
    write_raw(tmp_path / "raw", "math500")
    prepare("math500", tmp_path, "--any_rows", "--from_files", str(tmp_path / "raw"))
    row = pq.read_table(tmp_path / "test.parquet").to_pylist()[0]
    assert (row["level"], row["type"]) == ("Level 3", "Algebra")


def test_sets_have_their_own_names() -> None:
    # one shared data_source would merge the validation metrics of two sets
    sources = SOURCES.values()
    assert len({spec.repo_id for spec in sources}) == len({spec.folder for spec in sources}) == len(SOURCES)


@pytest.mark.parametrize(
    ("solution", "truth"),
    [
        (r"$\boxed{3}$, no: $\boxed{4}$", "4"),
        (r"\boxed{\boxed{5}}", "5"),
        (r"$\boxed{\frac{1}{2}}.$", r"\frac{1}{2}"),
        (r"$\boxed{\{1,2\}}$", r"\{1,2\}"),
        (r"$\boxed{\left\{x : x > 0\right.}$", r"\left\{x : x > 0\right."),  # a lone escaped brace is a character
        (r"$\fbox{7}$", "7"),
        (r"so $\boxed 8$ it is", "8"),
        (r"so $\boxed {17}.$", "17"),
        (r"$\boxed{9}$ and $\boxed{10", "9"),  # the last one never closes
        (r"$\boxed{}$", ""),
        ("none", ""),
        (r"\boxedtext{3}", ""),
    ],
)
def test_boxed_truth(solution: str, truth: str) -> None:
    assert boxed_truth(solution) == truth


def test_hash_mark_and_number_truths() -> None:
    assert hash_mark_truth("#### 1\nno\n#### -2,345,678 ") == "-2345678"
    assert hash_mark_truth("#### 1,2") == "1,2"  # no thousands
    assert [number_truth(x) for x in (142.0, -3, 0.5)] == ["142", "-3", "0.5"]
    with pytest.raises(ValueError, match="####"):
        hash_mark_truth("7")
    for value in (float("nan"), float("inf"), None, "7", True):
        with pytest.raises(ValueError, match="not a number"):
            number_truth(value)


def test_number_of_rows_is_checked(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    items = write_raw(tmp_path, "gsm8k")
    message = refusal("gsm8k", tmp_path / "out", "--from_files", *items, capsys=capsys)
    assert message.count("\n") == 1
    assert "openai/gsm8k, split test: 2 rows instead of 1319" in message
    assert "--any_rows" in message
    assert not (tmp_path / "out").exists()


def test_other_questions_in_the_right_number_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    rows = [RAW["math_dataset"][0] | {"problem": f"What is $1+{i}$?"} for i in range(7500)]
    train = write_raw(tmp_path, "math_dataset", rows)[0]
    message = refusal("math_dataset", tmp_path / "out", "--from_files", train, capsys=capsys)
    assert "split train: questions or order differ" in message
    assert message.count("\n") == 1


def test_other_columns_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    items = write_raw(tmp_path, "gsm8k", [{"query": "?", "answer": "#### 1"}])
    message = refusal("gsm8k", tmp_path / "out", "--any_rows", "--from_files", *items, capsys=capsys)
    assert "row 0: no column question; found query, answer, expected question, answer" in message


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ({"question": " \n", "answer": "#### 1"}, "row 1: its question is empty"),
        ({"question": None, "answer": "#### 1"}, "row 1: its question None is not text"),
        ({"question": "What?", "answer": "1"}, "row 1: its answer has no '####'"),
    ],
)
def test_the_first_unreadable_row_is_named(
    bad: dict[str, Any], why: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    items = write_raw(tmp_path, "gsm8k", [RAW["gsm8k"][0], bad])
    message = refusal("gsm8k", tmp_path / "out", "--any_rows", "--from_files", *items, capsys=capsys)
    assert f"openai/gsm8k, split test, {why}" in message


def test_files_that_cannot_be_used_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.csv").write_text("a")
    (tmp_path / "x.parquet").write_text("not parquet")
    (tmp_path / "x.jsonl").write_text("{")
    (tmp_path / "y.json").write_text("[1]")
    (tmp_path / "z.json").write_text("[" * 100_000)
    (tmp_path / "latin.jsonl").write_bytes(b'{"problem": "\xff"}')
    latin = pa.array([b"What is \xff?"]).view(pa.string())
    pq.write_table(pa.table({"problem": latin}), tmp_path / "latin.parquet")
    for item, why in (
        ("empty", "no data/train-*.parquet in this folder"),
        ("x.parquet", "SPLIT=FILE with SPLIT one of train, test"),
        ("train=absent.parquet", "absent.parquet: no such file"),
        ("train=absent.json", "absent.json: no such file"),
        ("train=x.csv", "split train: no rows"),
        ("train=x.parquet", "x.parquet: not readable as parquet"),
        ("train=x.jsonl", "x.jsonl: line 1: not readable as JSON"),
        ("train=y.json", "must be an object with named values"),
        ("train=z.json", "z.json: nested too deeply"),
        ("train=latin.jsonl", "latin.jsonl: byte 0xff at position 13, line 1, is not UTF-8"),
        ("train=latin.parquet", "latin.parquet: not readable in column 'problem'"),
    ):
        name, mark, path = item.partition("=")
        named = f"{name}={tmp_path / path}" if mark else str(tmp_path / name)
        message = refusal("math_dataset", tmp_path / "out", "--from_files", named, capsys=capsys)
        assert why in message
        assert message.count("\n") == 1


def test_one_split_alone_and_a_json_array(tmp_path: Path) -> None:
    (tmp_path / "train.json").write_text(json.dumps(RAW["math_dataset"]))
    prepare("math_dataset", tmp_path / "out", "--any_rows", "--from_files", f"train={tmp_path / 'train.json'}")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["README.md", "train_original.parquet"]


def test_max_samples_keeps_the_first_questions(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    items = write_raw(tmp_path, "math_dataset")
    prepare("math_dataset", tmp_path, "--any_rows", "--max_samples", "2", "--from_files", *items)
    assert [r["extra_info"]["index"] for r in pq.read_table(tmp_path / "test.parquet").to_pylist()] == [0, 1]
    assert "3 rows, of which the first 2" in (tmp_path / "README.md").read_text()
    capsys.readouterr()
    assert "--max_samples 0: must be greater than or equal to 1" in refusal(
        "math_dataset", tmp_path, "--max_samples", "0", capsys=capsys
    )


def test_the_same_source_gives_the_same_bytes(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    items = write_raw(tmp_path, "math_dataset")
    for out in ("a", "b"):
        prepare("math_dataset", tmp_path / out, "--any_rows", "--from_files", *items)
    for name in ("train_original.parquet", "test.parquet", "README.md"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    # what is printed: one of three rows (number 2) has no ground truth; 14, 10 and 15 + the line feed characters
    assert "3 rows; 1 without a ground truth (row 2); 0 repeated questions; questions of 10 to 15 characters" in (
        capsys.readouterr().out
    )


class NoNetwork:
    def dataset_info(self, *_: Any, **__: Any) -> None:
        raise ConnectionError("Name or service not known")


def test_without_a_network_it_says_what_to_download_and_where_to_put_it(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub, "HfApi", NoNetwork)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    message = refusal("math_dataset", tmp_path / "out", capsys=capsys)
    assert "ConnectionError: Name or service not known" in message
    assert (
        "hf download DigitalLearningGmbH/MATH-lighteval --repo-type dataset --revision "
        "0530c78699ea5e8eb5530600900e1f328b48acad --include 'data/train-*.parquet' --include 'data/test-*.parquet' "
        "--local-dir downloads/math\n"
    ) in message
    assert "--from_files downloads/math " in message


def test_the_hub_is_asked_for_the_commit_that_the_card_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    class Hub:
        def dataset_info(self, repo_id: str, revision: str, timeout: float) -> Any:
            return type("Info", (), {"sha": "c0ffee" + "0" * 34})

    def load_dataset(*names: Any, **options: Any) -> datasets.Dataset:
        asked.append((*names, options["split"], options["revision"]))
        return datasets.Dataset.from_list(RAW["dapo"])

    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    prepare("dapo", tmp_path, "--any_rows")
    assert asked == [("open-r1/DAPO-Math-17k-Processed", "en", "train", "c0ffee" + "0" * 34)]
    assert "c0ffee" + "0" * 34 in (tmp_path / "README.md").read_text()  # not "main"


@pytest.mark.parametrize("split", ["train", "test"])
def test_math_becomes_the_published_files(split: str, real_data: Path, tmp_path: Path) -> None:
    # MATH's own layout, made of the published rows: their ground truth is all that is known of a solution
    name = {"train": "train_original.parquet", "test": "test.parquet"}[split]
    published = pq.read_table(real_data / "math" / name).to_pylist()
    raw = [
        {
            "problem": question_text(row),
            "level": row["level"],
            "type": row["type"],
            "solution": f"Since $\\boxed{{0}}$ is wrong, ${{\\boxed{{{row['reward_model']['ground_truth']}}}}}$.",
        }
        for row in published
    ]
    pq.write_table(pa.Table.from_pylist(raw), tmp_path / "raw.parquet")
    prepare("math_dataset", tmp_path, "--from_files", f"{split}={tmp_path / 'raw.parquet'}")  # rows and hash checked
    assert pq.read_table(tmp_path / name).to_pylist() == published


def test_dapo_becomes_the_published_file(real_data: Path, tmp_path: Path) -> None:
    published = {
        row["extra_info"]["index"]: row for row in pq.read_table(real_data / "dapo/train_original.parquet").to_pylist()
    }
    # 14,116 questions, of which 7 were lost in rephrasing
    raw = [{"prompt": "lost", "solution": "0"} for _ in range(14116)]
    for index, row in published.items():
        raw[index] = {"prompt": question_text(row), "solution": row["reward_model"]["ground_truth"]}
    pq.write_table(pa.Table.from_pylist(raw), tmp_path / "raw.parquet")
    prepare("dapo", tmp_path, "--from_files", str(tmp_path / "raw.parquet"))
    rows = pq.read_table(tmp_path / "train_original.parquet").to_pylist()
    ours = {index: rows[index] | {"data_source": published[index]["data_source"]} for index in published}
    assert ours == published


def test_verl_can_join_ours_with_a_published_file(real_data: Path, tmp_path: Path) -> None:
    # validation on MATH and MATH-500 in one run: verl concatenates the files of a setting
    write_raw(tmp_path / "raw", "gsm8k")
    prepare("gsm8k", tmp_path, "--any_rows", "--from_files", str(tmp_path / "raw"))
    paths = (real_data / "math/test.parquet", tmp_path / "test.parquet")
    parts = [datasets.Dataset.from_parquet(str(path), cache_dir=str(tmp_path / "cache")) for path in paths]
    joined = datasets.concatenate_datasets(parts)
    assert len(joined) == 5002
    assert joined[5001]["prompt"][1] == {"role": "user", "content": RAW["gsm8k"][1]["question"]}
    assert joined[5001]["reward_model"]["ground_truth"] == "1234"


def test_make_row_puts_further_columns_last() -> None:
    assert list(make_row("s", "q", "1", 0, "train", {"level": "x"}))[-1] == "level"
