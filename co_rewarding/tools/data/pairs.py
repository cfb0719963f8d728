# SPDX-License-Identifier: Apache-2.0
"""The published pairs → two aligned parquet files and a data card: scripts/data_preprocess/rephrased.py.

    get the files → recognise them → pair by extra_info.index → drop rows without a pair → write both → card

A dropped row is in neither file. `extra_info.index` stays the set's own, so the files join with those of the set's own
command (math_dataset.py, …): paired_original.parquet has a subset of its rows, unchanged.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from pydantic import model_validator

from co_rewarding.storage.rows import (
    MADE_OF,
    Row,
    arrow_schema,
    check_question_ids,
    content_sha256,
    file_sha256,
    ground_truth,
    made_of,
    make_row,
    question_id,
    question_text,
    read_rows,
    write_rows,
)
from co_rewarding.tools.cli import UserError, command, one_line, progress
from co_rewarding.tools.data.card import CARD_NAME, Card, FileFacts, read_card, write_card
from co_rewarding.tools.data.download import NotDownloaded, download
from co_rewarding.tools.data.inspection import schema_findings, shared_rephrasing_findings
from co_rewarding.tools.data.prepare import summary
from co_rewarding.tools.data.published import (
    COMMIT,
    LICENCE,
    MADE_BY,
    MAX_BYTES,
    PUBLISHED,
    REPOSITORY,
    PublishedFile,
    PublishedPairs,
    recognise,
)
from co_rewarding.tools.data.sources import Source
from co_rewarding.tools.data.validators import VALIDATORS, validate
from co_rewarding.tools.options import REQUIRED, Names, Options, option, parse

RAW = "https://raw.githubusercontent.com"
API = "https://api.github.com"
ORIGINAL, REPHRASED = "paired_original.parquet", "paired_rephrased.parquet"
WHOLE, TEST = "train_original.parquet", "test.parquet"  # names from the set's own command
NO_PAIR = ("empty", "placeholder", "unchanged")  # validators whose objection leaves one question, or none
MIN_SHARE = 0.5  # share of the rows that must pair up

Rows = list[dict[str, Any]]


class PairOptions(Options):
    """the pairs and their source"""

    name: Literal["math", "dapo", "openrs", "amc"] = option(
        REQUIRED, "the set: math, dapo, openrs or amc", metavar="SET", positional=True
    )
    local_dir: Path | None = option(None, "folder to write to (default data/ and the set)")
    from_files: list[str] = option(
        [],
        "instead of a download: a folder with the files under their published names, or original=FILE, "
        "rephrased=FILE, test=FILE",
        metavar="FILE",
    )
    revision: str = option("", f"commit or branch of their repository (default {COMMIT})", min_length=1)
    leave_out: Names = option(
        NO_PAIR, "drop pairs that these validators object to; all: every one (see below)", metavar="NAME,..."
    )
    any_rows: bool = option(False, "accept files other than the published ones")

    @model_validator(mode="after")
    def _validators(self) -> PairOptions:
        for name in self.leave_out:
            if name != "all" and name not in VALIDATORS:
                raise ValueError(f"--leave_out {name}: must be all, or names out of {', '.join(VALIDATORS)}")
        return self

    @property
    def objectors(self) -> tuple[str, ...]:
        return tuple(VALIDATORS) if "all" in self.leave_out else self.leave_out


@dataclass(frozen=True)
class Loaded:
    """A published file."""

    rows: Rows
    facts: str  # its origin and how it was recognised
    revision: str  # of their repository; "" if unknown

    def part(self, rows: Rows | None = None) -> Part:
        """All of its rows, or some."""
        pairs = "" if rows is None else f", of which {len(rows):,} are pairs"
        return Part(self.rows if rows is None else rows, f"{self.facts}, {len(self.rows):,} rows{pairs}", self.revision)


@dataclass(frozen=True)
class Part:
    """The output: a file of this project, in published rows."""

    rows: Rows
    made_of: str
    revision: str


ABOUT = f"""\
The pairs that the paper's authors published, questions and their rephrasings by Qwen3-32B, from
github.com/{REPOSITORY} or from local files.

