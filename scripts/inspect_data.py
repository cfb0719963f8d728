#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Inspect one data file, or a file of questions and the file of their rephrasings: schema, lengths, pairs, samples.

--drop-invalid FOLDER writes both files there without the pairs that a validator objects to, row by row as they were.

Exit status: 0 without problems, 1 with problems (what training refuses; of what was written, with --drop-invalid),
2 for a file that cannot be read or written.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq

from co_rewarding.storage.files import atomic_write
from co_rewarding.storage.rows import read_rows
from co_rewarding.tools.data.inspection import draw_samples, inspect_file, inspect_pair, objections
from co_rewarding.tools.data.inspection_page import as_json, as_page, as_text

BATCH = 1000  # prompts between two lines of progress


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="a parquet file, and its rephrased twin")
    parser.add_argument("--tokenizer", help="folder or hub id; without it lengths are in characters only")
    parser.add_argument("--max_prompt_length", type=int, default=512, help="in tokens, as in training (default 512)")
    parser.add_argument("--num_samples", type=int, default=5, help="random rows to show side by side (default 5)")
    parser.add_argument("--seed", type=int, default=0, help="chooses the samples (default 0)")
    parser.add_argument("--html", type=Path, metavar="OUT.html", help="also write the report as a page")
    parser.add_argument("--json", type=Path, metavar="OUT.json", help="also write the findings with all their rows")
    parser.add_argument(
        "--skip_validators", default="", metavar="NAME,...", help="validators of rephrasings that are not asked"
    )
    parser.add_argument(
        "--drop-invalid", "--drop_invalid", type=Path, metavar="FOLDER",
        help="write both files to this folder, without the pairs that a validator objects to",
    )  # fmt: skip
    args = parser.parse_args(arguments)
    if len(args.files) > 2:
        parser.error(f"{len(args.files)} files: name one, or two that pair up")
    if args.drop_invalid and len({path.name for path in args.files}) < 2:
        parser.error("--drop-invalid: name two files that pair up, of different names")
    if args.drop_invalid and args.drop_invalid.resolve() in [path.resolve().parent for path in args.files]:
        parser.error(f"--drop-invalid {args.drop_invalid}: the files themselves are there; name another folder")
    if args.num_samples < 0:
        parser.error(f"--num_samples {args.num_samples}: must not be negative")
    if args.max_prompt_length < 1:
        parser.error(f"--max_prompt_length {args.max_prompt_length}: must be at least 1")

    try:
        files = [read_rows(path) for path in args.files]
        count_tokens = token_counter(args.tokenizer) if args.tokenizer else None
        reports = [
            inspect_file(str(path), rows, count_tokens, args.max_prompt_length)
            for path, rows in zip(args.files, files, strict=True)
        ]
        pair, invalid = None, frozenset()
        if len(files) == 2:
            pair = inspect_pair(files[0], files[1], (str(args.files[0]), str(args.files[1])))
            if pair.length_ratio is not None:  # they pair up
                found = objections(files[0], files[1], [name for name in args.skip_validators.split(",") if name])
                pair = replace(pair, findings=(*pair.findings, *found))
                invalid = frozenset(row for finding in found for row in finding.rows)
        samples = draw_samples(files, args.num_samples, args.seed)
        print(as_text(reports, pair, samples))
        if args.html:
            args.html.parent.mkdir(parents=True, exist_ok=True)
            args.html.write_text(as_page(reports, pair, samples), encoding="utf-8")
            print(f"\npage: {args.html}")
        if args.json:
            args.json.parent.mkdir(parents=True, exist_ok=True)
            args.json.write_text(as_json(reports, pair), encoding="utf-8")
            print(f"findings: {args.json}")
        if args.drop_invalid:
            if pair is None or pair.length_ratio is None:
                raise ValueError("--drop-invalid: nothing written, the files do not pair up")
            write_without(invalid, args.files, args.drop_invalid)
    except (OSError, ValueError) as error:
        parser.exit(2, f"error: {error}\n")
    findings = [finding for report in [*reports, *([pair] if pair else [])] for finding in report.findings]
    dropped = invalid if args.drop_invalid else frozenset()
    return int(any(finding.is_problem and not dropped.issuperset(finding.rows or {None}) for finding in findings))


def write_without(dropped: Collection[int], paths: Sequence[Path], folder: Path) -> None:
    """The files under their names in `folder`, without some rows; types, other columns and metadata are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in paths:
        table = pq.read_table(path)
        kept = table.take([row for row in range(table.num_rows) if row not in dropped])
        with atomic_write(folder / path.name) as part:
            pq.write_table(kept, part)
        print(f"{folder / path.name}: {kept.num_rows:,} rows, {table.num_rows - kept.num_rows:,} left out")


def token_counter(name: str) -> Callable[[list[list[dict[str, str]]]], list[int]]:
    """Tokens of a prompt through the chat template, with the opening of the answer, as training counts them.

    Raises:
        ValueError: one line; no such tokenizer, it has no chat template, or the template refuses a prompt.
    """
    from jinja2 import TemplateError  # both slow to import, and needed with --tokenizer only
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise ValueError(f"--tokenizer {name}: cannot be loaded ({str(error).strip().splitlines()[0]})") from error
    if not tokenizer.chat_template:
        raise ValueError(f"--tokenizer {name}: has no chat template; use the one of the model to be trained")

    def count(prompts: list[list[dict[str, str]]]) -> list[int]:
        lengths: list[int] = []
        for start in range(0, len(prompts), BATCH):
            batch = prompts[start : start + BATCH]
            try:
                texts = tokenizer.apply_chat_template(batch, add_generation_prompt=True, tokenize=False)
            except TemplateError as error:
                raise ValueError(f"--tokenizer {name}: its chat template refuses a prompt ({error})") from error
            lengths += map(len, tokenizer(texts, add_special_tokens=False)["input_ids"])
            print(f"tokens counted: {len(lengths):,} of {len(prompts):,} prompts", file=sys.stderr, flush=True)
        return lengths

    return count


if __name__ == "__main__":
    sys.exit(main())
