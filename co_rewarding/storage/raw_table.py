# SPDX-License-Identifier: Apache-2.0
"""A raw file of questions: CSV, TSV, JSONL, JSON or parquet → named columns and rows of values.

    CSV, TSV   the delimiter is the one of DELIMITERS that fits, or that Excel's first line "sep=;" names; quoted fields
               may have it, and line breaks; all values are text
    JSON       an array of objects, or an object with one such array or one that has a name of ROWS, or of an object a
               question by its id; JSONL: an object a line, or one after the other
    parquet    recognised by its first bytes

Text is UTF-8, with or without a byte order mark. The libraries csv, json and pyarrow parse it; text files are limited
to MAX_BYTES.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from co_rewarding.storage.rows import read_table

FORMATS = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet")
DELIMITERS = ",;\t|"
ROWS = ("questions", "problems", "data", "rows", "items", "examples", "samples", "instances")  # names of an array
ROWS_TRIED = 20  # with each delimiter
MAX_BYTES = 2 * 2**30  # of a text file
MAX_FIELD = 131_072  # characters of a CSV field; an unclosed quote would take all the rest
MAX_SHOWN = 30  # characters of a column's name in a message
_NOT_BLANK = re.compile(r"\S|\Z")


@dataclass(frozen=True)
class RawTable:
    """Raw rows of a file; a row need not have every column."""

    columns: tuple[str, ...]
    rows: list[dict[str, Any]]


def files_of(path: Path) -> list[Path]:
    """The file itself, or the files of a folder with an ending of FORMATS, by name.

    Raises:
        ValueError: there is no such file, or none in the folder.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise ValueError(f"{path}: {'not a file' if path.exists() else 'no such file'}; name {one_of_formats()}")
    found = sorted(file for file in path.iterdir() if file.suffix.lower() in FORMATS and file.is_file())
    if not found:
        raise ValueError(f"{path}: a folder without {one_of_formats()}")
    return found


def one_of_formats() -> str:
    return f"a file of questions ({', '.join(FORMATS)})"


def is_parquet(file: Path) -> bool:
    with file.open("rb") as opened:
        return opened.read(4) == b"PAR1"


def read_raw(path: Path) -> RawTable:
    """All rows of a file or of the files of a folder.

    Raises:
        ValueError: names the file, the place in it and the fix.
    """
    return joined([_read_file(file) for file in files_of(path)])


def joined(tables: Sequence[RawTable]) -> RawTable:
    """The rows of all tables, concatenated."""
    columns = dict.fromkeys(name for table in tables for name in table.columns)
    return RawTable(tuple(columns), [row for table in tables for row in table.rows])


def shown(columns: Iterable[str]) -> str:
    """Names of columns for a message."""
    return ", ".join(name if len(name) <= MAX_SHOWN else name[: MAX_SHOWN - 1] + "…" for name in columns)


def _read_file(file: Path) -> RawTable:
    if is_parquet(file) or file.suffix.lower() == ".parquet":
        table = read_table(file)
        return RawTable(tuple(table.column_names), table.to_pylist())
    read = _READERS.get(file.suffix.lower())
    if read is None:
        raise ValueError(
            f"{file}: {file.suffix or 'no ending'} is none of {', '.join(FORMATS)}; save it as one of them"
        )
    try:
        return read(_text(file))
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error


def _text(file: Path) -> str:
    if (size := file.stat().st_size) > MAX_BYTES:
        raise ValueError(f"has {size:,} bytes, more than {MAX_BYTES:,} of text; split it, or save it as parquet")
    data = file.read_bytes()
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ValueError("is UTF-16; save it as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"byte 0x{data[error.start]:02x} at position {error.start:,}, line {line:,}, is not UTF-8; save it as UTF-8"
        ) from error


def _read_csv(text: str) -> RawTable:
    if named := re.match(r"\"?sep=(.)\"?\r?\n", text):
        return _read_delimited(text[named.end() :], named[1])
    return _read_delimited(text, _delimiter(text))


def _read_tsv(text: str) -> RawTable:
    try:
        return _read_delimited(text, "\t")
    except ValueError:
        try:  # web spreadsheets write TSV without quoting
            return _read_delimited(text, "\t", csv.QUOTE_NONE)
        except ValueError:
            pass
        raise


