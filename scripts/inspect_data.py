#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Inspect one data file, or a pair of original and rephrased files: schema, lengths, pairs, samples.

--drop_invalid FOLDER writes both files there without the pairs that a validator objects to, rows otherwise unchanged.

Exit status: 0 without problems, 1 with problems (that training refuses; with --drop_invalid, of the written files), 2
for a file that cannot be read or written.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import model_validator

from co_rewarding.storage.files import atomic_write, atomic_write_text
from co_rewarding.tools.cli import UserError, command, one_line, progress
from co_rewarding.tools.data.inspection import draw_samples, inspect_file, inspect_pair, objections
from co_rewarding.tools.data.inspection_page import as_json, as_page, as_text
from co_rewarding.tools.data.questions import read_table
from co_rewarding.tools.options import REQUIRED, Names, Options, option, parse

BATCH = 1000  # prompts between two updates of the progress


class InspectionOptions(Options):
    """inspection"""

    files: list[Path] = option(
        REQUIRED, "a file of questions, and its rephrased version", metavar="FILE", positional=True
    )
    answer_format: str = option("", "answer format of rows that name none, as ANSWER_FORMAT of a run", metavar="SPEC")
    tokenizer: str = option("", "folder or hub id; without it lengths are in characters only")
    max_prompt_length: int = option(512, "in tokens, as in training", ge=1)
    num_samples: int = option(5, "random rows to show side by side, and as many of those with findings", ge=0)
    seed: int = option(0, "seed of the samples (default 0)")
    html: Path | None = option(None, "also write the report as a page", metavar="OUT.html")
    json_: Path | None = option(None, "also write the findings with all their rows", metavar="OUT.json")
    skip_validators: Names = option((), "validators of rephrasings to skip", metavar="NAME,...")
    drop_invalid: Path | None = option(
        None, "write both files to this folder, without the pairs that a validator objects to", metavar="FOLDER"
    )

    @model_validator(mode="after")
    def _one_file_or_a_pair(self) -> InspectionOptions:
        if len(self.files) > 2:
            raise ValueError(f"{len(self.files)} files: name one, or two that pair up")
        if self.drop_invalid and len({path.stem for path in self.files}) < 2:
            raise ValueError("--drop_invalid: name two files that pair up, of different names")
        if self.drop_invalid and self.drop_invalid.resolve() in [path.resolve().parent for path in self.files]:
            raise ValueError(f"--drop_invalid {self.drop_invalid}: contains the input files; name another folder")
        return self


@command("inspect_data.py")
def main(arguments: Sequence[str]) -> int:
    (options,) = parse("inspect_data.py", __doc__, [InspectionOptions], arguments)
    names = tuple(map(str, options.files))
    tables = [read_table(path, spec=options.answer_format) for path in options.files]
    files = [table.to_pylist() for table in tables]
    tokenizer = load_tokenizer(options.tokenizer) if options.tokenizer else None
    reports = [
        inspect_file(
            name, rows, tokenizer and functools.partial(count_tokens, tokenizer, name), options.max_prompt_length
        )
        for name, rows in zip(names, files, strict=True)
    ]
    pair, objected, remarkable = None, [], reports[0].findings
    if len(files) == 2:
        pair = inspect_pair(*files, names)
        if pair.length_ratio is not None:  # they pair up
            objected = objections(*files, options.skip_validators)
        remarkable = (*objected, *pair.findings)
        pair = replace(pair, findings=(*pair.findings, *objected))
    samples = draw_samples(files, options.num_samples, options.seed, remarkable)
    print(as_text(reports, pair, samples))
    if options.html:
        atomic_write_text(options.html, as_page(reports, pair, samples))
        print(f"\npage: {options.html}")
    if options.json_:
        atomic_write_text(options.json_, as_json(reports, pair))
        print(f"findings: {options.json_}")
    dropped: frozenset[int] = frozenset()
    if options.drop_invalid:
        if pair is None or pair.length_ratio is None:
            raise UserError("--drop_invalid: nothing written, the files do not pair up")
        dropped = frozenset(row for finding in objected for row in finding.rows)
        write_without(dropped, dict(zip(options.files, tables, strict=True)), options.drop_invalid)
    problems = [f for report in (*reports, pair) if report for f in report.findings if f.is_problem]
    # a problem remains if it concerns the complete file or a row that was not dropped
    return int(any(not finding.rows or not dropped.issuperset(finding.rows) for finding in problems))


def write_without(dropped: Collection[int], tables: Mapping[Path, pa.Table], folder: Path) -> None:
    """The files as parquet in `folder`, without some rows; types, other columns and metadata are kept."""
    for path, table in tables.items():
        kept = table.take([row for row in range(table.num_rows) if row not in dropped])
        written = folder / f"{path.stem}.parquet"
        with atomic_write(written) as part:
            pq.write_table(kept, part)
        print(f"{written}: {kept.num_rows:,} rows, {table.num_rows - kept.num_rows:,} dropped")


def load_tokenizer(name: str) -> Any:
    """A tokenizer with a chat template.

    Raises:
        ValueError: no such tokenizer, or it has no chat template.
    """
    from transformers import AutoTokenizer  # slow to import, and needed with --tokenizer only

    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise UserError(f"--tokenizer {name}: cannot be loaded ({one_line(error)})") from error
    if not tokenizer.chat_template:
        raise UserError(f"--tokenizer {name}: has no chat template; use the tokenizer of the model to be trained")
    return tokenizer


def count_tokens(tokenizer: Any, file: str, prompts: list[list[dict[str, str]]]) -> list[int]:
    """Tokens of each prompt with chat template and generation prompt, counted as in training.

    Raises:
        ValueError: the template refuses a prompt.
    """
    from jinja2 import TemplateError

    lengths: list[int] = []
    with progress(f"counting tokens of {file}", "prompts", len(prompts)) as bar:
        for start in range(0, len(prompts), BATCH):
            batch = prompts[start : start + BATCH]
            try:
                texts = tokenizer.apply_chat_template(batch, add_generation_prompt=True, tokenize=False)
            except TemplateError as error:
                raise UserError(
                    f"--tokenizer: its chat template refuses a prompt of {file} ({one_line(error)})"
                ) from error
            lengths += map(len, tokenizer(texts, add_special_tokens=False)["input_ids"])
            bar.update(len(batch))
    return lengths


if __name__ == "__main__":
    sys.exit(main())
