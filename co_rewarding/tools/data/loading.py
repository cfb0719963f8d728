# SPDX-License-Identifier: Apache-2.0
"""The rows of a published set: from the hub at a fixed commit, or from local files in the same column layout.

Both give the same rows, and both are checked: columns, documented number of rows and, if known, a hash of the
questions. A branch is resolved to its commit first, which the data card then names; with HF_HUB_OFFLINE set nothing is
resolved and the local cache is used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from co_rewarding.storage.raw_table import read_raw
from co_rewarding.storage.rows import content_sha256, file_sha256
from co_rewarding.tools.cli import UserError, one_line
from co_rewarding.tools.data.sources import Source, Split

HUB = "https://huggingface.co/datasets"


@dataclass(frozen=True)
class Origin:
    """The origin of the rows, for the data card."""

    of_split: Mapping[str, str]  # per split: repository, or file names and their hashes
    revision: str  # commit; "" for local files


def load(source: Source, revision: str, files: Sequence[str]) -> tuple[dict[str, list[dict[str, Any]]], Origin]:
    """Unchecked rows of each split by name, and their origin: the hub, or local `files` if given.

    Raises:
        ValueError: no network or an unknown revision (with download instructions), or files that are missing,
        unreadable or of an unknown split.
    """
    return _from_files(source, files) if files else _from_hub(source, revision)


def check(source: Source, split: Split, rows: Sequence[Mapping[str, Any]], *, any_rows: bool) -> None:
    """Raise unless `rows` are the documented ones.

    Args:
        any_rows: accept any number of rows; the columns must still be right.

    Raises:
        ValueError: names the split, the value found and the expected one.
    """
    where = f"{source.repo_id}, split {split.name}"
    if not rows:
        raise UserError(f"{where}: no rows")
    for index, row in enumerate(rows):  # rows of a JSON file may differ
        if missing := [column for column in source.columns if column not in row]:
            raise UserError(
                f"{where}, row {index}: no column {', '.join(missing)}; "
                f"found {', '.join(row)}, expected {', '.join(source.columns)}"
            )
    if len(rows) != split.num_rows and not any_rows:
        raise UserError(
            f"{where}: {len(rows)} rows instead of {split.num_rows}; download it again, or accept it with --any_rows"
        )


def check_questions(source: Source, split: Split, questions: Sequence[str]) -> None:
    """Raise if the hash of all questions is known and differs.

    Raises:
        ValueError: names both hashes.
    """
    known = split.questions_sha256
    if known is not None and (found := content_sha256(questions)) != known:
        raise UserError(
            f"{source.repo_id}, split {split.name}: questions or order differ from the published Co-rewarding "
            f"files (SHA-256 {found[:12]}… instead of {known[:12]}…); "
            "a rephrased file made for those does not pair up with it; --any_rows accepts it"
        )


def _from_hub(source: Source, revision: str) -> tuple[dict[str, list[dict[str, Any]]], Origin]:
    import datasets  # slow to import, and not needed with local files
    import httpx
    import huggingface_hub

    try:
        if not huggingface_hub.constants.HF_HUB_OFFLINE:
            # Fails within a second without a network; load_dataset tries for half a minute.
            revision = huggingface_hub.HfApi().dataset_info(source.repo_id, revision=revision, timeout=30).sha
        rows = {}
        for split in source.splits:
            print(f"downloading {source.repo_id}, split {split.name}, revision {revision}", flush=True)
            part = datasets.load_dataset(source.repo_id, source.config, split=split.name, revision=revision)
            rows[split.name] = part.to_list()
    except (OSError, httpx.HTTPError, datasets.exceptions.DatasetsError) as error:
        raise UserError(no_network_message(source, revision, error)) from error
    return rows, Origin({name: f"{HUB}/{source.repo_id}, split {name}" for name in rows}, revision)


def no_network_message(source: Source, revision: str, error: BaseException) -> str:
    """Download instructions and the command to use the files."""
    folder = f"downloads/{source.folder}"
    patterns = [split.hub_files for split in source.splits]
    wanted = " ".join(f"--include '{pattern}'" for pattern in patterns)
    return (
        f"{source.repo_id} at revision {revision} could not be loaded from the hub "
        f"({type(error).__name__}: {one_line(error)}).\n"
        f"  On a machine with a network: hf download {source.repo_id} --repo-type dataset --revision {revision} "
        f"{wanted} --local-dir {folder}\n"
        f"  or by hand from {HUB}/{source.repo_id}/tree/{revision}: {', '.join(patterns)}\n"
        f"  Copy the folder here, then add: --from_files {folder}   (unknown revision: --revision main)"
    )


def _from_files(source: Source, files: Sequence[str]) -> tuple[dict[str, list[dict[str, Any]]], Origin]:
    rows, of_split = {}, {}
    for name, paths in local_paths(source, files).items():
        print(f"reading {', '.join(map(str, paths))}", flush=True)
        rows[name] = [row for path in paths for row in read_raw(path).rows]
        of_split[name] = ", ".join(f"local file {path.name} (SHA-256 {file_sha256(path)})" for path in paths)
    return rows, Origin(of_split, "")


def local_paths(source: Source, files: Sequence[str]) -> dict[str, list[Path]]:
    """The local files of each split.

    Args:
        files: a folder downloaded from the hub, or `SPLIT=FILE` items, or one bare file if the set has one split.

    Raises:
        ValueError: names the item and what it should be.
    """
    names = [split.name for split in source.splits]
    paths: dict[str, list[Path]] = {}
    if len(files) == 1 and Path(files[0]).is_dir():
        for split in source.splits:
            paths[split.name] = sorted(Path(files[0]).glob(split.hub_files))
            if not paths[split.name]:
                raise UserError(
                    f"--from_files {files[0]}: no {split.hub_files} in this folder, where the hub has the "
                    f"split {split.name}; name the file with --from_files {split.name}=FILE"
                )
        return paths
    for item in files:
        name, mark, path = item.partition("=")
        if not mark and len(names) == 1:
            name, path = names[0], item
        if name not in names:
            raise UserError(
                f"--from_files {item}: use a folder downloaded from the hub, or SPLIT=FILE with SPLIT one of "
                f"{', '.join(names)}"
            )
        paths.setdefault(name, []).append(Path(path))
    return paths
