# SPDX-License-Identifier: Apache-2.0
"""Any file of questions → data/NAME/train.parquet and test.parquet in verl's schema, and a data card: the command
behind scripts/data_preprocess/my_questions.py.

    read (storage/questions.py) → merge repeated questions → split by the hash of each question → write → card → show

With a file of rephrased questions, those of the training rows are written beside them, and nothing of a held-out one.
Whether a question is in training or held out depends only on its text, so it stays there when rows are added. Of a
repeated question the first row is kept; if its answers differ, it gets none.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import field_validator, model_validator

from co_rewarding.algo.answer_format import absolute_spec
from co_rewarding.storage.choices import ANSWERS, AnswerIs
from co_rewarding.storage.columns import Columns
from co_rewarding.storage.questions import SCHEMA, Reading, is_verl_parquet, to_table
from co_rewarding.storage.raw_table import RawTable, files_of, read_raw
from co_rewarding.storage.rows import (
    MAX_NAMED,
    content_sha256,
    file_sha256,
    ground_truth,
    question_id,
    question_text,
    write_rows,
)
from co_rewarding.storage.wordings import normalized
from co_rewarding.tools.cli import UserError, command, one_line, printable, progress, visible
from co_rewarding.tools.data.card import CARD_NAME, Card, FileFacts, read_card, write_card
from co_rewarding.tools.data.loading import HUB
from co_rewarding.tools.data.questions import instruction_of
from co_rewarding.tools.options import REQUIRED, Options, option, parse
from co_rewarding.tools.tables import to_markdown

PROGRAM = "my_questions.py"
DESCRIPTION = """\
Your own questions as parquet in verl's schema, with a held-out part: from CSV, TSV, JSONL, JSON (an array of objects,
or an object with one), parquet, a folder of such files, or a data set on the hub. Only the questions are needed.

  python scripts/data_preprocess/my_questions.py quiz.csv
  python scripts/data_preprocess/my_questions.py quiz.jsonl --question text --answer key --held_out 200
  python scripts/data_preprocess/my_questions.py quiz.csv --rephrased reworded.csv    # pairs, for I and III
  python scripts/data_preprocess/my_questions.py owner/name:train

