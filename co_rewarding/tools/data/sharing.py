# SPDX-License-Identifier: Apache-2.0
"""Shares a folder of parquet files: its data card and the files that the card describes.

Errors before anything is sent: no card, a set that may not be shared, rows of such a set under another card or another
spelling of its name, a missing or changed file.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from co_rewarding.storage.rows import made_of, read_rows
from co_rewarding.tools.cli import printable
from co_rewarding.tools.data.card import CARD_NAME, changed_files, read_card
from co_rewarding.tools.data.published import LICENCE, REPOSITORY
from co_rewarding.tools.data.sources import NOT_TO_BE_SHARED
from co_rewarding.tools.hub import send


def refuse_withheld(where: Path, sources: Iterable[object]) -> None:
    """Raise if one of `sources` names a set that may not be shared: with or without owner, as an address, in any case
    and with any signs between the words.

    Args:
        where: their file or card.

    Raises:
        ValueError: names `where` and the set.
    """
    for source in {_bare(str(source)) for source in sources}:
        for withheld in sorted(NOT_TO_BE_SHARED):
            if _bare(withheld.rpartition("/")[2]) in source:
                raise ValueError(f"{where}: has rows of {withheld}, which may not be redistributed")


def _bare(name: str) -> str:
    return "".join(filter(str.isalnum, name.casefold()))


def share(folder: Path, repo_id: str, *, upload: bool = False, public: bool = False, api: Any = None) -> list[str]:
    """Send the card and the files that it describes; see `hub.send`.

    Raises:
        ValueError: the folder cannot be shared (see above), or the hub refused.
    """
    card = read_card(folder)
    if card is None:
        raise ValueError(f"{folder}: no data card ({CARD_NAME}); write one with scripts/push_dataset.py --license …")
    if not card.may_be_shared:
        raise ValueError(
            f"{folder}: {printable(card.title, 100)} may not be redistributed ({printable(card.licence, 150)})"
        )
    if not card.files:
        raise ValueError(f"{folder}: its data card names no files")
    if changed := changed_files(card, folder):
        raise ValueError(
            f"{folder}: {', '.join(changed)} is missing or differs from {CARD_NAME}; prepare the set again"
        )
    refuse_withheld(folder / CARD_NAME, [card.source])
    remarks = {CARD_NAME: f"data card, licence {card.licence_id}"}
    for name in sorted(card.files):
        refuse_withheld(folder / name, (row.get("data_source") for row in read_rows(folder / name)))
        if REPOSITORY in made_of(folder / name):
            raise ValueError(f"{folder / name}: is {made_of(folder / name)}, and may not be redistributed ({LICENCE})")
        remarks[name] = f"{card.files[name].rows:,} rows"
    message = f"{printable(card.title, 100)}: {', '.join(sorted(card.files))}"
    return send(folder, remarks, "dataset", repo_id, message, upload=upload, public=public, api=api)
