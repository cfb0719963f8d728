# SPDX-License-Identifier: Apache-2.0
"""A published set: where it is, what its columns hold, how many rows it has, and how to get it.

From the hub at a fixed commit through the `datasets` library, or from local files in the same column layout. Both ways
give the same rows, and both are checked: columns, documented number of rows and, where it is known, a hash of the
questions.

Degenerate cases: a revision that is a branch is resolved to its commit first, which the data card then names;
with HF_HUB_OFFLINE set nothing is resolved and the local cache answers.

Deliberately absent: writing (prepare.py).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from co_rewarding.storage.rows import content_sha256, file_sha256, read_rows

HUB = "https://huggingface.co/datasets"
# data_source of rows that may be used here and not passed on, under whatever name and card
NOT_TO_BE_SHARED = frozenset({"AI-MO/aimo-validation-amc"})


@dataclass(frozen=True)
class Example:
    """One question: its text, its ground truth ("" where there is none) and further columns."""

    question: str
    ground_truth: str
    extra: Mapping[str, str]


@dataclass(frozen=True)
class Split:
    """A part of a set."""

    name: str  # on the hub
    num_rows: int  # documented; checked
    hub_files: str  # pattern of its files in the hub repository
    output: str  # name of the parquet file made of it
    role: str  # "train" or "test", in extra_info.split
    questions_sha256: str | None = None  # content_sha256 of the questions in order; None: not known, not checked


@dataclass(frozen=True)
class Source:
    """A set. `convert` raises ValueError, without naming the row, for one that it cannot read."""

    name: str  # of the folder below data/
    title: str
    repo_id: str  # on the hub; also the rows' data_source
    revision: str  # commit
    licence: str  # as the hub's page or the authors say; one phrase
    licence_id: str  # the hub's identifier
    columns: tuple[str, ...]  # that `convert` reads
    splits: tuple[Split, ...]
    convert: Callable[[Mapping[str, Any]], Example]
    config: str | None = None
    extra_columns: tuple[str, ...] = ()
    note: str = ""  # for the card

    @property
    def may_be_shared(self) -> bool:
        return self.repo_id not in NOT_TO_BE_SHARED


@dataclass(frozen=True)
class Origin:
    """Where the rows came from, as the data card tells it."""

    of_split: Mapping[str, str]  # per split: repository, or file names and their hashes
    revision: str  # commit; "" for local files


def load(source: Source, revision: str, files: Sequence[str]) -> tuple[dict[str, list[dict[str, Any]]], Origin]:
    """Rows of each split by its name, unchecked, and where they came from: the hub, or local `files` if there are any.

    Raises:
        ValueError: one line; no network or an unknown revision (says what to download and where to put it), or files
            that are missing, unreadable or of an unknown split.
    """
    return _from_files(source, files) if files else _from_hub(source, revision)


def check(source: Source, split: Split, rows: Sequence[Mapping[str, Any]], *, any_rows: bool) -> None:
    """Raise unless `rows` are the documented ones.

    Args:
        any_rows: accept any number of rows and any questions; the columns must be right all the same.

    Raises:
        ValueError: one line naming the split, what is there and what was expected.
    """
    if not rows:
        raise ValueError(f"{source.repo_id}, split {split.name}: no rows")
    for index, row in enumerate(rows):  # rows of a JSON file may differ
        if missing := [column for column in source.columns if column not in row]:
            raise ValueError(
                f"{source.repo_id}, split {split.name}, row {index}: no column {', '.join(missing)}; "
                f"found {', '.join(row)}, expected {', '.join(source.columns)}"
            )
    if any_rows:
        return
    if len(rows) != split.num_rows:
        raise ValueError(
            f"{source.repo_id}, split {split.name}: {len(rows)} rows instead of {split.num_rows}; "
            "download it again, or take it as it is with --any_rows"
        )


def check_questions(source: Source, split: Split, questions: Sequence[str], *, any_rows: bool) -> None:
    """Raise if the hash of all questions is known and another one.

    Raises:
        ValueError: one line naming both hashes.
    """
    if any_rows or split.questions_sha256 is None:
        return
    found = content_sha256(questions)
    if found != split.questions_sha256:
        raise ValueError(
            f"{source.repo_id}, split {split.name}: other questions, or another order, than the published Co-rewarding "
            f"files have (SHA-256 {found[:12]}… instead of {split.questions_sha256[:12]}…); "
            "a rephrased file made for those does not pair up with it; take it as it is with --any_rows"
        )


def _from_hub(source: Source, revision: str) -> tuple[dict[str, list[dict[str, Any]]], Origin]:
    import datasets  # slow to import, and not needed with local files
    import httpx
    import huggingface_hub

    try:
        if not huggingface_hub.constants.HF_HUB_OFFLINE:
            # Answers within a second where there is no network; load_dataset tries for half a minute.
            revision = huggingface_hub.HfApi().dataset_info(source.repo_id, revision=revision, timeout=30).sha
        rows = {}
        for split in source.splits:
            print(f"downloading {source.repo_id}, split {split.name}, revision {revision}", flush=True)
            part = datasets.load_dataset(source.repo_id, source.config, split=split.name, revision=revision)
            rows[split.name] = part.to_list()
    except (OSError, httpx.HTTPError, datasets.exceptions.DatasetsError) as error:
        raise ValueError(no_network_message(source, revision, error)) from error
    return rows, Origin({name: f"{HUB}/{source.repo_id}, split {name}" for name in rows}, revision)


def no_network_message(source: Source, revision: str, error: BaseException) -> str:
    """What to download from where, where to put it, and how to go on."""
    cause = (str(error).strip().splitlines() or [""])[0]
    folder = f"downloads/{source.name}"
    wanted = " ".join(f"--include '{split.hub_files}'" for split in source.splits)
    return (
        f"{source.repo_id} at revision {revision} could not be had from the hub "
        f"({type(error).__name__}: {cause[:200]}).\n"
        f"  On a machine with a network: hf download {source.repo_id} --repo-type dataset --revision {revision} "
        f"{wanted} --local-dir {folder}\n"
        f"  or by hand from {HUB}/{source.repo_id}/tree/{revision}: "
        f"{', '.join(split.hub_files for split in source.splits)}\n"
        f"  Copy the folder here, then add: --from_files {folder}   (unknown revision: --revision main)"
    )


def _from_files(source: Source, files: Sequence[str]) -> tuple[dict[str, list[dict[str, Any]]], Origin]:
    paths = local_paths(source, files)
    rows, of_split = {}, {}
    for name, parts in paths.items():
        rows[name] = []
        for path in parts:
            print(f"reading {path}", flush=True)
            rows[name] += read_rows(path) if path.suffix == ".parquet" else _read_json(path)
        of_split[name] = ", ".join(f"local file {path.name} (SHA-256 {file_sha256(path)})" for path in parts)
    return rows, Origin(of_split, "")


def local_paths(source: Source, files: Sequence[str]) -> dict[str, list[Path]]:
    """Which local files hold which split.

    Args:
        files: a folder downloaded from the hub, or `SPLIT=FILE` items, or one bare file where the set has one split.

    Raises:
        ValueError: one line naming the item and what it should be.
    """
    names = [split.name for split in source.splits]
    if len(files) == 1 and Path(files[0]).is_dir():
        folder = Path(files[0])
        found = {split.name: sorted(folder.glob(split.hub_files)) for split in source.splits}
        for split in source.splits:
            if not found[split.name]:
                raise ValueError(
                    f"--from_files {folder}: no {split.hub_files} in this folder, which is where the hub has the split "
                    f"{split.name}; name the file with --from_files {split.name}=FILE"
                )
        return found
    paths: dict[str, list[Path]] = {}
    for item in files:
        name, mark, path = item.partition("=")
        if not mark and len(names) == 1:
            name, path = names[0], item
        if name not in names:
            raise ValueError(
                f"--from_files {item}: use a folder downloaded from the hub, or SPLIT=FILE with SPLIT one of "
                f"{', '.join(names)}"
            )
        if not Path(path).is_file():
            raise ValueError(f"--from_files {item}: {path} is {'not a file' if Path(path).exists() else 'missing'}")
        if Path(path).suffix not in (".parquet", ".jsonl", ".json"):
            raise ValueError(f"--from_files {item}: use a .parquet, .jsonl or .json file")
        paths.setdefault(name, []).append(Path(path))
    return paths


def _read_json(path: Path) -> list[dict[str, Any]]:
    """Rows of a JSON array of objects, or of one object a line."""
    try:
        text = path.read_text(encoding="utf-8")
        rows = json.loads(text) if text.lstrip().startswith("[") else [json.loads(x) for x in text.split("\n") if x]
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: not readable as JSON ({error})") from error
    if not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"{path}: every row must be a JSON object")
    return rows
