"""A prepared data set on disk, read without TensorFlow: description, index of examples, inputs."""

import dataclasses
import json
import os
import pathlib
import re

import numpy as np

from audiojax.data import store
from audiojax.errors import DataError

DESCRIPTION = "audiojax.json"
VERSION = re.compile(r"[0-9]+(\.[0-9]+)*")


@dataclasses.dataclass(frozen=True)
class Prepared:
    """What `prepare.prepare` left in `folder`.

    input: name of the input's feature; a step of it has step_shape and input_dtype.
    sample_rate_hz: steps a second. longest: steps of the longest example.
    examples: split -> number prepared. released_examples: split -> number in the complete release, or {}.
    skipped: [what, why] of everything left out. changes: what reading altered -> in how many examples.
    """

    folder: pathlib.Path
    name: str
    variant: str
    input: str
    step_shape: tuple[int, ...]
    input_dtype: str
    sample_rate_hz: int
    longest: int
    multi_label: bool
    classes: list[str]
    examples: dict[str, int]
    released_examples: dict[str, int]
    skipped: list[list[str]]
    changes: dict[str, int]

    def index(self, split: str) -> store.Index:
        """Which clips a split has, and where in its inputs they lie."""
        return store.read_index(self.folder, split)

    def inputs(self, split: str) -> np.ndarray:
        """All steps of a split, mapped from disk: [steps, *step_shape]."""
        return store.open_inputs(self.folder, split, self.step_shape, self.input_dtype)

    def absent(self) -> dict[str, int]:
        """Split -> how many examples of the complete release are not here."""
        return {
            split: total - self.examples.get(split, 0)
            for split, total in self.released_examples.items()
            if total > self.examples.get(split, 0)
        }

    def save(self) -> None:
        """Writes the description that `find` reads, into its folder."""
        fields = dataclasses.asdict(self) | {"folder": None}
        (self.folder / DESCRIPTION).write_text(json.dumps(fields, indent=1))


def default_data_dir() -> pathlib.Path:
    """Where TFDS keeps its data sets, so that both find what either prepared."""
    return pathlib.Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def find(name: str, variant: str, data_dir: pathlib.Path) -> Prepared | None:
    """The newest prepared version of a data set in `data_dir`, or None.

    Versions are folders such as 2.0.0; others, such as a copy named "2.0.0 (copy)", are none.
    """
    found = (data_dir / name / variant).glob(f"*/{DESCRIPTION}")
    versions = [path for path in found if VERSION.fullmatch(path.parent.name)]
    if not versions:
        return None
    newest = max(versions, key=lambda path: [int(number) for number in path.parent.name.split(".")])
    try:
        fields = json.loads(newest.read_text())
        return Prepared(**fields | {"folder": newest.parent, "step_shape": tuple(fields["step_shape"])})
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(f"{newest} cannot be read ({error}); delete {newest.parent} to prepare it again.") from error
