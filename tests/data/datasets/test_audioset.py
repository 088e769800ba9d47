"""AudioSet's embeddings: whole and damaged releases."""

import gzip
import os
import time

import numpy as np
import pytest
import tensorflow as tf

from audiojax.errors import DataError
from tests.data.releases import inputs_by_id, prepared_after, write_files


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


def test_audioset_from_a_mac_compressed_linked_and_one_folder_deeper(tmp_path):
    folder = write_audioset(
        tmp_path / "raw", {"00.tfrecord": [clip(b"one")], "01.tfrecord": [clip(b"two")], "02.tfrecord": [clip(b"six")]}
    )
    packed = gzip.compress((folder / "01.tfrecord").read_bytes())
    (folder / "01.tfrecord").write_bytes(packed)  # as some downloads leave it: compressed under the plain name
    (folder / "02.tfrecord").rename(tmp_path / "blob")
    (folder / "02.tfrecord").symlink_to(tmp_path / "blob")
    with gzip.open(folder / "03.TFRECORD.gz", "wb") as file:
        file.write((folder / "00.tfrecord").read_bytes())
    (folder / "00.tfrecord").unlink()
    write_files(folder, {"._01.tfrecord": b"finder", ".DS_Store": b"finder", "readme.txt": b"text"})
    root = tmp_path / "raw" / "audioset"
    (root / "features").mkdir()
    (root / "audioset_v1_embeddings").rename(root / "features" / "audioset_v1_embeddings")
    data = prepared_after("audioset", tmp_path / "raw", tmp_path, strict=True)
    assert data.index("eval").id.tolist() == ["one", "six", "two"] and data.skipped == []


def test_audioset_lists_one_unreadable_file_and_prepares_the_others(tmp_path):
    folder = write_audioset(tmp_path, {"00.tfrecord": [clip(b"one")], "05.tfrecord": [clip(b"two"), clip(b"three")]})
    (folder / "01.tfrecord").mkdir()
    (folder / "02.tfrecord").symlink_to(tmp_path / "nowhere")
    os.mkfifo(folder / "03.tfrecord")
    packed = gzip.compress((folder / "05.tfrecord").read_bytes())
    (folder / "04.tfrecord.gz").write_bytes(packed[:5])
    (folder / "05.tfrecord").write_bytes(packed[:-4])
    data = prepared_after("audioset", tmp_path, tmp_path)
    assert sorted(data.index("eval").id) == ["one", "three", "two"]
    assert [[what.rsplit("/")[-1], why] for what, why in data.skipped] == [
        ["01.tfrecord", "a folder, not a file"],
        ["02.tfrecord", "cannot be read (a link that leads nowhere: No such file or directory)"],
        ["03.tfrecord", "a pipe, socket or device, not a file"],
        ["04.tfrecord.gz", "truncated or corrupt after 0 records"],
        ["05.tfrecord", "truncated or corrupt after 2 records"],
    ]


HEADER = ["index", "mid", "display_name"]
NAMES = [[str(index), f"/m/{index}", f"name, of {index}"] for index in range(527)]


def names_csv(rows, separator=","):
    """class_labels_indices.csv of these rows."""
    return "".join(separator.join(f'"{value}"' for value in row) + "\n" for row in [HEADER, *rows])


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_audioset_names_stand_in_the_order_of_their_index(tmp_path, separator, encoding):
    write_audioset(tmp_path, {"00.tfrecord": [clip()]})
    text = names_csv(NAMES[::-1], separator)
    (tmp_path / "audioset" / "class_labels_indices.csv").write_bytes(text.encode(encoding))
    data = prepared_after("audioset", tmp_path, tmp_path)
    assert data.classes == [f"name, of {index}" for index in range(527)]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (names_csv([*NAMES[:-1], ["527", "", "x"]]), "line 528: index '527' is no integer from 0 to 526"),
        (names_csv([*NAMES[:-1], ["526.0", "", "x"]]), "line 528: index '526.0' is no integer"),
        (names_csv([*NAMES[:-1], ["", "", "x"]]), "line 528: index '' is no integer"),
        (names_csv([*NAMES[:-1], ["3", "", "x"]]), "line 528: index 3 is named a second time"),
        (names_csv([*NAMES[:-1], ["526", "", ""]]), "line 528: display_name '' is empty or named a second time"),
        (names_csv([*NAMES[:3], *NAMES[4:]]), "names 526 labels instead of 527 .index 3 is absent."),
        (names_csv(NAMES).replace('"', ""), "line 2: 4 values under a header of 3 columns"),
        (names_csv(NAMES).replace("display_name", "name"), "has no column display_name"),
        (names_csv([*NAMES[:-1], ["526", "", "\xe9"]]).encode("latin-1"), "its text is neither UTF-8 nor UTF-16"),
    ],
)
def test_audioset_names_that_are_not_one_for_each_label_are_refused(tmp_path, text, why):
    write_audioset(tmp_path, {"00.tfrecord": [clip()]})
    path = tmp_path / "audioset" / "class_labels_indices.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=f"class_labels_indices.csv: {why}.*; restore the released file"):
        prepared_after("audioset", tmp_path, tmp_path)


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