Training, rewriting, evaluation and inspection read such files directly, too; this command adds the split, merges
repeated questions, and has options for what cannot be guessed."""
_HUB_ID = re.compile(r"([\w.-]+/[\w.-]+)(?::([\w.+-]+))?")
LONGEST = 1000  # characters shown of the prompt


class Table(Options):
    """the questions"""

    file: str = option(REQUIRED, "file, folder, or OWNER/NAME[:SPLIT] on the hub", metavar="FILE", positional=True)
    question: str | None = option(None, "column of the questions (found by its name)", metavar="COLUMN")
    answer: str | None = option(None, 'column of the answers (found by its name; "": there are none)', metavar="COLUMN")
    choices: str | None = option(
        None, 'column of the options, or one per option, separated by commas (found; "": none)', metavar="COLUMN[,...]"
    )
    id: str | None = option(None, 'column of the ids (found; "": none)', metavar="COLUMN")
    context: str | None = option(
        None, 'column of a passage to read before the question (found; "": none)', metavar="COLUMN"
    )
    answer_is: AnswerIs | None = option(
        None, "kind of the answers of choice questions (decided from all of them): "
        + "; ".join(f"{kind}: {words}" for kind, words in ANSWERS.items()),
    )  # fmt: skip
    config: str | None = option(None, "configuration of a data set on the hub that has several", metavar="NAME")
    rephrased: str | None = option(None, "file of the same questions rephrased, row by row", metavar="FILE")


class Asking(Options):
    """prompts"""

    answer_format: str = option(
        "", "answer format: boxed, choice, number, tag, regex:PATTERN, FILE.py:FUNCTION (choice "
        "if there are choices, else boxed)", metavar="SPEC",
    )  # fmt: skip
    system_prompt: str | None = option(None, 'text, or a file with it (the format\'s; "": none)', metavar="TEXT|FILE")

    @field_validator("answer_format")
    @classmethod
    def _known(cls, spec: str) -> str:
        instruction_of(spec)
        return absolute_spec(spec)  # training may be started in another folder


class Writing(Options):
    """output"""

    held_out: float = option(0.1, "questions for test.parquet: a share below 1, or a number; 0: none", ge=0)
    name: str = option("", "name of the set (the file's)", metavar="NAME")
    local_dir: Path | None = option(None, "folder to write to (data/NAME)")
    license: str = option("", "licence of the questions, for the card: the hub's identifier, e.g. mit", metavar="ID")
    num_shown: int = option(5, "number of first rows shown", ge=0)

    @model_validator(mode="after")
    def _whole(self) -> Writing:
        if self.held_out > 1 and self.held_out != int(self.held_out):
            raise ValueError(f"--held_out {self.held_out}: must be a share below 1, or a whole number of questions")
        return self


@dataclass(frozen=True)
class Source:
    """Raw rows and their origin."""

    raw: RawTable
    name: str
    where: str  # in words
    revision: str = ""


@command(PROGRAM)
def main(arguments: Sequence[str]) -> None:
    table, asking, writing = parse(PROGRAM, DESCRIPTION, [Table, Asking, Writing], arguments)
    source = _read(table.file, table.config)
    name = writing.name or source.name
    folder = writing.local_dir or Path("data", name)
    read_card(folder)  # report a foreign README.md before the work
    rows = _rows(table.file, source, name, table, asking)
    kept, remark = merged(rows)
    if remark:
        print(f"{table.file}: {remark}")
    train, test = split(kept, writing.held_out)
    pairs: list[dict[str, Any]] = []
    if table.rephrased:  # read before anything is written
        other = _read(table.rephrased, None)
        twins = _rows(table.rephrased, other, name, table, asking)
        if len(twins) != len(rows):
            raise UserError(
                f"--rephrased {table.rephrased}: has {len(twins):,} rows, and {table.file} {len(rows):,}; they must be "
                "the same questions, row by row"
            )
        pairs = rephrasings(train, rows, twins)
    files = _written("train", train, folder, source)
    if table.rephrased:
        files |= _written("train", pairs, folder, other, "_rephrased")
    files |= _written("test", test, folder, source)
    write_card(_card(name, source.where, writing.license, files), folder)
    print(f"{folder / CARD_NAME}: data card")
    if writing.num_shown:
        print("\n" + shown(kept[: writing.num_shown]))


def _rows(file: str, source: Source, name: str, table: Table, asking: Asking) -> list[dict[str, Any]]:
    """Rows in verl's schema; prints how the file was read."""
    if not source.raw.rows:
        raise UserError(f"{file}: no rows")
    said: list[str] = []
    with progress(f"reading {file}", "rows", len(source.raw.rows), delay=2.0) as bar:
        reading = Reading(
            instruction_of,
            asking.answer_format,
            Columns(table.question, table.answer, table.choices, table.id, table.context),
            table.answer_is,
            _text_or_file(asking.system_prompt),
            said.append,
            bar.update,
        )
        try:
            rows = to_table(source.raw, name, reading).to_pylist()
        except ValueError as error:
            raise UserError(f"{file}: {error}") from error
    print(f"{file}: {'; '.join(said)}")
    return rows


def _written(
    part: str, rows: Sequence[Mapping[str, Any]], folder: Path, source: Source, ending: str = ""
) -> dict[str, FileFacts]:
    """Write PART+ENDING.parquet if there are rows; return its entry for the card."""
    if not rows:
        return {}
    path = folder / f"{part}{ending}.parquet"
    write_rows([{**row, "extra_info": {**row["extra_info"], "split": part}} for row in rows], path, SCHEMA)
    print(f"{path}: {len(rows):,} questions")
    facts = FileFacts(
        split=part,
        rows=len(rows),
        made_of=f"{source.where}, {len(source.raw.rows):,} rows",
        revision=source.revision,
        file_sha256=file_sha256(path),
        content_sha256=content_sha256([question_text(row), ground_truth(row)] for row in rows),
    )
    return {path.name: facts}


def rephrasings(
    kept: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]], twins: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """The other view of each kept row, with the kept row's ids and ground truth.

    Args:
        kept: some of `rows`, in any order.
        twins: the rephrased questions, row by row of `rows`.
    """
    twin_of = dict(zip(map(question_id, rows), twins, strict=True))
    same = ("extra_info", "reward_model", "id")
    return [twin_of[question_id(row)] | {name: row[name] for name in same} for row in kept]


def merged(rows: Sequence[Mapping[str, Any]]) -> tuple[list[dict[str, Any]], str]:
    """Rows of different questions, and a description of the merging."""
    first: dict[str, dict[str, Any]] = {}
    answers: dict[str, set[str]] = {}
    for row in rows:
        key = _key(row)
        first.setdefault(key, dict(row))
        answers.setdefault(key, set()).update({ground_truth(row).strip()} - {""})
    disputed = [key for key, found in answers.items() if len(found) > 1]
    for key, row in first.items():
        truth = next(iter(answers[key]), "") if key not in disputed else ""
        row["reward_model"] = {**row["reward_model"], "ground_truth": truth}
    if len(first) == len(rows):
        return list(first.values()), ""
    remark = f"{len(rows) - len(first):,} rows repeat an earlier question and are merged with it"
    if disputed:
        ids = ", ".join(str(question_id(first[key])) for key in disputed[:MAX_NAMED])
        more = ", …" * (len(disputed) > MAX_NAMED)
        remark += f"; the answers of {len(disputed):,} questions differ and are dropped (extra_info.index {ids}{more})"
    return list(first.values()), remark


