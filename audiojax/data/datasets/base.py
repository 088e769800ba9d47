"""Base of the data sets: a TFDS builder whose splits are stored for random access to any stretch of a clip."""

import abc
import functools
import pathlib
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from audiojax.data import store
from audiojax.data.prepared import VERSION, Prepared
from audiojax.data.release import fingerprint, refuse
from audiojax.data.store import Example, Item
from audiojax.errors import DataError

with tfds.core.registered.skip_registration():

    class AudioBuilder(tfds.core.DatasetBuilder):
        """Base of the data sets. A subclass names its input and classes, and lists the items of its splits.

        `store` writes the splits: training reads windows of clips in any order, which the record files of TFDS do not
        allow.
        """

        VERSION = tfds.core.Version(VERSION)
        BUILDER_CONFIGS = [
            tfds.core.BuilderConfig(name="released", description="The release, from its own files."),
            tfds.core.BuilderConfig(name="stand_in", description="Synthesised, with the same features."),
        ]
        citation = ""
        input_name: str
        step_shape: tuple[int, ...] = ()  # of one step of the input; () for audio
        input_dtype: np.dtype = np.int16
        sample_rate_hz: int  # steps a second
        multi_label = False
        released_examples: dict[str, int]  # split -> clips in the complete release

        def __init__(self, *, raw_dir: pathlib.Path | None = None, strict: bool = True, **kwargs):
            self.raw_dir, self._strict = raw_dir, strict
            self.written: dict[str, store.Written] = {}
            super().__init__(**kwargs)

        @property
        def skipped(self) -> list[list[str]]:
            """[what, why] of everything unreadable."""
            return [item for written in self.written.values() for item in written.skipped]

        @abc.abstractmethod
        def classes(self) -> list[str]:
            """Names of the classes, in the order of their numbers."""

        @abc.abstractmethod
        def released(self, downloads: tfds.download.DownloadManager) -> dict[str, Iterable[Item]]:
            """The items of each split of the release, in `raw_dir` or, where that is None, downloaded."""

        @abc.abstractmethod
        def stand_in(self) -> dict[str, Iterable[Item]]:
            """The items of each split of the stand-in."""

        def _info(self):
            label = tfds.features.ClassLabel(names=self.classes())
            return tfds.core.DatasetInfo(
                builder=self,
                description=self.__doc__ or "",
                citation=self.citation,
                features=tfds.features.FeaturesDict(
                    {
                        "id": tfds.features.Text(),
                        "group": tfds.features.Text(),
                        "subset": tfds.features.Text(),
                        "label": tfds.features.Sequence(label) if self.multi_label else label,
                        self.input_name: tfds.features.Tensor(shape=(None, *self.step_shape), dtype=self.input_dtype),
                    }
                ),
            )

        def _download_and_prepare(self, dl_manager, download_config):
            """Prepares all splits. What was read is kept for the next attempt.

            Raises:
              DataError: `strict` and something is unreadable, a split is empty, or the release changed meanwhile.
            """
            self._release = {}
            if self.raw_dir:
                self._release = {"folder": str(self.raw_dir.resolve()), "fingerprint": fingerprint(self.raw_dir)}
            folder = pathlib.Path(self._data_dir_root) / self.name / self.builder_config.name
            partial = partial_folder(folder, f"{self.version} of {self._release}")
            sources = self.stand_in() if self.builder_config.name == "stand_in" else self.released(dl_manager)
            classes = len(self.classes()) if self.multi_label else None
            infos = []
            for split, items in sources.items():
                written = store.write(partial, split, items, self.step_shape, self.input_dtype, classes)
                self.written[split] = written
                size = store.inputs_path(partial, split).stat().st_size
                infos.append(tfds.core.SplitInfo(name=split, shard_lengths=[written.examples], num_bytes=size))
            if self.skipped and self._strict:
                (what, why), more = self.skipped[0], len(self.skipped) - 1
                others = f", and {more} more" if more else ""
                raise DataError(
                    f"{self.name}: {what}: {why}{others}; repair the release, or leave such files out with"
                    " --config.data.strict=False."
                )
            if empty := [split for split, written in self.written.items() if not written.examples]:
                raise DataError(f"{self.name}: no clip of split {empty[0]} can be read in {self.raw_dir}; repair it.")
            if self.raw_dir and fingerprint(self.raw_dir) != self._release["fingerprint"]:
                raise DataError(f"{self.raw_dir} changed while it was prepared; start again when it is complete.")
            self.info.set_splits(tfds.core.splits.SplitDict(infos))
            for split in sources:
                for path in (store.inputs_path(partial, split), store.index_path(partial, split)):
                    shutil.move(path, self.data_path / path.name)
            shutil.rmtree(partial)
            self._describe(pathlib.Path(self.data_dir)).save()

        def _describe(self, folder: pathlib.Path) -> Prepared:
            return Prepared(
                folder=folder,
                name=self.name,
                variant=self.builder_config.name,
                input=self.input_name,
                step_shape=self.step_shape,
                input_dtype=np.dtype(self.input_dtype).name,
                sample_rate_hz=self.sample_rate_hz,
                longest=max(written.longest for written in self.written.values()),
                multi_label=self.multi_label,
                classes=self.classes(),
                examples={split: written.examples for split, written in self.written.items()},
                released_examples=self.released_examples if self.builder_config.name == "released" else {},
                skipped=self.skipped,
                changes=dict(sum((Counter(written.changes) for written in self.written.values()), Counter())),
                release=self._release,
            )

        def _as_dataset(self, split, decoders=None, read_config=None, shuffle_files=False) -> tf.data.Dataset:
            """The clips of a split, or of a slice such as "train[:10]", for use without this package."""
            folder, specs = pathlib.Path(self.data_dir), tfds.core.ReadInstruction.from_spec(split)

            def clips() -> Iterator[dict]:
                for part in specs.to_absolute(self.info.splits):
                    index = store.read_index(folder, part.splitname)
                    inputs = store.open_inputs(folder, part.splitname, self.step_shape, self.input_dtype)
                    for clip_id, group, subset, label, start, length, _ in zip(
                        *(x[part.from_ : part.to] for x in index)
                    ):
                        label = np.flatnonzero(label) if self.multi_label else label
                        clip = {"id": str(clip_id), "group": str(group), "subset": str(subset), "label": label}
                        yield clip | {self.input_name: inputs[start : start + length]}

            return tf.data.Dataset.from_generator(clips, output_signature=self.info.features.get_tensor_spec())


def partial_folder(folder: pathlib.Path, origin: str) -> pathlib.Path:
    """The folder of an interrupted preparation, emptied where that had another version or release as its origin."""
    partial, note = folder / "partial", folder / "partial" / "origin"
    if partial.exists() and not (note.exists() and note.read_text(encoding="utf-8") == origin):
        shutil.rmtree(partial)
    partial.mkdir(parents=True, exist_ok=True)
    note.write_text(origin, encoding="utf-8")
    return partial


def ready(example: Example) -> Item:
    """An item of an example in memory."""
    return example.id, lambda: example


def unreadable(what: str, why: str) -> Item:
    """An item that cannot be read, for a known reason."""
    return what, functools.partial(refuse, why)
