"""AudioSet's released embeddings: 128 values a second, quantised to uint8, 527 labels, several a clip."""

import contextlib
import functools
import gzip
import os
import pathlib
import re
import tempfile
import zlib
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from audiojax.data.archive import GZIP
from audiojax.data.datasets.base import AudioBuilder, Example, Item, ready, unreadable
from audiojax.data.release import File, find_part, list_files, open_file, read_file
from audiojax.data.tables import read_rows
from audiojax.errors import DataError

STEPS, FEATURES, LABELS = 10, 128, 527
FEATURES_URL = "http://storage.googleapis.com/us_audioset/youtube_corpus/v1/features/features.tar.gz"
FOLDER, NAMES_CSV = "audioset_v1_embeddings", "class_labels_indices.csv"

with tfds.core.registered.skip_registration():

    class Builder(AudioBuilder):
        """AudioSet embeddings of the balanced training and the evaluation segments (Gemmeke et al. 2017)."""

        name = "audioset"
        input_name = "embedding"
        step_shape = (FEATURES,)
        input_dtype = np.uint8
        sample_rate_hz = 1
        multi_label = True
        released_examples = {"bal_train": 22_160, "eval": 20_371}

        def classes(self) -> list[str]:
            """Display names from class_labels_indices.csv where the release has it, else numbers."""
            names_csv = find_part(self.raw_dir, NAMES_CSV) if self.raw_dir else None
            return read_names(names_csv) if names_csv else [f"label {index}" for index in range(LABELS)]

        def released(self, downloads):
            root = self.raw_dir or pathlib.Path(downloads.download_and_extract(FEATURES_URL))
            folder = find_part(root, FOLDER) or root
            splits = {split: find_part(folder, split) for split in self.released_examples}
            found = {split: list_records(path) for split, path in splits.items() if path and path.is_dir()}
            if not any(found.values()):
                raise DataError(f"{root / FOLDER} holds no .tfrecord file; unpack the release's features.tar.gz there.")
            return {split: read_files(splits[split], files) for split, files in found.items() if files}

        def stand_in(self):
            return {
                "bal_train": synthesise_clips("bal_train", 2_000, seed=0),
                "eval": synthesise_clips("eval", 1_000, seed=1),
            }


def read_names(path: pathlib.Path) -> list[str]:
    """The display names of a csv, in the order of its column `index`. Raises DataError unless each label has one."""
    try:
        names = {}
        for line, row in read_rows(read_file(path), ("index", "display_name")):
            index, name = row["index"] or "", " ".join((row["display_name"] or "").split())
            if not re.fullmatch(r"\s*\d+\s*", index, re.ASCII) or int(index) >= LABELS:
                raise ValueError(f"line {line}: index {index!r} is no integer from 0 to {LABELS - 1}")
            if int(index) in names:
                raise ValueError(f"line {line}: index {int(index)} is named a second time")
            if not name or name in names.values():
                raise ValueError(f"line {line}: display_name {name!r} is empty or named a second time")
            names[int(index)] = name
        if absent := [index for index in range(LABELS) if index not in names]:
            raise ValueError(f"names {len(names)} labels instead of {LABELS} (index {absent[0]} is absent)")
        return [names[index] for index in range(LABELS)]
    except ValueError as error:
        raise DataError(f"{path}: {error}; restore the released file.") from error


def list_records(folder: pathlib.Path) -> list[File]:
    """The TFRecord files of a folder, and what cannot be read in it."""
    suffixes = (".tfrecord", ".tfrecord.gz")
    return [file for file in list_files(folder) if file.fault or file.path.name.lower().endswith(suffixes)]


def read_files(folder: pathlib.Path, files: list[File]) -> Iterator[Item]:
    """The clips of TFRecord files."""
    for file in files:
        if file.fault:
            yield file.what, file.read
        else:
            yield from read_records(folder / file.path, file.what)


