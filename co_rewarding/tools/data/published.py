# SPDX-License-Identifier: Apache-2.0
"""The pairs published by the authors of arXiv 2508.00410: where each file is, and how it is recognised.

    github.com/tmlr-group/Co-rewarding, commit 6c60ea4, Co-rewarding-II/data/SET/{train,test}_{original,rewrite_*}

The rephrasings are by Qwen3-32B. That tree has no licence, so none of it is part of this repository, and files made
from it may not be shared. A file is recognised by git's id of its bytes, or else by a hash of its rows, so the same
rows in another parquet file pass, too. For OpenRS and AMC only eight digits of the ids of the rephrased files are
known, and only the number of rows of the originals.

The same pairs on the hub (TMLR-Group-HF/Co-rewarding-RephrasedMATH, …DAPO-14k, …OpenRS) have an unknown format and are
not read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from co_rewarding.storage.rows import content_sha256, ground_truth, question_id, question_text
from co_rewarding.tools.cli import UserError
from co_rewarding.tools.data.sources import SOURCES, Source

REPOSITORY = "tmlr-group/Co-rewarding"
COMMIT = "6c60ea4"
LICENCE = f"none: github.com/{REPOSITORY} names no licence for its data"
MAX_BYTES = 64 << 20  # of a file of unknown size
MADE_BY = f"rephrased by Qwen3-32B, published in github.com/{REPOSITORY}"
"""The metadata value of their rephrasings (storage.rows.MADE_OF)."""


@dataclass(frozen=True)
class PublishedFile:
    role: str  # original, rephrased or test, as --from_files calls it
    path: str  # in their repository
    num_rows: int
    num_bytes: int | None = None  # None: unknown
    blob: str = ""  # git's id, or its known digits
    rows_sha256: str = ""  # content_sha256 of [index, question, ground truth] of each row

    @property
    def max_bytes(self) -> int:
        return self.num_bytes or MAX_BYTES


@dataclass(frozen=True)
class PublishedPairs:
    source: Source  # the set of the questions
    original: PublishedFile
    rephrased: PublishedFile
    test: PublishedFile | None = None  # the validation file; None: the questions themselves
    is_whole: bool = False  # the original file equals the output of the command of `source`, row by row

    @property
    def files(self) -> tuple[PublishedFile, ...]:
        return tuple(file for file in (self.original, self.rephrased, self.test) if file)


def _set(folder: str, split: str, num_rows: int, original: dict[str, Any], rephrased: dict[str, Any], **more: Any):
    path = f"Co-rewarding-II/data/{folder}/{split}"
    return PublishedPairs(
        original=PublishedFile("original", f"{path}_original.parquet", num_rows, **original),
        rephrased=PublishedFile("rephrased", f"{path}_rewrite_Qwen3-32B.parquet", num_rows, **rephrased),
        **more,
    )


MATH_TEST = PublishedFile(
    "test",
    "Co-rewarding-II/data/math/test.parquet",
    num_rows=5000,
    num_bytes=580346,
    blob="28371244f92c7b55ce7b7f4b960af778601c2e5d",
    rows_sha256="28da5722cdac6b277267f20ed421169076c79ee53459248e8a0833e3d8dbf59a",
)

PUBLISHED: dict[str, PublishedPairs] = {
    "math": _set(
        "math",
        "train",
        7500,
        source=SOURCES["math_dataset"],
        original={
            "num_bytes": 940164,
            "blob": "aae9e7380bc3e621d4bcb8e4547eaabd2e381f9c",
            "rows_sha256": "0d2dd540ca0b8ad8575f6e7fe741ece022089b8a6f128c946c4622f7a999addc",
        },
        rephrased={
            "num_bytes": 974027,
            "blob": "1bb0165cc65d66b96817fe65b1c22c39504c3bf5",
            "rows_sha256": "65e4a6cc6bb5c1c21464e195aafa3204f756f1a1e544440964fc62919c5d246e",
        },
        test=MATH_TEST,
        is_whole=True,
    ),
    "dapo": _set(
        "dapo",
        "train",
        14109,  # of 14,116; index is that of the 14,116
        source=SOURCES["dapo"],
        original={
            "num_bytes": 2315433,
            "blob": "fb1e8bb43de88263b5e0c2c1aaf0eae0eb1f1e6e",
            "rows_sha256": "8a1ecfd4a78226a79bf762f690ecae5db347f14a46dabd5dd52b5606c6730d53",
        },
        rephrased={
            "num_bytes": 2513908,
            "blob": "3113cfef8232ad01f4e1dcc89fccb6bd15fcbd82",
            "rows_sha256": "d7c13df8b4a01d1d6d3668caaaf6d28459720c0abcbe7dad373cd0a030700662",
        },
        test=MATH_TEST,
    ),
    "openrs": _set(
        "open-rs",
        "train",
        6999,  # of 7,000
        source=SOURCES["openrs"],
        original={},
        rephrased={"blob": "d33d63d5"},
        test=MATH_TEST,
    ),
    "amc": _set(
        "AMC-TTT",
        "test",
        83,
        source=SOURCES["amc"],
        original={},
        rephrased={"blob": "ad89204f"},
    ),
}
"""Argument of scripts/data_preprocess/rephrased.py -> the pairs."""


def recognise(file: PublishedFile, content: bytes, rows: Sequence[dict[str, Any]], where: str) -> str:
    """A description of how the file was recognised as the published one.

    Args:
        content: its bytes.
        rows: its rows.
        where: names it in a message.

    Raises:
        ValueError: it is another file, or has another number of rows.
    """
    remedy = f"download {file.path} again, or accept it with --any_rows"
    if len(rows) != file.num_rows:
        raise UserError(f"{where}: {len(rows):,} rows instead of the published {file.num_rows:,}; {remedy}")
    if not file.blob:
        return f"no hash is known: checked by its {file.num_rows:,} rows"
    if (blob := git_blob(content)).startswith(file.blob):
        return f"git blob {file.blob[:8]}, as published"
    if rows_sha256(rows) == file.rows_sha256:
        return "the published rows, in another parquet file"
    raise UserError(f"{where}: not the published file (git blob {blob[:8]}… instead of {file.blob[:8]}…); {remedy}")


def git_blob(content: bytes) -> str:
    """git's id of these bytes: SHA-1 of `blob LENGTH\\0` and the bytes."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def rows_sha256(rows: Sequence[dict[str, Any]]) -> str:
    return content_sha256([question_id(row), question_text(row), ground_truth(row)] for row in rows)