def _delimiter(text: str) -> str:
    """The delimiter in the header that cuts the first rows into as many fields."""
    best = (False, 1, ",")
    for delimiter in DELIMITERS:
        try:
            widths = [len(row) for row in islice(filter(any, _reader(text, delimiter)), ROWS_TRIED)]
        except csv.Error:
            continue
        if widths and widths[0] > 1:
            best = max(best, (len(set(widths)) == 1, widths[0], delimiter))
    return best[2]


def _reader(text: str, delimiter: str, quoting: int = csv.QUOTE_MINIMAL) -> Any:
    csv.field_size_limit(MAX_FIELD)
    lines = io.StringIO(text, newline="")
    return csv.reader(lines, delimiter=delimiter, quoting=quoting, skipinitialspace=True, strict=True)


def _read_delimited(text: str, delimiter: str, quoting: int = csv.QUOTE_MINIMAL) -> RawTable:
    reader = _reader(text, delimiter, quoting)
    rows, columns = [], None
    try:
        for record in reader:
            if not any(record):
                continue
            if columns is None:
                columns = _names(record)
            elif len(record) != len(columns):
                raise ValueError(
                    f"line {reader.line_num:,}: has {len(record)} fields and the first line has {len(columns)} "
                    f"(delimiter {delimiter!r}); put a field that holds the delimiter in double quotes"
                )
            else:
                rows.append(dict(zip(columns, record, strict=True)))
    except csv.Error as error:
        raise ValueError(
            f"line {reader.line_num:,}: {error} (delimiter {delimiter!r}); a field in double quotes must end with one, "
            'and a quote in it is written ""'
        ) from error
    if columns is None:
        raise ValueError("is empty; its first line must name the columns")
    return RawTable(columns, rows)


def _names(header: Sequence[str]) -> tuple[str, ...]:
    names = tuple(name.strip() or f"column {i}" for i, name in enumerate(header, start=1))
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"two columns are called {shown(repeated)}; give them different names")
    return names


def _is_object(value: object) -> bool:
    return isinstance(value, dict)


def _read_json(text: str) -> RawTable:
    try:
        found = _parse(text)
    except json.JSONDecodeError as error:
        if error.msg != "Extra data":
            raise ValueError(f"not readable as JSON ({error})") from error
        return _read_jsonl(text)  # JSONL with the ending .json
    if isinstance(found, dict) and len(found) > 1 and all(map(_is_object, found.values())):
        found = [{"id": key, **value} for key, value in found.items()]
    if isinstance(found, dict):
        arrays = [key for key, value in found.items() if isinstance(value, list) and any(map(_is_object, value))]
        if len(arrays) > 1:  # there may be other tables besides the questions, of categories for instance
            arrays = [key for key in arrays if key.lower() in ROWS] or arrays
        if len(arrays) != 1:
            raise ValueError(
                f"an object with {len(arrays)} arrays of objects ({shown(found)}); must be an array of objects, or an "
                f"object with one such array, or one called {', '.join(ROWS)}"
            )
        found = found[arrays[0]]
    return _objects(found if isinstance(found, list) else [found], "element")


def _read_jsonl(text: str) -> RawTable:
    found = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                found.append(_parse(line))
            except ValueError as error:
                if objects := _one_after_the_other(text):
                    return _objects(objects, "object")
                raise ValueError(f"line {number:,}: not readable as JSON ({error})") from error
    return _objects(found, "line")


def _one_after_the_other(text: str) -> list[Any]:
    """The values of a text with several JSON values, on one line or more; empty for other text."""
    found, at, decode = [], 0, json.JSONDecoder().raw_decode
    try:
        while (at := _NOT_BLANK.search(text, at).start()) < len(text):
            value, at = decode(text, at)
            found.append(value)
    except (ValueError, RecursionError):
        return []
    return found


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _objects(found: Sequence[Any], what: str) -> RawTable:
    for number, row in enumerate(found, start=1):
        if not isinstance(row, dict):
            raise ValueError(f"{what} {number:,} is {row!r:.60}; must be an object with named values")
    columns = dict.fromkeys(name for row in found for name in row)
    return RawTable(tuple(columns), list(found))


_READERS: dict[str, Callable[[str], RawTable]] = {
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".json": _read_json,
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
}