def read_records(path: pathlib.Path, what: str) -> Iterator[Item]:
    """The clips of a TFRecord file, compressed by gzip or not, whatever its name says."""
    number, is_damaged = 0, False
    try:
        with open_plain(path) as (plain, is_damaged):
            for number, record in enumerate(tf.compat.v1.io.tf_record_iterator(plain), 1):
                yield f"{what}, record {number}", functools.partial(parse_clip, record)
    except tf.errors.DataLossError:
        is_damaged = True
    except (tf.errors.OpError, ValueError) as error:
        yield unreadable(what, getattr(error, "message", str(error)))
    if is_damaged:
        yield unreadable(what, f"truncated or corrupt after {number} records")


@contextlib.contextmanager
def open_plain(path: pathlib.Path) -> Iterator[tuple[bytes, bool]]:
    """Path of the file without its gzip compression, and whether the compression is damaged.

    TensorFlow's own decompression takes some truncated files for complete ones.

    Raises:
      ValueError: the file cannot be read.
    """
    with open_file(path) as file:
        if file.read(len(GZIP)) != GZIP:
            yield os.fsencode(path), False
            return
        file.seek(0)
        with tempfile.NamedTemporaryFile() as plain:
            is_damaged = False
            for chunk in decompress(file):
                is_damaged = chunk is None
                plain.write(chunk or b"")
            plain.flush()
            yield os.fsencode(plain.name), is_damaged


def decompress(file: BinaryIO) -> Iterator[bytes | None]:
    """The content of a gzip file in pieces. The last one is None where the file is damaged."""
    with gzip.open(file) as stream:
        try:
            while chunk := stream.read1():
                yield chunk
        except (EOFError, OSError, zlib.error):
            yield None


def parse_clip(record: bytes) -> Example:
    """Reads a SequenceExample of the release.

    Raises:
      ValueError: it is not a SequenceExample, or its embedding or labels have another shape or range.
    """
    try:
        clip = tf.train.SequenceExample.FromString(record)
    except Exception as error:
        raise ValueError("not a SequenceExample") from error
    steps = clip.feature_lists.feature_list["audio_embedding"].feature
    frames = [step.bytes_list.value[0] if step.bytes_list.value else b"" for step in steps]
    if not 1 <= len(frames) <= STEPS or any(len(frame) != FEATURES for frame in frames):
        raise ValueError(f"an embedding that is not 1 to {STEPS} steps of {FEATURES} bytes")
    labels = sorted(clip.context.feature["labels"].int64_list.value)
    if not labels or labels[0] < 0 or labels[-1] >= LABELS:
        raise ValueError(f"labels {labels} outside 0 to {LABELS - 1}")
    ids = clip.context.feature["video_id"].bytes_list.value
    if not ids:
        raise ValueError("no video_id")
    try:
        video_id = ids[0].decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"its video_id {ids[0]!r} is not UTF-8") from error
    embedding = np.frombuffer(b"".join(frames), np.uint8).reshape(-1, FEATURES)
    return Example(video_id, video_id, labels, embedding)


def synthesise_clips(split: str, count: int, seed: int) -> Iterator[Item]:
    """Clips of one to three labels. Each label adds its direction to noise, over some of the time steps."""
    directions = np.random.default_rng(2017).normal(size=(LABELS, FEATURES))
    rng = np.random.default_rng(seed)
    frequency = 1 / np.arange(1, LABELS + 1)
    for number in range(count):
        # The first labels are frequent, as Speech and Music are; every label occurs.
        chosen = {number % LABELS, *rng.choice(LABELS, size=rng.integers(0, 3), p=frequency / frequency.sum())}
        labels = sorted(int(label) for label in chosen)
        length = STEPS if rng.random() < 0.98 else int(rng.integers(1, STEPS))
        values = rng.normal(size=(length, FEATURES))
        for label in labels:
            start = rng.integers(0, length)
            stop = rng.integers(start + 1, length + 1)
            values[start:stop] += rng.uniform(0.5, 1.5) * directions[label]
        quantised = np.clip(np.round((values / 2 + 2) * 255 / 4), 0, 255).astype(np.uint8)
        clip_id = f"{split}-{number:05d}"
        yield ready(Example(clip_id, clip_id, labels, quantised))