def split(rows: Sequence[dict[str, Any]], held_out: float) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(training, held out), each in the order of the rows.

    Args:
        held_out: a share below 1 of all hashes, or a number of rows: those with the smallest hashes.

    Raises:
        ValueError: no training questions would remain.
    """
    places = [int.from_bytes(hashlib.sha256(_key(row).encode()).digest(), "big") / 2**256 for row in rows]
    bound = held_out if held_out < 1 else sorted(places)[min(int(held_out), len(places)) - 1]
    is_out = [place < bound if held_out < 1 else place <= bound for place in places]
    if all(is_out):
        raise UserError(f"--held_out {held_out:g}: none of {len(rows):,} questions remains to train on; hold out fewer")
    parts = [[row for row, out in zip(rows, is_out, strict=True) if out is wanted] for wanted in (False, True)]
    return parts[0], parts[1]


def shown(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as a table, and the first prompt as sent to the model."""
    table = [
        {
            "index": question_id(row),
            "question": printable(question_text(row), 70),
            "choices": len(row["choices"] or []) or None,
            "answer": printable(ground_truth(row), 30) or None,
            "format": printable(row["answer_format"] or "boxed", 30),
        }
        for row in rows
    ]
    prompt = "\n".join(f"[{message['role']}] {visible(message['content'], LONGEST)}" for message in rows[0]["prompt"])
    return f"{to_markdown(pd.DataFrame(table))}\n\nthe first prompt, as sent to the model:\n{prompt}"


def _key(row: Mapping[str, Any]) -> str:
    """The question normalised in spaces and Unicode, with its options."""
    return unicodedata.normalize("NFC", normalized(question_text(row) or ""))


def _read(file: str, config: str | None) -> Source:
    path, hub = Path(file).expanduser(), _HUB_ID.fullmatch(file)
    if hub and not path.exists():
        return _from_hub(hub[1], hub[2], config)
    if config:
        raise UserError(f"--config {config}: applies to data sets on the hub, and {file} is none")
    files = files_of(path)
    if all(map(is_verl_parquet, files)):
        raise UserError(f"{file}: is already in verl's schema; train, rewrite and evaluate with it directly")
    hashes = ", ".join(f"{one.name} (SHA-256 {file_sha256(one)})" for one in files)
    return Source(read_raw(path), path.resolve().stem, f"local file {hashes}")


def _from_hub(repo: str, split_name: str | None, config: str | None) -> Source:
    import datasets  # slow to import, and not needed with local files
    import httpx
    import huggingface_hub

    try:
        revision = None
        if not huggingface_hub.constants.HF_HUB_OFFLINE:
            # fails within a second without a network; load_dataset tries for half a minute
            revision = huggingface_hub.HfApi().dataset_info(repo, timeout=30).sha
        found = datasets.load_dataset(repo, config, split=split_name, revision=revision)
    except (OSError, ValueError, httpx.HTTPError, datasets.exceptions.DatasetsError) as error:
        raise UserError(
            f"{repo}: no such file, and not loadable from the hub ({type(error).__name__}: {one_line(error)}); on "
            f"a machine with a network: hf download {repo} --repo-type dataset --local-dir NAME; then pass the folder "
            "of its files"
        ) from error
    if isinstance(found, dict):
        if len(found) > 1:
            raise UserError(f"{repo}: has the splits {', '.join(found)}; choose one: {repo}:{next(iter(found))}")
        found = next(iter(found.values()))
    raw = RawTable(tuple(found.column_names), found.to_list())
    where = f"{HUB}/{repo}" + (f", split {split_name}" if split_name else "")
    return Source(raw, repo.rpartition("/")[2], where, revision or "")


def _text_or_file(given: str | None) -> str | None:
    if given is None or not given.strip():
        return given and given.strip()
    try:
        path = Path(given).expanduser()
        return path.read_text(encoding="utf-8-sig").strip() if path.is_file() else given
    except OSError:  # a text too long for a file name
        return given
    except UnicodeDecodeError as error:
        raise UserError(f"--system_prompt {given}: is no text in UTF-8 ({error.reason})") from error


def _card(name: str, where: str, licence: str, files: Mapping[str, FileFacts]) -> Card:
    return Card(
        title=name,
        source=where,
        licence=licence or f"not given; set it with --license of {PROGRAM}",
        licence_id=licence or "unknown",
        may_be_shared=bool(licence),
        files=files,
    )
