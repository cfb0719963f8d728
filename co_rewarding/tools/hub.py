# SPDX-License-Identifier: Apache-2.0
"""Push an exported model to the hub: a dry run that lists what would be sent, unless `upload`.

A new repository is private unless `public`. Sent is what the folder holds, hidden files aside.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any


def push(folder: Path, repo_id: str, *, upload: bool, public: bool, api: Any = None) -> list[str]:
    """Print what is sent, send it if `upload`, and return the names of the files.

    Args:
        api: huggingface_hub's HfApi, or something with its `create_repo` and `upload_folder`.

    Raises:
        ValueError: one line; the hub refused.
    """
    names = sorted(path.name for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    print(f"{'uploading' if upload else 'would upload'} to https://huggingface.co/{repo_id}:")
    for name in names:
        print(f"  {name}  {(folder / name).stat().st_size:,} bytes")
    if not upload:
        print("dry run: nothing was sent; add --upload to send it")
        return names
    import httpx
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError

    api = api or HfApi()
    try:
        api.create_repo(repo_id, repo_type="model", private=not public, exist_ok=True)
        api.upload_folder(
            repo_id=repo_id,
            repo_type="model",
            folder_path=folder,
            allow_patterns=names,
            commit_message="Export of a Co-rewarding run",
        )
    except (OSError, httpx.HTTPError, HFValidationError) as error:
        first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"--push_to_hub {repo_id}: {first_line} (a token that may write there is needed: hf auth login)"
        ) from error
    print(f"done: https://huggingface.co/{repo_id}")
    return names
