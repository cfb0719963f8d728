# SPDX-License-Identifier: Apache-2.0
"""The data card: README.md beside the parquet files, which is also the page of the set on the hub.

Everything it says stands once, as YAML in its head under the key `co_rewarding`; the text below is made of that. So a
card can be read back, checked against its files, and extended by a rephrased file.

Degenerate cases: a README.md that is not such a card is never overwritten. Line breaks in texts become spaces. Files
that are in the folder but not in the card are no part of the set; files in the card that are gone or changed are told
before sharing. No date, so that the same files give the same card.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from co_rewarding.storage.files import atomic_write_text
from co_rewarding.storage.rows import file_sha256

CARD_NAME = "README.md"
KEY = "co_rewarding"


@dataclass(frozen=True)
class FileFacts:
    """One parquet file of the set."""

    split: str  # "train" or "test"
    rows: int
    made_of: str
    revision: str  # commit of the source on the hub; "" where it is not known
    file_sha256: str  # of the bytes
    content_sha256: str  # of questions and ground truths, whatever wrote the file


@dataclass(frozen=True)
class Card:
    """What the card says."""

    title: str
    source: str  # data set id on the hub, or any phrase
    licence: str  # in words
    licence_id: str  # the hub's identifier, e.g. mit, other, unknown
    may_be_shared: bool
    note: str = ""
    files: Mapping[str, FileFacts] = field(default_factory=dict)


def read_card(folder: Path) -> Card | None:
    """The card of a folder, None where it has no README.md.

    Raises:
        ValueError: one line; the README.md is not a data card.
    """
    path = folder / CARD_NAME
    if not path.exists():
        return None
    not_a_card = f"{path} is not a data card of this project: move it away or choose another folder"
    parts = path.read_text(encoding="utf-8").split("---\n", 2)
    if len(parts) < 3 or parts[0].strip():
        raise ValueError(not_a_card)
    try:
        facts = yaml.safe_load(parts[1])[KEY]
        files = {name: FileFacts(**file) for name, file in facts.pop("files").items()}
        return Card(**facts, files=files)
    except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(not_a_card) from error


def write_card(card: Card, folder: Path) -> None:
    """Write README.md; files that an earlier card of the folder described, and that are still as it says, stay in it.

    Raises:
        ValueError: one line; there is a README.md that is not a data card.
    """
    earlier = read_card(folder)
    kept = {} if earlier is None else {name: facts for name, facts in earlier.files.items() if name not in card.files}
    kept = {name: facts for name, facts in kept.items() if _is_unchanged(folder / name, facts)}
    card = _on_one_line(replace(card, files={**card.files, **kept}))
    atomic_write_text(folder / CARD_NAME, card_text(card))


def changed_files(card: Card, folder: Path) -> list[str]:
    """Names of the card's files that are gone or that are not what the card says."""
    return [name for name, facts in card.files.items() if not _is_unchanged(folder / name, facts)]


def card_text(card: Card) -> str:
    """The page: YAML head, source and licence, a table of the files, the schema."""
    facts = asdict(card)
    head: dict[str, Any] = {
        "license": card.licence_id,
        "language": ["en"],
        "task_categories": ["text-generation"],
        "tags": ["math", "reinforcement-learning", "verl"],
        "configs": [
            {"config_name": Path(name).stem, "data_files": [{"split": file.split, "path": name}]}
            for name, file in sorted(card.files.items())
        ],
        KEY: {**facts, "files": dict(sorted(facts["files"].items()))},
    }
    table = [
        f"| `{name}` | {file.rows:,} | {_cell(file.made_of)} | {file.revision or 'not known'} "
        f"| {file.file_sha256} | {file.content_sha256} |"
        for name, file in sorted(card.files.items())
    ]
    lines = [
        "---",
        yaml.safe_dump(head, sort_keys=False, allow_unicode=True, width=1000).rstrip(),
        "---",
        f"# {card.title}",
        "",
        f"- Source: {card.source}",
        f"- Licence: {card.licence}",
        f"- Sharing: {'under that licence' if card.may_be_shared else 'not allowed; for use on this machine only'}",
        *([f"- Note: {card.note}"] if card.note else []),
        "",
        "| file | rows | made of | revision | SHA-256 of the file | SHA-256 of questions and ground truths |",
        "|---|---|---|---|---|---|",
        *table,
        "",
        "Columns (verl's schema): `data_source`, `prompt` (system and user message), `ability`, `reward_model`",
        "(`ground_truth` may be empty), `extra_info` (`index` is the question's id; files of one pair share it).",
        "Made with Co-rewarding.",
    ]
    return "\n".join(lines) + "\n"


def _on_one_line(card: Card) -> Card:
    """The card without line breaks in its texts, which could end the YAML head or a row of the table."""
    texts = {name: " ".join(getattr(card, name).split()) for name in ("title", "source", "licence", "note")}
    files = {name: replace(file, made_of=" ".join(file.made_of.split())) for name, file in card.files.items()}
    return replace(card, **texts, files=files)


def _is_unchanged(path: Path, facts: FileFacts) -> bool:
    return path.is_file() and file_sha256(path) == facts.file_sha256


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
