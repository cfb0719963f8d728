# SPDX-License-Identifier: Apache-2.0
"""Uploads a folder's files, a model or a data set, to the Hugging Face hub: a dry run unless `upload`.

A new repository is private unless `public`.
"""

from __future__ import annotations

import glob
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import model_validator

from co_rewarding.tools.cli import one_line
from co_rewarding.tools.options import Options, option


class SharingOptions(Options):
    """sharing"""

    push_to_hub: str = option(
        "", "hub repository for files and card; shows what would be sent", metavar="OWNER/NAME", min_length=1
    )
    upload: bool = option(False, "upload it (needs a token: hf auth login)")
    public: bool = option(False, "make a new repository public instead of private")

    @model_validator(mode="after")
    def _upload_where(self) -> SharingOptions:
        if self.upload and not self.push_to_hub:
            raise ValueError("--upload needs --push_to_hub OWNER/NAME")
        return self


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
    """Print the files, upload them if `upload`, and return their names.

    Args:
        files: of the folder, each with a remark for the list ("": none).
        message: of the commit.
        api: huggingface_hub's HfApi, or something with its `create_repo` and `upload_folder`.

    Raises:
        ValueError: the hub refused.
    """
    url = f"https://huggingface.co/{'datasets/' if repo_type == 'dataset' else ''}{repo_id}"
    print(f"{'uploading' if upload else 'would upload'} to {url}:")
    for name, remark in files.items():
        print(f"  {name}  {(folder / name).stat().st_size:,} bytes" + (f", {remark}" if remark else ""))
    if not upload:
        print("dry run: nothing was sent; add --upload to send it")
        return list(files)
    import httpx
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError

    api = api or HfApi()
    try:
        api.create_repo(repo_id, repo_type=repo_type, private=not public, exist_ok=True)
        api.upload_folder(
            repo_id=repo_id, repo_type=repo_type, folder_path=folder, commit_message=message,
            allow_patterns=[glob.escape(name) for name in files],
        )  # fmt: skip
    except (OSError, httpx.HTTPError, HFValidationError) as error:
        why = one_line(str(error).strip().partition("\n")[0] or type(error).__name__)
        raise ValueError(f"--push_to_hub {repo_id}: {why} (needs a token with write access: hf auth login)") from error
    print(f"done: {url}")
    return list(files)
