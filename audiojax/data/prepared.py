"""A prepared data set on disk, read without TensorFlow: description, index of examples, inputs."""

import dataclasses
import hashlib
import json
import os
import pathlib

import numpy as np

from audiojax import durable, host
from audiojax.data import store
from audiojax.errors import DataError

DESCRIPTION = "audiojax.json"
VERSION = "3.0.0"  # of the format on disk
QUICK_BYTES = 2**28  # of inputs that are verified at every opening, which takes less than a second


@dataclasses.dataclass(frozen=True)
class Prepared:
    """What `prepare.prepare` left in `folder`.

    input: name of the input's feature; a step of it has step_shape and input_dtype.
    sample_rate_hz: steps a second. longest: steps of the longest example.
    examples: split -> number prepared. released_examples: split -> number in the complete release, or {}.
    skipped: [what, why] of everything left out. changes: what reading altered -> in how many examples.
    release: "folder" that it was prepared from and its `fingerprint`; {} of a download or synthesised data.
    files: name -> [bytes, SHA-256 (of an index, else "")] of the splits' files.
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
    release: dict[str, str] = dataclasses.field(default_factory=dict)
    files: dict[str, list] = dataclasses.field(default_factory=dict)

    def index(self, split: str) -> store.Index:
        """Which clips a split has, and where in its inputs they lie. Raises DataError: the file is damaged."""
        path = store.index_path(self.folder, split)
        self._check_size(path)
        if path.name in self.files and durable.sha256(path) != self.files[path.name][1]:
            raise self._damaged(path, "its checksum is wrong")
        return store.read_index(self.folder, split)

    def inputs(self, split: str) -> np.ndarray:
        """All steps of a split, mapped from disk, as many zeros as its longest clip has steps behind them.

        Returns: [steps, *step_shape]. Raises DataError: the file has another size than was prepared.
        """
        self._check_size(store.inputs_path(self.folder, split))
        return store.open_inputs(self.folder, split, self.step_shape, self.input_dtype)

    def absent(self) -> dict[str, int]:
        """Split -> how many examples of the complete release are not here."""
        return {
            split: total - self.examples.get(split, 0)
            for split, total in self.released_examples.items()
            if total > self.examples.get(split, 0)
        }

    def fingerprint(self) -> str:
        """A checksum of all clips: names, groups, labels, samples."""
        index = {split: self.files.get(store.index_path(self.folder, split).name) for split in self.examples}
        return checksum({"classes": self.classes, "index": index})

    def verify(self, whole: bool) -> None:
        """Compares every index, and the steps of every clip, with their checksums. Raises DataError where one differs.

        whole: read all inputs, however large; else only where they are at most `QUICK_BYTES`, and all sizes.
        """
        inputs = {split: self.inputs(split) for split in self.examples}
        quick = sum(array.nbytes for array in inputs.values()) <= QUICK_BYTES
        for split, array in inputs.items():
            index = self.index(split)
            if (quick or whole) and (damaged := store.damaged_clips(index, array)):
                more = f" and of {len(damaged) - 1} more clips" if len(damaged) > 1 else ""
                path = store.inputs_path(self.folder, split)
                raise self._damaged(path, f"the samples of {damaged[0]}{more} are not those that were prepared")

    def save(self) -> None:
        """Writes the description that `find` reads, into its folder, which holds the splits' files already."""
        files = {}
        for split in self.examples:
            inputs, index = (path(self.folder, split) for path in (store.inputs_path, store.index_path))
            files |= {
                inputs.name: [inputs.stat().st_size, ""],
                index.name: [index.stat().st_size, durable.sha256(index)],
            }
        fields = dataclasses.asdict(self) | {"folder": None, "files": files}
        durable.write_text(self.folder / DESCRIPTION, json.dumps(fields | {"checksum": checksum(fields)}, indent=1))

    def _check_size(self, path: pathlib.Path) -> None:
        try:
            size = path.stat().st_size
        except OSError as error:
            raise self._damaged(path, f"it cannot be read ({error.strerror})") from error
        if path.name in self.files and size != (expected := self.files[path.name][0]):
            raise self._damaged(path, f"it has {size:,} bytes instead of {expected:,}")

    def _damaged(self, path: pathlib.Path, why: str) -> DataError:
        return DataError(f"{path} is damaged: {why}; delete {self.folder} and prepare {self.name} again.")


def checksum(fields: dict) -> str:
    """Of a description: the SHA-256 of its JSON."""
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def default_data_dir() -> pathlib.Path:
    """Where TFDS keeps its data sets, so that both find what either prepared."""
    return host.user_folder(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets", holds="prepared data")


def folder_of(name: str, variant: str, data_dir: pathlib.Path) -> pathlib.Path:
    """Where a data set is prepared."""
    return data_dir / name / variant / VERSION


def find(name: str, variant: str, data_dir: pathlib.Path) -> Prepared | None:
    """The data set as it is prepared in `data_dir`, or None. Raises DataError: its description is damaged."""
    path = folder_of(name, variant, data_dir) / DESCRIPTION
    if not path.exists():
        return None
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        if fields.pop("checksum") != checksum(fields):
            raise ValueError("its checksum is wrong")
        return Prepared(**fields | {"folder": path.parent, "step_shape": tuple(fields["step_shape"])})
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(f"{path} is damaged ({error}); delete {path.parent} and prepare {name} again.") from error
