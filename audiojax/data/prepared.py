"""A prepared data set on disk, read without TensorFlow: description, index of examples, inputs as arrays."""

import dataclasses
import json
import os
import pathlib
from typing import NamedTuple

import numpy as np

from audiojax.errors import DataError

DESCRIPTION = "audiojax.json"


class Index(NamedTuple):
    """All of a split but its inputs, in the order of the prepared records.

    id, group: str [N]. label: int32 [N], or multi-hot uint8 [N, classes]. length: int32 [N], valid steps.
    """

    id: np.ndarray
    group: np.ndarray
    label: np.ndarray
    length: np.ndarray


@dataclasses.dataclass(frozen=True)
class Prepared:
    """What `prepare.prepare` left in `folder`.

    input: name of the input's feature, of shape input_shape and type input_dtype an example.
    examples: split -> number prepared. released_examples: split -> number in the complete release, or {}.
    skipped: [what, why] of everything left out.
    """

    folder: pathlib.Path
    name: str
    variant: str
    input: str
    input_shape: tuple[int, ...]
    input_dtype: str
    sample_rate_hz: int
    multi_label: bool
    classes: list[str]
    examples: dict[str, int]
    released_examples: dict[str, int]
    skipped: list[list[str]]

    def index(self, split: str) -> Index:
        with np.load(self.folder / f"{split}.index.npz") as arrays:
            return Index(**{name: arrays[name] for name in Index._fields})

    def inputs_path(self, split: str) -> pathlib.Path:
        return self.folder / f"{split}.{self.input}.npy"

    def absent(self) -> dict[str, int]:
        """Split -> how many examples of the complete release are not here."""
        return {
            split: total - self.examples.get(split, 0)
            for split, total in self.released_examples.items()
            if total > self.examples.get(split, 0)
        }

    def save(self) -> None:
        """Writes the description last and at once: a folder that has it is whole."""
        fields = dataclasses.asdict(self) | {"folder": None}
        temporary = self.folder / f".{DESCRIPTION}"
        temporary.write_text(json.dumps(fields, indent=1))
        temporary.replace(self.folder / DESCRIPTION)


def default_data_dir() -> pathlib.Path:
    """Where TFDS keeps its data sets, so that both find what either prepared."""
    return pathlib.Path(os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")).expanduser()


def find(name: str, variant: str, data_dir: pathlib.Path) -> Prepared | None:
    """The newest prepared version of a data set in `data_dir`, or None."""
    versions = sorted((data_dir / name / variant).glob(f"*/{DESCRIPTION}"))
    if not versions:
        return None
    try:
        fields = json.loads(versions[-1].read_text())
        return Prepared(**fields | {"folder": versions[-1].parent, "input_shape": tuple(fields["input_shape"])})
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(
            f"{versions[-1]} cannot be read ({error}); delete {versions[-1].parent} to prepare it again."
        ) from error
