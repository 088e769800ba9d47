"""AudioSet's released embeddings: 128 values a second, quantised to uint8, 527 labels, several a clip."""

import csv
import functools
import itertools
import pathlib
from collections.abc import Iterator

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from audiojax.data.datasets.base import AudioBuilder, Example, Item, ready, unreadable
from audiojax.errors import DataError

STEPS, FEATURES, LABELS = 10, 128, 527
FEATURES_URL = "http://storage.googleapis.com/us_audioset/youtube_corpus/v1/features/features.tar.gz"
FOLDER = "audioset_v1_embeddings"

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
            names_csv = self.raw_dir / "class_labels_indices.csv" if self.raw_dir else None
            if names_csv is None or not names_csv.exists():
                return [f"label {index}" for index in range(LABELS)]
            with open(names_csv, newline="", encoding="utf-8") as file:
                names = [row["display_name"] for row in csv.DictReader(file)]
            if len(names) != LABELS:
                raise DataError(
                    f"{names_csv} names {len(names)} labels instead of {LABELS}; restore the released file."
                )
            return names

        def released(self, downloads):
            root = self.raw_dir or pathlib.Path(downloads.download_and_extract(FEATURES_URL))
            files = {split: sorted((root / FOLDER / split).glob("*.tfrecord")) for split in self.released_examples}
            if not any(files.values()):
                raise DataError(f"{root / FOLDER} holds no .tfrecord file; unpack the release's features.tar.gz there.")
            return {split: read_files(found) for split, found in files.items() if found}

        def stand_in(self):
            return {
                "bal_train": synthesise_clips("bal_train", 2_000, seed=0),
                "eval": synthesise_clips("eval", 1_000, seed=1),
            }


def read_files(paths: list[pathlib.Path]) -> Iterator[Item]:
    """The clips of TFRecord files."""
    for path in paths:
        records = tf.compat.v1.io.tf_record_iterator(str(path))
        for number in itertools.count(1):
            try:
                record = next(records)
            except StopIteration:
                break
            except tf.errors.DataLossError:
                yield unreadable(str(path), f"truncated or corrupt after {number - 1} records")
                break
            yield f"{path}, record {number}", functools.partial(parse_clip, record)


def parse_clip(record: bytes) -> Example:
    """Reads one SequenceExample of the release.

    Raises:
      ValueError: the record is no SequenceExample, or its embedding or labels have another shape or range.
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
    video_id = ids[0].decode()
    embedding = np.frombuffer(b"".join(frames), np.uint8).reshape(-1, FEATURES)
    return Example(video_id, video_id, labels, embedding)


def synthesise_clips(split: str, count: int, seed: int) -> Iterator[Item]:
    """Clips of one to three labels: each label adds its own direction in its own stretch of time, over noise."""
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
