#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Share a folder of prepared or rephrased parquet files on the hub, with its data card. A dry run unless --upload.

A file that the card does not describe yet, such as a rephrased one, is added to it with --add:

    push_dataset.py data/math --push_to_hub ME/NAME --add train_rewrite.parquet --made_of "rephrased by Qwen3-32B"

A folder without a card needs --title, --source and --license too.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from co_rewarding.storage.rows import content_sha256, file_sha256, ground_truth, made_of, question_text, read_rows
from co_rewarding.tools.cli import UserError, command
from co_rewarding.tools.data.card import Card, FileFacts, read_card, write_card
from co_rewarding.tools.data.inspection import schema_findings
from co_rewarding.tools.data.sharing import refuse_withheld, share
from co_rewarding.tools.hub import SharingOptions
from co_rewarding.tools.options import REQUIRED, Options, option, parse


class CardOptions(Options):
    """the set and its card"""

    folder: Path = option(REQUIRED, "parquet files and their card, e.g. data/math", metavar="FOLDER", positional=True)
    add: list[str] = option([], "files of the folder to add to its card", metavar="FILE")
    made_of: str = option("", "how the added files were made (default: from a rephrased file's metadata)")
    split: Literal["train", "test"] = option("train", "of the added files")
    title: str = option("", "title of the set; for a folder without a card")
    source: str = option("", "source of its questions; for a folder without a card")
    license: str = option("", "licence by the hub's identifier, e.g. mit; for a folder without a card", metavar="ID")

    def new_card(self) -> Card | None:
        """A card without files, None if the options are incomplete."""
        if not (self.title and self.source and self.license):
            return None
        return Card(self.title, self.source, licence=self.license, licence_id=self.license, may_be_shared=True)


@command("push_dataset.py")
def main(arguments: Sequence[str]) -> None:
    ours, sharing = parse("push_dataset.py", __doc__, [CardOptions, SharingOptions], arguments)
    if not sharing.push_to_hub and not ours.add:
        raise UserError("nothing to do: name a repository with --push_to_hub OWNER/NAME, or files with --add")
    if ours.add:
        add_files(ours)
    if sharing.push_to_hub:
        share(ours.folder, sharing.push_to_hub, upload=sharing.upload, public=sharing.public)


def add_files(options: CardOptions) -> None:
    """Add files to the folder's card.

    Raises:
        ValueError: no card and none given, a file outside the folder or not in verl's schema, or rows that may not be
        shared although the card allows it.
    """
    folder = options.folder
    card = read_card(folder) or options.new_card()
    if card is None:
        raise ValueError(f"{folder}: no data card; add --title, --source and --license to write one")
    if card.may_be_shared:
        refuse_withheld(folder, [card.source])
    files = {}
    for name in options.add:
        path = folder / Path(name).name
        if Path(name).parent != Path() and Path(name).parent.resolve() != folder.resolve():
            raise ValueError(f"--add {name}: is not in {folder}; copy it there first")
        rows = read_rows(path)
        if faults := schema_findings(rows):
            raise ValueError(f"{path}: {faults[0]}; see scripts/inspect_data.py")
        if card.may_be_shared:
            refuse_withheld(path, (row["data_source"] for row in rows))
        words = options.made_of or made_of(path)
        if not words:
            raise ValueError("--add needs --made_of, e.g. --made_of 'train_original.parquet rephrased by Qwen3-32B'")
        content = content_sha256([question_text(row), ground_truth(row)] for row in rows)
        files[path.name] = FileFacts(options.split, len(rows), words, "", file_sha256(path), content)
    write_card(replace(card, files={**card.files, **files}), folder)
    print(f"{folder}: card now describes {', '.join(files)}")


if __name__ == "__main__":
    sys.exit(main())
