"""Label files: csv of the clips to train on and the labels they have there, such as a recipe's promoted clips."""

import csv
import math
import pathlib
from collections.abc import Iterable
from typing import NamedTuple

from audiojax import durable
from audiojax.errors import DataError


class Label(NamedTuple):
    """A clip's label in training, by name.

    subset: what the clip counts as, such as "promoted"; "" for what the data set says. weight: of its loss.
    """

    label: str
    subset: str = ""
    weight: float = 1.0


def read(path: pathlib.Path, classes: list[str]) -> dict[str, Label]:
    """A csv with the columns clip (or id), label and, where wanted, subset and weight; others are left aside.

    Raises:
      DataError: no such file or column, a clip named twice or not at all, an unknown class, a weight that is none.
    """
    rows, key = read_rows(path, strict=True)
    if not key or "label" not in rows[0]:
        raise DataError(f"{path} must have a header with the columns clip (or id) and label, and a line a clip.")
    table = {}
    for number, row in enumerate(rows, 2):
        clip, label, weight = row[key], row["label"], row.get("weight") or "1"
        if not clip or clip in table:
            raise DataError(f"{path}, line {number}: {f'{clip} is named a second time' if clip else 'no clip'}.")
        if label not in classes:
            raise DataError(f"{path}, line {number}: the label {label!r} is none of the {len(classes)} classes.")
        try:
            weight = float(weight)
        except ValueError:
            weight = math.nan
        if not 0 <= weight < math.inf:
            raise DataError(f"{path}, line {number}: the weight {row['weight']!r} must be a number from 0 on.")
        table[clip] = Label(label, row.get("subset") or "", weight)
    return table


def read_rows(path: pathlib.Path | str, strict: bool = False) -> tuple[list[dict[str, str]], str | None]:
    """The rows of a csv with a header, and which of its columns names clips, "clip" or "id"; None where none does.

    strict: whether quotes must be closed. Raises DataError where it cannot be read, has a column twice, or a line has
    more values than the header has columns.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file, strict=strict)
            header, rows = table.fieldnames or [], []
            for row in table:
                if any(row.pop(None, ())):
                    raise DataError(
                        f"{path}, line {table.line_num}: more values than the header has columns; put a value with a"
                        " comma into quotes."
                    )
                rows.append(row)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as csv ({error}).") from error
    if doubled := [name for name in header if name and header.count(name) > 1]:
        raise DataError(f"{path} has the column {doubled[0]} twice; rename or remove one of them.")
    return rows, next((name for name in ("clip", "id") if rows and name in rows[0]), None)


def write(path: pathlib.Path, rows: Iterable[dict]) -> None:
    """Writes what `read` reads, on disk, at once or not at all.

    rows: each with clip and label, and whatever else is noted.
    """
    rows = list(rows)
    fields = list(dict.fromkeys(["clip", "label", *(name for row in rows for name in row)]))
    durable.make_folder(path.parent)
    with durable.replacing(path, newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fields, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
