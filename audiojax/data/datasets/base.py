"""What all TFDS builders share: features, variants, counting of what a release lacks."""

import pathlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import tensorflow_datasets as tfds


class Example(NamedTuple):
    """One clip as a builder yields it.

    id: unique in the data set. group: what must not stand on both sides of an honest split.
    label: class index, or a list of them for multi-label data.
    input: array of at most `Builder.input_shape` along the first axis; padded with zeros by the builder.
    """

    id: str
    group: str
    label: int | list[int]
    input: np.ndarray


with tfds.core.registered.skip_registration():

    class AudioBuilder(tfds.core.GeneratorBasedBuilder):
        """Base of the data sets. A subclass names its input and classes and yields `Example`s.

        Examples are written as ArrayRecords: `id`, `group`, `label`, `length` (valid steps along the
        input's first axis) and the input itself as raw bytes in its own integer type.
        """

        VERSION = tfds.core.Version("1.0.0")
        BUILDER_CONFIGS = [
            tfds.core.BuilderConfig(name="released", description="The release, from its own files."),
            tfds.core.BuilderConfig(name="stand_in", description="Synthesised, with the same features."),
        ]
        citation = ""
        input_name: str
        input_shape: tuple[int, ...]
        input_dtype: np.dtype
        sample_rate_hz: int
        multi_label = False
        released_examples: dict[str, int]  # split -> number of examples in the complete release

        def __init__(self, *, raw_dir: pathlib.Path | None = None, **kwargs):
            self.raw_dir = raw_dir
            self.skipped: list[tuple[str, str]] = []  # (what, why)
            super().__init__(file_format="array_record", **kwargs)

        def classes(self) -> list[str]:
            raise NotImplementedError

        def released(self, downloads: tfds.download.DownloadManager) -> dict[str, Iterator[Example]]:
            """Splits of the release in `raw_dir`, or downloaded where `raw_dir` is None."""
            raise NotImplementedError

        def stand_in(self) -> dict[str, Iterator[Example]]:
            raise NotImplementedError

        def skip(self, what: str, why: str) -> None:
            self.skipped.append((what, why))

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
                        "label": tfds.features.Sequence(label) if self.multi_label else label,
                        "length": np.int64,
                        self.input_name: tfds.features.Tensor(
                            shape=self.input_shape,
                            dtype=self.input_dtype,
                            encoding=tfds.features.Encoding.BYTES,
                        ),
                    }
                ),
            )

        def _split_generators(self, dl_manager):
            splits = self.stand_in() if self.builder_config.name == "stand_in" else self.released(dl_manager)
            return {name: self._records(examples) for name, examples in splits.items()}

        def _generate_examples(self):
            raise AssertionError("splits come from `released` and `stand_in`")

        def _records(self, examples: Iterator[Example]):
            for example in examples:
                length = len(example.input)
                padded = np.zeros(self.input_shape, self.input_dtype)
                padded[:length] = example.input
                yield (
                    example.id,
                    {
                        "id": example.id,
                        "group": example.group,
                        "label": example.label,
                        "length": length,
                        self.input_name: padded,
                    },
                )
