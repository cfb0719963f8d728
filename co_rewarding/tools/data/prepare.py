# SPDX-License-Identifier: Apache-2.0
"""One published set → parquet files in verl's schema and a data card: the command behind scripts/data_preprocess/.

    load → check columns and number of rows → convert → check the questions → first --max_samples → write → card

The same source gives the same bytes. A row keeps its number in the source as `extra_info.index`. A missing ground truth
(2 in MATH, 1 in OpenRS) is counted and written as ""; an empty question is an error. Repeated questions are counted and
kept, so row numbers stay the source's.
"""

from __future__ import annotations

import functools
import statistics
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from co_rewarding.storage.rows import (
    MAX_NAMED,
    arrow_schema,
    content_sha256,
    file_sha256,
    ground_truth,
    make_row,
    question_text,
    write_rows,
)
from co_rewarding.tools.cli import UserError, command
from co_rewarding.tools.data.card import CARD_NAME, Card, FileFacts, read_card, write_card
from co_rewarding.tools.data.loading import check, check_questions, load
from co_rewarding.tools.data.sharing import share
from co_rewarding.tools.data.sources import SOURCES, Source, Split
from co_rewarding.tools.hub import SharingOptions
from co_rewarding.tools.options import Options, option, parse


class PreparingOptions(Options):
    """input and output"""

    local_dir: Path | None = option(None, "folder to write to (default data/NAME, see above)")
    from_files: list[str] = option(
        [],
        "instead of the hub: a folder downloaded from it, or SPLIT=FILE items (parquet, jsonl, json)",
        metavar="FILE",
    )
    revision: str = option("", "commit or branch on the hub (default: the fixed commit)", min_length=1)
    max_samples: int | None = option(None, "keep only the first questions of each split", ge=1)
    any_rows: bool = option(False, "accept a number of rows and questions other than documented")


def main(name: str, arguments: Sequence[str] | None = None) -> int:
    """The command of SOURCES[name]."""
    return command(f"{name}.py")(functools.partial(_main, name))(arguments)


def _main(name: str, arguments: Sequence[str]) -> None:
    source = SOURCES[name]
    folder = Path("data", source.folder)
    outputs = ", ".join(f"{split.output} ({split.num_rows:,} rows, split {split.name})" for split in source.splits)
    about = (
        f"{source.title}, from the hub ({source.repo_id}, commit {source.revision[:8]}) or from local files.\n"
        f"Writes {outputs} to {folder} in verl's schema.\n\n{textwrap.fill(source.about, 100)}"
    )
    options, sharing = parse(f"{name}.py", about, [PreparingOptions, SharingOptions], arguments)
    if sharing.push_to_hub and not source.may_be_shared:
        raise UserError(f"--push_to_hub: {source.title} may not be redistributed ({source.licence})")
    folder = options.local_dir or folder
    prepare(source, folder, options)
    if sharing.push_to_hub:
        share(folder, sharing.push_to_hub, upload=sharing.upload, public=sharing.public)


def prepare(source: Source, folder: Path, options: PreparingOptions) -> None:
    """Write the files and the card, and print a summary.

    Raises:
        ValueError: see `loading.load`, `loading.check`, `convert_rows`, `card.read_card`.
    """
    read_card(folder)  # report a foreign README.md before the download
    rows_of, origin = load(source, options.revision or source.revision, options.from_files)
    converted = {}
    for split in source.splits:
        if split.name in rows_of:
            check(source, split, rows_of[split.name], any_rows=options.any_rows)
            converted[split] = convert_rows(source, split, rows_of[split.name])
            if not options.any_rows:
                check_questions(source, split, [question_text(row) or "" for row in converted[split]])
    files = {}
    for split, all_rows in converted.items():
        rows, path = all_rows[: options.max_samples], folder / split.output
        write_rows(rows, path, arrow_schema(tuple(source.extra)))
        kept = f", of which the first {len(rows):,}" if len(rows) < len(all_rows) else ""
        files[split.output] = FileFacts(
            split=split.role,
            rows=len(rows),
            made_of=f"{origin.of_split[split.name]}, {len(all_rows):,} rows{kept}",
            revision=origin.revision,
            file_sha256=file_sha256(path),
            content_sha256=content_sha256([question_text(row), ground_truth(row)] for row in rows),
        )
        print(f"{path}: {summary(rows)}")
    card = Card(
        title=source.title,
        source=source.repo_id,
        licence=source.licence,
        licence_id=source.licence_id,
        may_be_shared=source.may_be_shared,
        files=files,
    )
    write_card(card, folder)
    print(f"{folder / CARD_NAME}: data card ({source.licence}; revision {origin.revision or 'unknown'})")


def convert_rows(source: Source, split: Split, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows in verl's schema, in the order of the source.

    Raises:
        ValueError: names the first row that cannot be read, and why.
    """
    converted = []
    for index, row in enumerate(rows):
        question = row[source.question]
        try:
            if not isinstance(question, str):
                raise ValueError(f"its question {question!r:.60} is not text")
            if not question.strip():
                raise ValueError("its question is empty")
            truth = source.truth(row[source.answer])
        except ValueError as error:
            raise UserError(f"{source.repo_id}, split {split.name}, row {index}: {error}") from error
        extra = {name: template.format(row[column]) for name, (column, template) in source.extra.items()}
        converted.append(make_row(source.repo_id, question, truth, index, split.role, extra))
    return converted


def summary(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows, missing ground truths, repeated questions and lengths in characters, in one line."""
    questions = [question_text(row) or "" for row in rows]
    unlabelled = [i for i, row in enumerate(rows) if not ground_truth(row).strip()]
    named = f" (row {', '.join(map(str, unlabelled[:MAX_NAMED]))}{', …' * (len(unlabelled) > MAX_NAMED)})"
    lengths = [len(question) for question in questions]
    return (
        f"{len(rows):,} rows; {len(unlabelled)} without a ground truth{named if unlabelled else ''}; "
        f"{len(questions) - len(set(questions))} repeated questions; "
        f"questions of {min(lengths)} to {max(lengths)} characters, median {statistics.median(lengths):.0f}"
    )
