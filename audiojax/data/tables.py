"""Rows of csv files with a header, in the encodings and with the separators of common programs."""

import codecs
import csv
import io
import itertools
import pathlib
import re
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np

from audiojax.errors import DataError

SEPARATORS = (",", ";", "\t")
Row = dict[str, str | None]  # column -> value; None where the line is too short


def read_rows(content: bytes, columns: Sequence[str]) -> Iterator[tuple[int, Row]]:
    """The rows of a csv with a header, each with the number of the line that it ends on.

    The text is UTF-8 or UTF-16. The separator is the comma, semicolon or tab that finds most of `columns` in the
    header. Empty lines are skipped.

    Args:
      columns: those that the csv must have. "clip|id" is the first of the two that it has, and is called "clip".

    Raises:
      ValueError: another encoding, a column that is absent or there twice, an open quote, or too long a row.
    """
    text = decode_text(content)

    def split(separator: str) -> Iterator[tuple[int, list[str]]]:
        lines = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
        return ((lines.line_num, fields) for fields in lines if any(map(str.strip, fields)))

    def read_header(separator: str) -> list[str]:
        try:
            header = [field.strip() for field in next(split(separator), (0, []))[1]]
        except csv.Error:
            return []
        first = {name: names[0] for names in options if (name := next((n for n in names if n in header), None))}
        return [first.get(name, name) for name in header]

    options = [column.split("|") for column in columns]
    wanted = [names[0] for names in options]
    separator = max(SEPARATORS, key=lambda separator: len(set(wanted) & set(read_header(separator))))
    header = read_header(separator)
    if missing := sorted(" or ".join(names) for names in options if names[0] not in header):
        raise ValueError(f"has no column {', '.join(missing)}")
    if twice := [column for column in wanted if header.count(column) > 1]:
        raise ValueError(f"has the column {twice[0]} twice")
    try:
        for line, fields in itertools.islice(split(separator), 1, None):
            if any(fields[len(header) :]):
                raise ValueError(
                    f"line {line}: {len(fields)} values under a header of {len(header)} columns; put a value that holds"
                    " a separator into quotes"
                )
            yield line, dict(itertools.zip_longest(header, fields[: len(header)]))
    except csv.Error as error:
        raise ValueError(str(error)) from error


def decode_text(content: bytes) -> str:
    """A text in UTF-8 or UTF-16 whose first character is ASCII. Raises ValueError for other encodings."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "UTF-16"
    elif b"\0" in content[:2]:
        encoding = "UTF-16-LE" if content[1:2] == b"\0" else "UTF-16-BE"
    else:
        encoding = "UTF-8-SIG"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        where = f"byte 0x{content[error.start]:02X} at position {error.start}"
        raise ValueError(f"its text is neither UTF-8 nor UTF-16 ({where}), so save it as UTF-8") from error


def read_clips(path: pathlib.Path | str, column: str) -> Iterator[tuple[str, Row]]:
    """The rows of a csv with one line a clip, each with where it stands. Its columns are clip (or id) and `column`.

    Raises:
      DataError: the file cannot be read, or is not such a csv; or a value is absent, or a clip is named twice.
    """
    seen = set()
    try:
        for line, row in read_rows(pathlib.Path(path).read_bytes(), ("clip|id", column)):
            clip = row["clip"]
            if absent := [name for name in ("clip", column.split("|")[0]) if not row[name]]:
                raise ValueError(f"line {line}: an empty {absent[0]}")
            if clip in seen:
                raise ValueError(f"line {line}: {clip} is named a second time")
            seen.add(clip)
            yield f"{path}: line {line}", row
        if not seen:
            raise ValueError("names no clip")
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}).") from error
    except ValueError as error:
        raise DataError(f"{path}: {error}.") from error


def read_table(path: str, column: str, classes: Collection[str] = ()) -> dict[str, str]:
    """A csv as {clip: value of `column`}. `classes`, if any, are what a column `label` or `genre` may have.

    Raises:
      DataError: as `read_clips`, or an unknown class.
    """
    table = {}
    for where, row in read_clips(path, column):
        name = next((name for name in ("label", "genre") if name in row), None)
        if name and classes and row[name] not in classes:
            raise DataError(f"{where}: the {name} {row[name]!r} is not among {', '.join(classes)}.")
        table[row["clip"]] = row[column.split("|")[0]]
    return table


def with_ids(table: dict[str, Any], ids: np.ndarray, path: pathlib.Path | str) -> dict[str, Any]:
    """A table of clips under the ids of a data set. Its names may have folders and a suffix; others stay.

    Raises:
      DataError: two names are one clip.
    """
    known, renamed = set(ids), {}
    for name, value in table.items():
        last = re.split(r"[\\/]", name)[-1]
        clip = next((form for form in (name, last, last.rpartition(".")[0]) if form in known), name)
        if clip in renamed:
            raise DataError(f"{path} names {clip} twice, once as {name}.")
        renamed[clip] = value
    return renamed
