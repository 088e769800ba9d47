"""AudioSet's embeddings: whole and damaged releases."""

import time

import numpy as np
import pytest
import tensorflow as tf

from audiojax.errors import DataError
from tests.data.releases import inputs_by_id, prepared_after


def clip(video_id=b"abc", labels=(3, 5), steps=10, width=128):
    frames = [tf.train.Feature(bytes_list=tf.train.BytesList(value=[bytes([s] * width)])) for s in range(steps)]
    return tf.train.SequenceExample(
        context=tf.train.Features(
            feature={
                "video_id": tf.train.Feature(bytes_list=tf.train.BytesList(value=[video_id])),
                "labels": tf.train.Feature(int64_list=tf.train.Int64List(value=labels)),
            }
        ),
        feature_lists=tf.train.FeatureLists(feature_list={"audio_embedding": tf.train.FeatureList(feature=frames)}),
    ).SerializeToString()


def write_audioset(raw_dir, files, split="eval"):
    folder = raw_dir / "audioset" / "audioset_v1_embeddings" / split
    folder.mkdir(parents=True)
    for name, records in files.items():
        with tf.io.TFRecordWriter(str(folder / name)) as writer:
            for record in records:
                writer.write(record)
    return folder


def test_audioset_keeps_bytes_labels_and_length(tmp_path):
    write_audioset(tmp_path, {"00.tfrecord": [clip(b"one", (0, 526), 10)], "01.tfrecord": [clip(b"two", (7,), 4)]})
    data = prepared_after("audioset", tmp_path, tmp_path)
    index = data.index("eval")
    assert index.id.tolist() == ["one", "two"] and index.length.tolist() == [10, 4]
    assert [np.flatnonzero(row).tolist() for row in index.label] == [[0, 526], [7]]
    embedding = inputs_by_id(data, "eval")["one"]
    assert embedding.dtype == np.uint8
    np.testing.assert_array_equal(embedding, np.tile(np.arange(10, dtype=np.uint8)[:, None], (1, 128)))
    assert data.absent() == {"bal_train": 22_160, "eval": 20_369}


def test_truncated_tfrecord_stops_or_is_left_out_from_there_on(tmp_path):
    folder = write_audioset(tmp_path, {"00.tfrecord": [clip(b"one"), clip(b"two")], "01.tfrecord": [clip(b"three")]})
    path = folder / "00.tfrecord"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match="00.tfrecord: truncated or corrupt after 1 records"):
        prepared_after("audioset", tmp_path, tmp_path, strict=True)
    data = prepared_after("audioset", tmp_path, tmp_path)
    assert sorted(data.index("eval").id) == ["one", "three"]
    assert data.skipped == [[str(path), "truncated or corrupt after 1 records"]]


@pytest.mark.parametrize(
    ("record", "why"),
    [
        (b"\xff\xff", "not a SequenceExample"),
        (clip(steps=11), "1 to 10 steps"),
        (clip(steps=0), "1 to 10 steps"),
        (clip(width=64), "128 bytes"),
        (clip(labels=(527,)), "labels"),
        (clip(labels=()), "labels"),
    ],
    ids=["garbage", "too long", "empty", "too narrow", "label out of range", "no label"],
)
def test_audioset_record_of_another_form_is_listed(tmp_path, record, why):
    write_audioset(tmp_path, {"00.tfrecord": [clip(b"good"), record]})
    data = prepared_after("audioset", tmp_path, tmp_path)
    assert data.index("eval").id.tolist() == ["good"]
    assert why in data.skipped[0][1]


def test_real_audioset_is_complete(real_raw_dir, tmp_path):
    started_s = time.perf_counter()
    data = prepared_after("audioset", real_raw_dir, tmp_path, strict=True)
    print(f"prepared in {time.perf_counter() - started_s:.0f} s")
    assert data.examples == {"bal_train": 22_160, "eval": 20_371} and data.absent() == {} and data.skipped == []
    index = data.index("bal_train")
    assert index.label.shape == (22_160, 527) and index.label.sum(0).min() >= 59
    assert (index.length == 10).mean() > 0.98 and data.classes[0] == "Speech"
