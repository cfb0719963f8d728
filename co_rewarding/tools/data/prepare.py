# SPDX-License-Identifier: Apache-2.0
"""One published set → parquet files in verl's schema and a data card: the command behind scripts/data_preprocess/.

    load → check columns and number of rows → convert → check the questions → first --max_samples → write → card

The same source gives the same bytes. A row keeps its number in the source as `extra_info.index`.

Degenerate cases: a question may lack its ground truth (2 in MATH, 1 in OpenRS), which is counted and written as "";
an empty question is an error. Repeated questions are counted and kept, so that row numbers stay the source's.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from co_rewarding.storage.rows import (
    MAX_NAMED,
    content_sha256,
    file_sha256,
    ground_truth,
    make_row,
    question_text,
    write_rows,
)
from co_rewarding.tools.data.card import CARD_NAME, Card, FileFacts, read_card, write_card
from co_rewarding.tools.data.sharing import share
from co_rewarding.tools.data.sources import Source, Split, check, check_questions, load
from co_rewarding.tools.hub import add_sharing_options


def main(source: Source, arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=f"{source.title}: {source.repo_id} from the hub, or local files, to parquet in verl's schema.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    outputs = ", ".join(f"{split.output} ({split.num_rows:,} rows)" for split in source.splits)
    names = " or ".join(split.name for split in source.splits)
    parser.add_argument("--local_dir", type=Path, default=Path("data", source.name), help=f"folder for {outputs}")
    parser.add_argument(
        "--from_files",
        nargs="+",
        default=[],
        metavar="FILES",
        help=f"instead of the hub: a folder downloaded from it, or SPLIT=FILE items (parquet, jsonl, json; {names})",
    )
    parser.add_argument("--revision", default=source.revision, help="commit or branch on the hub")
    parser.add_argument("--max_samples", type=int, help="keep only the first questions of each split")
    parser.add_argument(
        "--any_rows", action="store_true", help="accept another number of rows and other questions than documented"
    )
    add_sharing_options(parser)
    args = parser.parse_args(arguments)
    if args.max_samples is not None and args.max_samples < 1:
        parser.error(f"--max_samples {args.max_samples}: must be at least 1")
    if args.upload and not args.push_to_hub:
        parser.error("--upload needs --push_to_hub NAME")
    if args.push_to_hub and not source.may_be_shared:
        parser.error(f"--push_to_hub: {source.title} may not be redistributed ({source.licence})")
    try:
        prepare(source, args.local_dir, args.revision, args.from_files, args.max_samples, any_rows=args.any_rows)
        if args.push_to_hub:
            share(args.local_dir, args.push_to_hub, upload=args.upload, public=args.public)
    except (OSError, ValueError) as error:
        parser.exit(2, f"error: {error}\n")


def prepare(
    source: Source,
    local_dir: Path,
    revision: str,
    from_files: Sequence[str] = (),
    max_samples: int | None = None,
    *,
    any_rows: bool = False,
) -> None:
    """Write the files and the card, and print a summary.

    Raises:
        ValueError: one line; see `sources.load`, `sources.check`, `convert_rows`, `card.read_card`.
    """
    read_card(local_dir)  # a README.md that is not ours is told before the download
    rows_of, origin = load(source, revision, from_files)
    splits = [split for split in source.splits if split.name in rows_of]
    converted = {}
    for split in splits:
        rows = rows_of[split.name]
        check(source, split, rows, any_rows=any_rows)
        converted[split.name] = convert_rows(source, split, rows)
        check_questions(source, split, [question_text(row) for row in converted[split.name]], any_rows=any_rows)
    local_dir.mkdir(parents=True, exist_ok=True)
    files = {}
    for split in splits:
        path, rows = local_dir / split.output, converted[split.name][:max_samples]
        write_rows(rows, path, source.extra_columns)
        files[path.name] = FileFacts(
            split=split.role,
            rows=len(rows),
            made_of=f"{origin.of_split[split.name]}, {len(converted[split.name]):,} rows"
            + (f", of which the first {len(rows):,}" if len(rows) < len(converted[split.name]) else ""),
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
        note=source.note,
        files=files,
    )
    write_card(card, local_dir)
    print(f"{local_dir / CARD_NAME}: data card ({source.licence}; revision {origin.revision or 'not known'})")


def convert_rows(source: Source, split: Split, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows in verl's schema, in the order of the source.

    Raises:
        ValueError: one line naming the first row that cannot be read, and why.
    """
    converted = []
    for index, row in enumerate(rows):
        try:
            example = source.convert(row)
            for name, text in (("question", example.question), ("ground truth", example.ground_truth)):
                if not isinstance(text, str):
                    raise ValueError(f"its {name} {text!r} is not text")
            if not example.question.strip():
                raise ValueError("its question is empty")
        except ValueError as error:
            raise ValueError(f"{source.repo_id}, split {split.name}, row {index}: {error}") from error
        converted.append(
            make_row(source.repo_id, example.question, example.ground_truth, index, split.role, example.extra)
        )
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
