#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Share a folder of prepared or rephrased parquet files on the hub, with its data card. A dry run unless --upload.

A file that the card does not describe yet, such as a rephrased one, is added to it with --add:

    push_dataset.py data/math --push_to_hub ME/NAME --add train_rewrite.parquet --made_of "rephrased by Qwen3-32B"

A folder without a card needs --title, --source and --license too.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from co_rewarding.storage.rows import content_sha256, file_sha256, ground_truth, question_text, read_rows
from co_rewarding.tools.data.card import Card, FileFacts, read_card, write_card
from co_rewarding.tools.data.inspection import schema_findings
from co_rewarding.tools.data.sharing import refuse_withheld, share
from co_rewarding.tools.hub import add_sharing_options


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    add_sharing_options(parser)
    parser.add_argument("--add", nargs="+", default=[], metavar="FILE", help="files of the folder to add to its card")
    parser.add_argument("--made_of", default="", help="how the added files were made, e.g. which model rephrased them")
    parser.add_argument("--split", default="train", choices=("train", "test"), help="of the added files")
    parser.add_argument("--title", help="of the set; for a folder without a card")
    parser.add_argument("--source", help="where its questions come from; for a folder without a card")
    parser.add_argument("--license", help="the hub's identifier, e.g. mit; for a folder without a card")
    args = parser.parse_args(arguments)
    if not args.push_to_hub and not args.add:
        parser.error("nothing to do: name a repository with --push_to_hub OWNER/NAME, or files with --add")
    if args.upload and not args.push_to_hub:
        parser.error("--upload needs --push_to_hub NAME")
    if args.add and not args.made_of:
        parser.error("--add needs --made_of, e.g. --made_of 'train_original.parquet rephrased by Qwen3-32B'")
    try:
        if args.add:
            add_files(args.folder, args.add, args.made_of, args.split, new_card(args))
        if args.push_to_hub:
            share(args.folder, args.push_to_hub, upload=args.upload, public=args.public)
    except (OSError, ValueError) as error:
        parser.exit(2, f"error: {error}\n")


def new_card(args: argparse.Namespace) -> Card | None:
    """A card without files from the options, None where they do not make one."""
    if not (args.title and args.source and args.license):
        return None
    return Card(args.title, args.source, licence=args.license, licence_id=args.license, may_be_shared=True)


def add_files(folder: Path, names: list[str], made_of: str, split: str, card_if_none: Card | None) -> None:
    """Add files to the folder's card.

    Raises:
        ValueError: one line; no card and none given, a file outside the folder, one that is not in verl's schema, or
            rows that may not be shared although the card says so.
    """
    card = read_card(folder) or card_if_none
    if card is None:
        raise ValueError(f"{folder}: no data card; add --title, --source and --license to write one")
    files = {}
    for name in names:
        path = folder / Path(name).name
        if Path(name).parent != Path() and Path(name).parent.resolve() != folder.resolve():
            raise ValueError(f"--add {name}: is not in {folder}; copy it there first")
        rows = read_rows(path)
        if faults := schema_findings(rows):
            raise ValueError(f"{path}: {faults[0]}; see scripts/inspect_data.py")
        if card.may_be_shared:
            refuse_withheld(path, rows)
        content = content_sha256([question_text(row), ground_truth(row)] for row in rows)
        files[path.name] = FileFacts(split, len(rows), made_of, "", file_sha256(path), content)
    write_card(replace(card, files={**card.files, **files}), folder)
    print(f"{folder}: card now describes {', '.join(files)}")


if __name__ == "__main__":
    main()
