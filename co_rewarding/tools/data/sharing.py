# SPDX-License-Identifier: Apache-2.0
"""Push a folder of parquet files with its data card to the hub.

A dry run by default: it prints what would go where. `--upload` does it, into a private repository unless `--public`.
Only the card and the files that it describes are sent.

Degenerate cases, all errors before anything is sent: no card, a set that may not be shared, rows of such a set under
another card, a file that is gone or no longer what the card says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from co_rewarding.storage.rows import read_rows
from co_rewarding.tools.data.card import CARD_NAME, changed_files, read_card
from co_rewarding.tools.data.sources import NOT_TO_BE_SHARED
from co_rewarding.tools.hub import send


def refuse_withheld(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Raise if `rows`, those of the file `path`, are of a set that may not be shared.

    Raises:
        ValueError: one line naming the file and the set.
    """
    if withheld := NOT_TO_BE_SHARED.intersection(row.get("data_source") for row in rows):
        raise ValueError(f"{path}: has rows of {', '.join(withheld)}, which may not be redistributed")


def share(folder: Path, repo_id: str, *, upload: bool = False, public: bool = False, api: Any = None) -> list[str]:
    """Send the card and the files that it describes; see `hub.send`.

    Raises:
        ValueError: one line; the folder is not a set that can be shared (see above), or the hub refused.
    """
    card = read_card(folder)
    if card is None:
        raise ValueError(f"{folder}: no data card ({CARD_NAME}); write one with scripts/push_dataset.py --license …")
    if not card.may_be_shared:
        raise ValueError(f"{folder}: {card.title} may not be redistributed ({card.licence})")
    if not card.files:
        raise ValueError(f"{folder}: its data card names no files")
    if changed := changed_files(card, folder):
        raise ValueError(f"{folder}: {', '.join(changed)} is gone or not what {CARD_NAME} says; prepare the set again")
    remarks = {CARD_NAME: f"data card, licence {card.licence_id}"}
    for name in sorted(card.files):
        refuse_withheld(folder / name, read_rows(folder / name))
        remarks[name] = f"{card.files[name].rows:,} rows"
    message = f"{card.title}: {', '.join(sorted(card.files))}"
    return send(folder, remarks, "dataset", repo_id, message, upload=upload, public=public, api=api)