Writes {ORIGINAL} and {REPHRASED} to data/SET, the training files of run_corewarding-I.sh (math),
run_corewarding-III.sh (dapo) and METHOD=co_rewarding_I scripts/run_ttt.sh (amc). If missing, it also
writes their validation file data/math/test.parquet and, for math, train_original.parquet with all
questions, for the methods without pairs.

Rows without a pair are dropped from both files, and listed. The repository names no licence: use the files
locally and do not share them."""


@command("rephrased.py")
def main(arguments: Sequence[str]) -> None:
    validators = "\n".join(f"  {name:<17} {what}" for name, (what, _) in VALIDATORS.items())
    (options,) = parse("rephrased.py", ABOUT, [PairOptions], arguments, epilog=f"validators:\n{validators}")
    published = PUBLISHED[options.name]
    folder = options.local_dir or Path("data", published.source.folder)
    # MATH's test questions belong beside MATH, unless one folder is given
    prepare(published, folder, options.local_dir or Path("data/math"), options)


def prepare(published: PublishedPairs, folder: Path, test_folder: Path, options: PairOptions) -> None:
    """Write the pairs to `folder`, the validation file to `test_folder`, and the cards; print a summary.

    Raises:
        ValueError: see `load`, `pair_up`, `card.read_card`, or there are pairs of another origin.
    """
    for place in {folder, test_folder}:
        read_card(place)  # report a foreign README.md before the download
    rephrased = folder / REPHRASED
    if rephrased.exists() and made_of(rephrased) != MADE_BY:
        raise UserError(
            f"{rephrased}: exists and was made by {made_of(rephrased) or 'something else'}; move it away, or name "
            "another folder with --local_dir"
        )
    test = test_folder / TEST
    wanted = [published.original, published.rephrased]
    if published.test and not test.exists():
        wanted.append(published.test)
    loaded = load(published, wanted, options)
    original, rewritten = loaded["original"], loaded["rephrased"]
    pairing = pair_up(original.rows, rewritten.rows, options.objectors)
    parts = {
        ORIGINAL: original.part([original.rows[i] for i, _ in pairing.kept]),
        REPHRASED: rewritten.part([rewritten.rows[j] for _, j in pairing.kept]),
    }
    if published.is_whole and not (folder / WHOLE).exists():
        parts[WHOLE] = original.part()
    if "test" in loaded and test_folder == folder:
        parts[TEST] = loaded["test"].part()
    elif "test" in loaded:
        write(PUBLISHED["math"], test_folder, {TEST: loaded["test"].part()})
    write(published, folder, parts, named(pairing.left_out))
    print(f"dropped from both files: {named(pairing.left_out)}")
    if pairing.objections:
        others = ", ".join(f"{name} {count}" for name, count in pairing.objections.most_common())
        print(f"kept although validators object: {others}; --leave_out all drops them")
    if published.test and not test.exists():
        print(
            f"{test}: missing; add --from_files test=FILE, or run math_dataset.py, or train without validation "
            "(VAL_FILE=)"
        )


def load(published: PublishedPairs, wanted: Sequence[PublishedFile], options: PairOptions) -> dict[str, Loaded]:
    """Role -> rows of the recognised files. The test file may be missing among local ones.

    Raises:
        ValueError: no network (with download instructions), or a fault in a local file.
    """
    paths = local_paths(published, options.from_files) if options.from_files else {}
    loaded = {}
    for file in wanted:
        revision = ""
        if not options.from_files:
            path, place, revision = fetch(options.name, file, options.revision)
        elif (path := paths.get(file.role)) is None:
            continue
        else:
            place = f"local file {path.name} (SHA-256 {file_sha256(path)})"
        rows = read_rows(path)
        if faults := schema_findings(rows):
            raise UserError(f"{path}: {faults[0]}; see scripts/inspect_data.py")
        how = "" if options.any_rows else f"; {recognise(file, path.read_bytes(), rows, str(path))}"
        print(f"{path}: {len(rows):,} rows{how}", flush=True)
        loaded[file.role] = Loaded(rows, f"{place}{how}", revision)
    return loaded


def fetch(name: str, file: PublishedFile, revision: str) -> tuple[Path, str, str]:
    """The file in downloads/, its address, and its revision if known.

    Raises:
        ValueError: the download failed; has download instructions.
    """
    path = Path("downloads", "rephrased", name, Path(file.path).name)
    urls = [f"{RAW}/{REPOSITORY}/{quote(revision or COMMIT, safe='')}/{file.path}"]
    if not revision:
        if len(file.blob) == 40:  # by its content, independent of the commit
            urls.append(f"{API}/repos/{REPOSITORY}/git/blobs/{file.blob}")
        urls.append(f"{RAW}/{REPOSITORY}/HEAD/{file.path}")
    print(f"downloading {urls[0]}", flush=True)
    try:
        limit = MAX_BYTES if revision else file.max_bytes
        url = download(urls, path, limit, {"Accept": "application/vnd.github.raw+json, */*"})
    except NotDownloaded as error:
        page = f"https://github.com/{REPOSITORY}/tree/{revision or 'HEAD'}/{Path(file.path).parent}"
        raise UserError(
            f"{Path(file.path).name} could not be downloaded ({one_line(error)}); get the files of {page} on a machine "
            f"with a network, copy them here, then: python scripts/data_preprocess/rephrased.py {name} --from_files "
            f"{shlex.quote(str(path.parent))}"
        ) from error
    return path, url, revision or COMMIT if url == urls[0] else ""


def local_paths(published: PublishedPairs, items: Sequence[str]) -> dict[str, Path]:
    """Role -> local file; the test file is optional.

    Args:
        items: a folder with the files (or a clone of the repository), or ROLE=FILE for each.

    Raises:
        ValueError: names the item and what it should be.
    """
    paths = {}
    if len(items) == 1 and (folder := Path(items[0])).is_dir():
        for file in published.files:
            parts = Path(file.path).parts
            # a clone, a folder of sets, or the folder of this set
            found = [place for k in range(len(parts)) if (place := folder.joinpath(*parts[k:])).is_file()]
            if found:
                paths[file.role] = found[0]
            elif file is not published.test:
                raise UserError(
                    f"--from_files {folder}: no {parts[-1]} in it; name it with --from_files {file.role}=FILE"
                )
        return paths
    roles = [file.role for file in published.files]
    for item in items:
        role, mark, path = item.partition("=")
        if not mark or role not in roles:
            raise UserError(
                f"--from_files {item}: must be a folder with the published files, or {'=FILE, '.join(roles)}=FILE"
            )
        paths[role] = Path(path)
    for file in (published.original, published.rephrased):
        if file.role not in paths:
            raise UserError(f"--from_files: add {file.role}=FILE, which the repository calls {Path(file.path).name}")
    return paths


@dataclass(frozen=True)
class Pairing:
    """Pairs of rows of the two files; rows are numbered as in the published files, from 0."""

    kept: list[tuple[int, int]]  # (row of the original, row of the rephrased file)
    left_out: dict[str, list[int]]  # reason -> rows of the original file, or of the rephrased one if it says so
    objections: Counter[str]  # validators that object to kept pairs


def pair_up(original: Sequence[Row], rephrased: Sequence[Row], leave_out: Collection[str]) -> Pairing:
    """Pair the rows by extra_info.index.

    Args:
        leave_out: validators whose objection drops a pair.

    Raises:
        ValueError: ids that are missing or repeated, or less than half of the rows pair up.
    """
    check_question_ids(original, "the original file")
    check_question_ids(rephrased, "the rephrased file")
    row_of = {question_id(row): j for j, row in enumerate(rephrased)}
    ids = {question_id(row) for row in original}
    both = [(i, row_of[question_id(row)]) for i, row in enumerate(original) if question_id(row) in row_of]
    pairs = [(original[i], rephrased[j]) for i, j in both]
    shared = shared_rephrasing_findings([a for a, _ in pairs], [b for _, b in pairs], range(len(pairs)))
    shared_rows = {k for finding in shared for k in finding.rows}
    out = {
        "no rephrasing": [i for i, row in enumerate(original) if question_id(row) not in row_of],
        "no question (rows of the rephrased file)": [j for q, j in row_of.items() if q not in ids],
    }
    kept, objections = [], Counter[str]()
    with progress("checking pairs", "pairs", len(pairs), delay=5) as bar:
        for k, (a, b) in enumerate(pairs):
            found = [finding.validator for finding in validate(question_text(a) or "", question_text(b) or "")]
            reasons = [name for name in found if name in leave_out]
            if len({ground_truth(a), ground_truth(b)} - {""}) > 1:
                reasons.append("another ground truth")
            if k in shared_rows:
                reasons.append("one rephrasing for several questions")
            if reasons:
                out.setdefault(reasons[0], []).append(both[k][0])
            else:
                kept.append(both[k])
                objections.update(found)
            bar.update()
    if len(kept) < MIN_SHARE * max(len(original), len(rephrased)):
        raise UserError(
            f"the two files do not pair up: {len(kept):,} pairs in {len(original):,} and {len(rephrased):,} rows "
            f"({named(out, 3)}); are they from the same set?"
        )
    return Pairing(kept, out, objections)


def named(rows_of: Mapping[str, Sequence[int]], at_most: int | None = None) -> str:
    """Each reason with its rows and their number."""
    reasons = [
        f"{why}: {len(rows)} (rows {', '.join(map(str, rows[:at_most]))}{', …' * (len(rows) > len(rows[:at_most]))})"
        for why, rows in rows_of.items()
        if rows
    ]
    return "; ".join(reasons) or "none"


def write(published: PublishedPairs, folder: Path, parts: Mapping[str, Part], out: str = "") -> None:
    """Files in this project's layout, and their card.

    Args:
        out: description of the dropped rows; "" without pairs.
    """
    source = published.source
    files = {}
    for name, part in parts.items():
        role = "test" if name == TEST else source.splits[0].role
        rows = [convert(source, row, role) for row in part.rows]
        schema = arrow_schema(tuple(source.extra))
        if name == REPHRASED:
            schema = schema.with_metadata({MADE_OF: MADE_BY.encode()})
        write_rows(rows, folder / name, schema)
        content = content_sha256([question_text(row), ground_truth(row)] for row in rows)
        sha256 = file_sha256(folder / name)
        files[name] = FileFacts(role, len(rows), part.made_of, part.revision, sha256, content)
        print(f"{folder / name}: {summary(rows)}")
    card = Card(
        title=f"{source.title} in two views",
        source=f"github.com/{REPOSITORY}, commit {COMMIT}; the questions: {source.repo_id}",
        licence=f"{LICENCE}; the questions: {source.licence}",
        licence_id="other",
        may_be_shared=False,
        note=f"{REPHRASED} is {MADE_BY}. Dropped from both files, rows as published: {out}." if out else "",
        files=files,
    )
    write_card(card, folder)
    print(f"{folder / CARD_NAME}: data card (not to be shared; {LICENCE})")


def convert(source: Source, row: Row, role: str) -> dict[str, Any]:
    """A published row as the set's own command writes it: published rows have MATH's data_source in every set."""
    extra = {name: str(row[name]) for name in source.extra if row.get(name) is not None}
    return make_row(source.repo_id, question_text(row) or "", ground_truth(row), question_id(row), role, extra)
