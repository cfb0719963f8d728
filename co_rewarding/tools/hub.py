# SPDX-License-Identifier: Apache-2.0
"""Sending a folder to the Hugging Face hub: a dry run that lists what would be sent, unless `upload`.

A new repository is private unless `public`.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal


def add_sharing_options(parser: argparse.ArgumentParser) -> None:
    """--push_to_hub NAME --upload --public."""
    parser.add_argument(
        "--push_to_hub", metavar="OWNER/NAME", help="hub repository for files and card; shows what would be sent"
    )
    parser.add_argument("--upload", action="store_true", help="really send it (needs a token: hf auth login)")
    parser.add_argument("--public", action="store_true", help="make a new repository public instead of private")


def push(folder: Path, repo_id: str, *, upload: bool, public: bool, api: Any = None) -> list[str]:
    """Send an exported model: what the folder holds, hidden files aside; see `send`."""
    names = sorted(path.name for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    message = "Export of a Co-rewarding run"
    return send(folder, dict.fromkeys(names, ""), "model", repo_id, message, upload=upload, public=public, api=api)


def send(
    folder: Path,
    files: Mapping[str, str],
    repo_type: Literal["model", "dataset"],
    repo_id: str,
    message: str,
    *,
    upload: bool,
    public: bool,
    api: Any = None,
) -> list[str]:
    """Print what is sent, send it if `upload`, and return the names of the files.

    Args:
        files: those of the folder that are sent, each with what is said of it in the list ("": nothing).
        message: of the commit.
        api: huggingface_hub's HfApi, or something with its `create_repo` and `upload_folder`.

    Raises:
        ValueError: one line; the hub refused.
    """
    names = list(files)
    url = f"https://huggingface.co/{'datasets/' if repo_type == 'dataset' else ''}{repo_id}"
    print(f"{'uploading' if upload else 'would upload'} to {url}:")
    for name, remark in files.items():
        print(f"  {name}  {(folder / name).stat().st_size:,} bytes" + (f", {remark}" if remark else ""))
    if not upload:
        print("dry run: nothing was sent; add --upload to send it")
        return names
    import httpx
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError

    api = api or HfApi()
    try:
        api.create_repo(repo_id, repo_type=repo_type, private=not public, exist_ok=True)
        api.upload_folder(
            repo_id=repo_id, repo_type=repo_type, folder_path=folder, allow_patterns=names, commit_message=message
        )
    except (OSError, httpx.HTTPError, HFValidationError) as error:
        first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"--push_to_hub {repo_id}: {first_line} (a token that may write there is needed: hf auth login)"
        ) from error
    print(f"done: {url}")
    return names
