# SPDX-License-Identifier: Apache-2.0
"""The data card tells what its files are, is checked against them, and nothing else is shared."""

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
import yaml

from co_rewarding.storage.rows import content_sha256, file_sha256, make_row, write_rows
from co_rewarding.tools.data import prepare
from co_rewarding.tools.data.card import Card, FileFacts, card_text, changed_files, read_card, write_card
from co_rewarding.tools.data.sharing import share
from co_rewarding.tools.data.sources import SOURCES
from co_rewarding.tools.tables import cell

REPO = Path(__file__).resolve().parents[3]

EARLIER = """---
license: other
language:
- en
configs:
- config_name: train
  data_files:
  - split: train
    path: train.parquet
co_rewarding:
  title: Set
  source: owner/set
  licence: none on its page on the hub; the questions are the Mathematical Association of America's, all of them
  licence_id: other
  may_be_shared: false
  note: ''
  files:
    train.parquet:
      split: train
      rows: 2
      made_of: hub, split a|b
      revision: ''
      file_sha256: ab
      content_sha256: cd
---
# Set

- Source: owner/set
"""


BROKEN = EARLIER.replace("rows: 2", "rows: many")


def load_script(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(Path(path).stem, REPO / path)
    assert spec and spec.loader
    sys.modules[spec.name] = module = importlib.util.module_from_spec(spec)  # pydantic looks types up there
    spec.loader.exec_module(module)
    return module


def write_set(folder: Path, name: str = "train.parquet", **changes: Any) -> Card:
    """A folder with one file of two rows and its card."""
    folder.mkdir(exist_ok=True)
    write_rows([make_row("s", f"What is {i}+1?", str(i + 1), i, "train") for i in range(2)], folder / name)
    facts = FileFacts("train", 2, "hub, split a|b", "abc", file_sha256(folder / name), content_sha256([1]))
    card = replace(Card("Set", "owner/set", 'MIT: "really"', "mit", may_be_shared=True, files={name: facts}), **changes)
    write_card(card, folder)
    return card


def refusal(folder: Path, **options: Any) -> str:
    with pytest.raises(ValueError) as refused:
        share(folder, "me/set", **options)
    assert "\n" not in str(refused.value)
    return str(refused.value)


class Recorder:
    """A hub that writes down what it is told."""

    def __init__(self, error: Exception | None = None) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.error = error

    def create_repo(self, repo_id: str, **options: Any) -> None:
        if self.error:
            raise self.error
        self.calls.append(("create", {"repo_id": repo_id, **options}))

    def upload_folder(self, **options: Any) -> None:
        self.calls.append(("upload", options))


def test_a_card_reads_back_as_it_was_written(tmp_path: Path) -> None:
    card = write_set(tmp_path)
    assert read_card(tmp_path) == card
    assert changed_files(card, tmp_path) == []
    head = yaml.safe_load((tmp_path / "README.md").read_text().split("---\n")[1])
    assert head["license"] == "mit"  # the keys that the hub reads
    assert head["configs"] == [{"config_name": "train", "data_files": [{"split": "train", "path": "train.parquet"}]}]
    text = card_text(card)
    for fact in ("owner/set", 'MIT: "really"', "abc", card.files["train.parquet"].file_sha256, r"split a\|b"):
        assert fact in text


def test_hostile_values_do_not_break_the_card(tmp_path: Path) -> None:
    hostile = ("---\n: {[*&", "x\n---\ny: 1", "\r---\u2028---\x85", "{{ 7 * 7 }}{% for %}", f"{'a' * 200} ---\n| <b>")
    for text in hostile:
        card = write_set(tmp_path, title=text, note=text, source=text)
        assert read_card(tmp_path) == card
        body = (tmp_path / "README.md").read_text().split("\n---\n")[-1]
        assert f"# {cell(text)}\n" in body and f"- Note: {cell(text)}\n" in body


def test_a_card_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(EARLIER)
    facts = FileFacts("train", 2, "hub, split a|b", "", "ab", "cd")
    licence = "none on its page on the hub; the questions are the Mathematical Association of America's, all of them"
    assert read_card(tmp_path) == Card("Set", "owner/set", licence, "other", False, "", {"train.parquet": facts})


@pytest.mark.parametrize(
    "text", ["# My notes\n", "---\nlicense: mit\n---\n", "---\n: [\n---\n", "", "---\n- 1\n---\n", BROKEN]
)
def test_another_readme_is_never_overwritten(text: str, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(text)
    with pytest.raises(ValueError, match=r"README.md is not a data card"):
        write_set(tmp_path)
    assert (tmp_path / "README.md").read_text() == text


def test_a_second_file_joins_the_card_and_a_changed_one_leaves_it(tmp_path: Path) -> None:
    write_set(tmp_path, "a.parquet")
    write_set(tmp_path, "b.parquet")
    assert sorted(read_card(tmp_path).files) == ["a.parquet", "b.parquet"]
    (tmp_path / "a.parquet").write_bytes(b"other")
    write_set(tmp_path, "b.parquet")
    assert sorted(read_card(tmp_path).files) == ["b.parquet"]


def test_a_dry_run_sends_nothing(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    write_set(tmp_path)
    (tmp_path / "private.txt").write_text("x")
    hub = Recorder()
    assert share(tmp_path, "me/set", api=hub) == ["README.md", "train.parquet"]
    assert hub.calls == []
    printed = capsys.readouterr().out
    assert "would upload to https://huggingface.co/datasets/me/set" in printed
    assert "train.parquet" in printed and "2 rows" in printed and "add --upload" in printed
    assert "private.txt" not in printed


@pytest.mark.parametrize("public", [False, True])
def test_an_upload_sends_the_card_and_its_files_only(public: bool, tmp_path: Path) -> None:
    write_set(tmp_path)
    hub = Recorder()
    share(tmp_path, "me/set", upload=True, public=public, api=hub)
    (_, created), (_, uploaded) = hub.calls
    assert created == {"repo_id": "me/set", "repo_type": "dataset", "private": not public, "exist_ok": True}
    assert uploaded["allow_patterns"] == ["README.md", "train.parquet"]
    assert uploaded["folder_path"] == tmp_path


def test_what_may_not_be_shared_is_refused(tmp_path: Path) -> None:
    assert "no data card" in refusal(tmp_path)
    write_set(tmp_path, may_be_shared=False)
    assert "may not be redistributed" in refusal(tmp_path, upload=True, api=Recorder())
    write_set(tmp_path)
    (tmp_path / "train.parquet").write_bytes(b"other")
    assert "train.parquet is missing or differs from README.md" in refusal(tmp_path, upload=True, api=Recorder())


def test_a_refusal_of_the_hub_is_one_line(tmp_path: Path) -> None:
    write_set(tmp_path)
    message = refusal(tmp_path, upload=True, api=Recorder(httpx.ConnectError("no route\nto host")))
    assert "--push_to_hub me/set: no route" in message
    assert "hf auth login" in message


def test_the_amc_script_never_shares(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert prepare.main("amc", ["--local_dir", str(tmp_path / "amc"), "--push_to_hub", "me/amc"]) == 2
    assert "may not be redistributed" in capsys.readouterr().err
    assert not (tmp_path / "amc").exists()


def test_rows_that_may_not_be_shared_are_refused_under_any_card(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    amc = SOURCES["amc"]
    assert not amc.may_be_shared
    push = load_script("scripts/push_dataset.py")
    added = [str(tmp_path), "--add", "mine.parquet", "--made_of", "by hand"]
    new = ["--title", "Mine", "--license", "mit", "--push_to_hub", "me/set", "--source"]
    message = "mine.parquet: has rows of AI-MO/aimo-validation-amc, which may not be redistributed"
    spellings = (
        "ai-mo/AIMO-Validation-AMC ",
        "aimo_validation_amc",
        "https://huggingface.co/datasets/AI-MO/aimo-validation-amc",
    )
    for name in (amc.repo_id, *spellings):
        rows = [make_row(source, "What is 1+1?", "2", i, "test") for i, source in enumerate(("mine", name))]
        write_rows(rows, tmp_path / "mine.parquet")
        assert push.main([*added, *new, "my desk"]) == 2
        assert message in capsys.readouterr().err
        assert not (tmp_path / "README.md").exists()

    facts = FileFacts("test", 2, "by hand", "", file_sha256(tmp_path / "mine.parquet"), "")
    card = Card("Mine", "my desk", "MIT", "mit", may_be_shared=True, files={"mine.parquet": facts})
    write_card(card, tmp_path)
    hub = Recorder()
    assert message in refusal(tmp_path, upload=True, api=hub)
    assert hub.calls == []
    write_card(replace(card, may_be_shared=False), tmp_path)  # a file more for use here
    assert push.main(added) == 0


def test_the_source_of_a_card_is_refused_like_its_rows(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    push = load_script("scripts/push_dataset.py")
    write_rows([make_row("mine", "What is 1+1?", "2", 0, "test")], tmp_path / "mine.parquet")
    added = [str(tmp_path), "--add", "mine.parquet", "--made_of", "by hand", "--title", "Mine", "--license", "mit"]
    assert push.main([*added, "--source", "AI-MO / AIMO validation AMC"]) == 2
    assert "which may not be redistributed" in capsys.readouterr().err
    for name in ("math-ai/amc23", "AI-MO/aimo-validation-aime", "AMC"):  # others, which we know nothing of
        assert push.main([*added, "--source", name]) == 0
    write_card(replace(read_card(tmp_path), source="AI-MO/aimo-validation-amc"), tmp_path)
    assert "which may not be redistributed" in refusal(tmp_path, upload=True, api=Recorder())


def test_push_dataset_adds_a_rephrased_file(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    push = load_script("scripts/push_dataset.py")
    write_set(tmp_path)
    write_rows([make_row("s", f"Add one to {i}.", str(i + 1), i, "train") for i in range(2)], tmp_path / "re.parquet")
    push.main([str(tmp_path), "--push_to_hub", "me/set", "--add", "re.parquet", "--made_of", "rephrased by X"])
    assert read_card(tmp_path).files["re.parquet"].made_of == "rephrased by X"
    assert "re.parquet" in capsys.readouterr().out

    push.main([str(tmp_path), "--add", str(tmp_path / "re.parquet"), "--made_of", "rephrased by Y"])
    assert read_card(tmp_path).files["re.parquet"].made_of == "rephrased by Y"

    (tmp_path / "bad.parquet").write_bytes(b"x")
    for arguments, why in (
        ([str(tmp_path), "--add", "/elsewhere/re.parquet", "--made_of", "x"], "/elsewhere/re.parquet: is not in"),
        ([str(tmp_path)], "nothing to do"),
        ([str(tmp_path), "--add", "re.parquet"], "--add needs --made_of"),
        ([str(tmp_path), "--add", "bad.parquet", "--made_of", "x"], "bad.parquet: not readable as parquet"),
        ([str(tmp_path / "absent"), "--push_to_hub", "me/set"], "no data card"),
    ):
        assert push.main(arguments) == 2
        assert why in capsys.readouterr().err


def test_push_dataset_writes_a_card_where_there_is_none(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    push = load_script("scripts/push_dataset.py")
    write_rows([make_row("s", "What is 1+1?", "2", 0, "train")], tmp_path / "mine.parquet")
    added = [str(tmp_path), "--add", "mine.parquet", "--made_of", "written by hand"]
    assert push.main(added) == 2
    assert "add --title, --source and --license" in capsys.readouterr().err
    push.main([*added, "--title", "Mine", "--source", "my desk", "--license", "cc0-1.0"])
    card = read_card(tmp_path)
    assert (card.title, card.licence_id, card.files["mine.parquet"].rows) == ("Mine", "cc0-1.0", 1)
