"""Label files: csv files of the clips to train on and their labels, such as those that self-training writes."""

import csv
import math
import pathlib
from collections.abc import Collection, Iterable
from typing import NamedTuple

from audiojax import durable
from audiojax.data import tables
from audiojax.errors import DataError


class Label(NamedTuple):
    """The label of a clip in training.

    label: name of its class. subset: takes the place of the clip's subset unless it is "". weight: factor of its loss.
    """

    label: str
    subset: str = ""
    weight: float = 1.0


def read(path: pathlib.Path | str, classes: Collection[str]) -> dict[str, Label]:
    """A csv with the columns clip (or id) and label, and optionally subset and weight. Other columns are ignored.

    Raises:
      DataError: as `tables.read_clips`, an unknown class, or a weight that is not a number from 0 on.
    """
    labels = {}
    for where, row in tables.read_clips(path, "label"):
        label = row["label"]
        if label not in classes:
            raise DataError(f"{where}: the label {label!r} is none of the {len(classes)} classes.")
        try:
            weight = float(row.get("weight") or 1)
        except ValueError:
            weight = math.nan
        if not 0 <= weight < math.inf:
            raise DataError(f"{where}: the weight {row['weight']!r} must be a number from 0 on.")
        labels[row["clip"]] = Label(label, row.get("subset") or "", weight)
    return labels


def write(path: pathlib.Path, rows: Iterable[dict]) -> None:
    """Writes a file that `read` reads. A crash leaves the old file or the whole new one.

    Args:
      rows: each with clip and label, and any other columns.
    """
    rows = list(rows)
    fields = list(dict.fromkeys(["clip", "label", *(name for row in rows for name in row)]))
    durable.make_folder(path.parent)
    with durable.replacing(path, newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fields, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
