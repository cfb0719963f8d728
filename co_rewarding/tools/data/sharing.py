# SPDX-License-Identifier: Apache-2.0
"""Push a folder of parquet files with its data card to the hub.

A dry run by default: it prints what would go where. `--upload` does it, into a private repository unless `--public`.
Only the card and the files that it describes are sent.

Degenerate cases, all errors before anything is sent: no card, a set that may not be shared, rows of such a set under
another card, a file that is gone or no longer what the card says.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from co_rewarding.storage.rows import read_rows
from co_rewarding.tools.data.card import CARD_NAME, changed_files, read_card
from co_rewarding.tools.data.sources import NOT_TO_BE_SHARED


def add_sharing_options(parser: argparse.ArgumentParser) -> None:
    """--push_to_hub NAME --upload --public."""
    parser.add_argument(
        "--push_to_hub", metavar="OWNER/NAME", help="hub repository for files and card; shows what would be sent"
    )
    parser.add_argument("--upload", action="store_true", help="really send it (needs a token: hf auth login)")
    parser.add_argument("--public", action="store_true", help="make a new repository public instead of private")


def refuse_withheld(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Raise if `rows`, those of the file `path`, are of a set that may not be shared.

    Raises:
        ValueError: one line naming the file and the set.
    """
    if withheld := NOT_TO_BE_SHARED.intersection(row.get("data_source") for row in rows):
        raise ValueError(f"{path}: has rows of {', '.join(withheld)}, which may not be redistributed")


def share(folder: Path, repo_id: str, *, upload: bool = False, public: bool = False, api: Any = None) -> list[str]:
    """Print what is sent, send it if `upload`, and return the names of the files.

    Args:
        api: huggingface_hub's HfApi, or something with its `create_repo` and `upload_folder`.

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
    names = [CARD_NAME, *sorted(card.files)]
    for name in names[1:]:
        refuse_withheld(folder / name, read_rows(folder / name))
    print(f"{'uploading' if upload else 'would upload'} to https://huggingface.co/datasets/{repo_id}:")
    for name in names:
        rows = f"{card.files[name].rows:,} rows" if name in card.files else f"data card, licence {card.licence_id}"
        print(f"  {name}  {(folder / name).stat().st_size:,} bytes, {rows}")
    if not upload:
        print("dry run: nothing was sent; add --upload to send it")
        return names
    import httpx
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError

    api = api or HfApi()
    try:
        api.create_repo(repo_id, repo_type="dataset", private=not public, exist_ok=True)
        api.upload_folder(
            repo_id=repo_id,
            repo_type="dataset",
            folder_path=folder,
            allow_patterns=names,
            commit_message=f"{card.title}: {', '.join(sorted(card.files))}",
        )
    except (OSError, httpx.HTTPError, HFValidationError) as error:
        first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"--push_to_hub {repo_id}: {first_line} (a token that may write there is needed: hf auth login)"
        ) from error
    print(f"done: https://huggingface.co/datasets/{repo_id}")
    return names
