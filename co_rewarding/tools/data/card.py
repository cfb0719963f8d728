# SPDX-License-Identifier: Apache-2.0
"""The data card: README.md beside the parquet files, which is also the page of the set on the hub.

All facts are in its YAML head under the key `co_rewarding`; the text below is generated from it
(templates/dataset_card.md.jinja). So a card can be read back, checked against its files, and extended by a rephrased
file. Another README.md is never overwritten, and the same files give the same card.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, field, replace
from pathlib import Path

import pandas as pd
import yaml
from huggingface_hub import DatasetCard, DatasetCardData
from pydantic.dataclasses import dataclass

from co_rewarding.storage.files import atomic_write_text
from co_rewarding.storage.rows import file_sha256
from co_rewarding.tools.tables import cell, to_markdown
from co_rewarding.tools.templates import source_of

CARD_NAME = "README.md"
KEY = "co_rewarding"


@dataclass(frozen=True)
class FileFacts:
    """One parquet file of the set."""

    split: str  # "train" or "test"
    rows: int
    made_of: str
    revision: str  # commit of the source on the hub; "" if unknown
    file_sha256: str  # of the bytes
    content_sha256: str  # of questions and ground truths, independent of the file's writer


@dataclass(frozen=True)
class Card:
    """The content of the card."""

    title: str
    source: str  # data set id on the hub, or any phrase
    licence: str  # in words
    licence_id: str  # the hub's identifier, e.g. mit, other, unknown
    may_be_shared: bool
    note: str = ""
    files: Mapping[str, FileFacts] = field(default_factory=dict)


def read_card(folder: Path) -> Card | None:
    """The card of a folder, None if it has no README.md.

    Raises:
        ValueError: the README.md is not a data card.
    """
    path = folder / CARD_NAME
    if not path.exists():
        return None
    try:
        text = path.read_text(encoding="utf-8")
        return Card(**DatasetCard(text).data[KEY] if text.startswith("---") else {})
    except (ValueError, yaml.YAMLError, KeyError, TypeError, RecursionError):
        raise ValueError(f"{path} is not a data card of this project: move it away or choose another folder") from None


def write_card(card: Card, folder: Path) -> None:
    """Write README.md; unchanged files of an earlier card in the folder stay in it.

    If the earlier card's files may not be shared and some of them stay, its licence and origin stay, too.

    Raises:
        ValueError: there is a README.md that is not a data card.
    """
    earlier = read_card(folder)
    kept = {} if earlier is None else {name: facts for name, facts in earlier.files.items() if name not in card.files}
    kept = {name: facts for name, facts in kept.items() if _is_unchanged(folder / name, facts)}
    if kept and card.may_be_shared and not earlier.may_be_shared:
        card = replace(earlier, files=card.files)
    atomic_write_text(folder / CARD_NAME, card_text(replace(card, files={**card.files, **kept})))


def changed_files(card: Card, folder: Path) -> list[str]:
    """Names of the card's files that are missing or changed."""
    return [name for name, facts in card.files.items() if not _is_unchanged(folder / name, facts)]


def card_text(card: Card) -> str:
    """The page: YAML head, source and licence, a table of the files, the schema."""
    card = replace(card, files=dict(sorted(card.files.items())))
    head = DatasetCardData(
        license=card.licence_id,
        language=["en"],
        task_categories=["text-generation"],
        tags=["math", "reinforcement-learning", "verl"],
        configs=[
            {"config_name": Path(name).stem, "data_files": [{"split": file.split, "path": name}]}
            for name, file in card.files.items()
        ],
        **{KEY: asdict(card)},
    )
    table = [
        {
            "file": f"`{name}`",
            "rows": f"{file.rows:,}",
            "made of": file.made_of,
            "revision": file.revision or "not known",
            "SHA-256 of the file": file.file_sha256,
            "SHA-256 of questions and ground truths": file.content_sha256,
        }
        for name, file in card.files.items()
    ]
    texts = {name: cell(getattr(card, name)) for name in ("title", "source", "licence", "note")}
    page = DatasetCard.from_template(
        head,
        template_str=source_of("dataset_card.md"),
        **texts,
        may_be_shared=card.may_be_shared,
        files=to_markdown(pd.DataFrame(table)),
    )
    return f"{page}\n"


def _is_unchanged(path: Path, facts: FileFacts) -> bool:
    return path.is_file() and file_sha256(path) == facts.file_sha256
