"""A prepared data set on disk: its description, the index of its clips, their inputs. Read without TensorFlow."""

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
QUICK_BYTES = 2**28  # inputs up to this size are verified whenever they are opened, in less than a second


@dataclasses.dataclass(frozen=True)
class Prepared:
    """The description of a data set that `prepare.prepare` wrote in `folder`.

    input: name of the input. step_shape, input_dtype: those of one of its steps. sample_rate_hz: steps a second.
    longest: steps of the longest clip.
    examples: {split: prepared clips}. released_examples: {split: clips of the complete release}, or {}.
    skipped: [what, why] of everything that was left out. changes: {what decoding changed: in how many clips}.
    release: "folder" of the release and its "fingerprint"; {} for a download or synthesised data.
    files: {name: [bytes, SHA-256]} of the files of the splits; "" in place of the SHA-256 of inputs.
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
        """The clips of a split, and where in its inputs they lie. Raises DataError: the file is damaged."""
        path = store.index_path(self.folder, split)
        self._check_size(path)
        if path.name in self.files and durable.sha256(path) != self.files[path.name][1]:
            raise self._damaged(path, "its checksum is wrong")
        return store.read_index(self.folder, split)

    def inputs(self, split: str) -> np.ndarray:
        """All steps of a split, mapped from disk: [steps, *step_shape].

        Zeros follow the last clip, as many as the longest clip has steps. Raises DataError: the file is damaged.
        """
        self._check_size(store.inputs_path(self.folder, split))
        return store.open_inputs(self.folder, split, self.step_shape, self.input_dtype)

    def absent(self) -> dict[str, int]:
        """{split: clips of the complete release that are absent}."""
        return {
            split: total - self.examples.get(split, 0)
            for split, total in self.released_examples.items()
            if total > self.examples.get(split, 0)
        }

    def fingerprint(self) -> str:
        """A checksum of all clips: their names, groups, labels and samples."""
        index = {split: self.files.get(store.index_path(self.folder, split).name) for split in self.examples}
        return checksum({"classes": self.classes, "index": index})

    def verify(self, whole: bool) -> None:
        """Compares the files of all splits with their checksums. Raises DataError where one differs.

        whole: compares inputs above `QUICK_BYTES` too, not only their sizes.
        """
        inputs = {split: self.inputs(split) for split in self.examples}
        quick = sum(array.nbytes for array in inputs.values()) <= QUICK_BYTES
        for split, array in inputs.items():
            index = self.index(split)
            if (quick or whole) and (damaged := store.damaged_clips(index, array)):
                more = f" and of {len(damaged) - 1} more clips" if len(damaged) > 1 else ""
                path = store.inputs_path(self.folder, split)
                raise self._damaged(path, f"the samples of {damaged[0]}{more} have changed since they were prepared")

    def save(self) -> None:
        """Writes the description that `find` reads. The files of the splits must be in the folder."""
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
    """SHA-256 of a description as JSON."""
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def default_data_dir() -> pathlib.Path:
    """The folder where TFDS keeps its data sets too."""
    return host.user_folder(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets", holds="prepared data")


def folder_of(name: str, variant: str, data_dir: pathlib.Path) -> pathlib.Path:
    """The folder in which a data set is prepared."""
    return data_dir / name / variant / VERSION


def find(name: str, variant: str, data_dir: pathlib.Path) -> Prepared | None:
    """The data set that is prepared in `data_dir`, or None. Raises DataError: its description is damaged."""
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
