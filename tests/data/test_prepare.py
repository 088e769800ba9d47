"""Preparation of releases: whole, partial and damaged ones, written here as the releases lay their files out."""

import io
import json
import subprocess
import sys
import tarfile
import time

import numpy as np
import pytest
import soundfile
import tensorflow as tf

from audiojax.data import prepared
from audiojax.data.prepare import prepare
from audiojax.errors import ConfigError, DataError
from tests.conftest import ROOT


def wav(samples=64_000, rate=16_000, subtype="PCM_16", seed=0):
    file = io.BytesIO()
    audio = np.random.default_rng(seed).integers(-3000, 3000, samples).astype(np.int16)
    soundfile.write(file, audio, rate, format="WAV", subtype=subtype)
    return file.getvalue()


def note(family="bass", instrument=0):
    return {"instrument_family_str": family, "instrument_str": f"{family}_acoustic_{instrument:03d}"}


def write_nsynth(raw_dir, notes, wavs, split="test"):
    """nsynth-SPLIT/ with an examples.json of `notes` and the files of `wavs`, both by note id."""
    folder = raw_dir / "nsynth" / f"nsynth-{split}"
    (folder / "audio").mkdir(parents=True)
    (folder / "examples.json").write_text(json.dumps(notes))
    for name, content in wavs.items():
        (folder / "audio" / f"{name}.wav").write_bytes(content)
    return folder


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


def prepared_after(name, raw_dir, tmp_path, strict=False):
    prepare(name, "released", raw_dir, tmp_path / "data", strict)
    return prepared.find(name, "released", tmp_path / "data")


def test_nsynth_folder_keeps_samples_labels_groups_and_counts_what_is_absent(tmp_path):
    notes = {"a": note("bass"), "b": note("flute", 2)}
    write_nsynth(tmp_path, notes, {"a": wav(), "b": wav(1000, seed=1)})
    data = prepared_after("nsynth", tmp_path, tmp_path)
    index = data.index("test")
    order = np.argsort(index.id)
    assert index.id[order].tolist() == ["a", "b"]
    assert index.group[order].tolist() == ["bass_acoustic_000", "flute_acoustic_002"]
    assert [data.classes[label] for label in index.label[order]] == ["bass", "flute"]
    assert index.length[order].tolist() == [64_000, 1000]
    audio = np.load(data.inputs_path("test"))[order]
    assert audio.dtype == np.int16 and not audio[1, 1000:].any()
    expected, _ = soundfile.read(io.BytesIO(wav(1000, seed=1)), dtype="int16")
    np.testing.assert_array_equal(audio[1, :1000], expected)
    assert data.absent() == {"train": 289_205, "valid": 12_678, "test": 4_094}
    assert data.skipped == []


def test_nsynth_archive_reads_as_the_folder_does(tmp_path):
    folder = write_nsynth(tmp_path / "unpacked", {"a": note(), "b": note("vocal")}, {"a": wav(), "b": wav(seed=2)})
    (tmp_path / "packed" / "nsynth").mkdir(parents=True)
    with tarfile.open(tmp_path / "packed" / "nsynth" / "nsynth-test.jsonwav.tar.gz", "w:gz") as tar:
        tar.add(folder, "nsynth-test")
    one = prepared_after("nsynth", tmp_path / "unpacked", tmp_path / "one")
    two = prepared_after("nsynth", tmp_path / "packed", tmp_path / "two")
    for field, other in zip(one.index("test"), two.index("test")):
        np.testing.assert_array_equal(field, other)
    np.testing.assert_array_equal(np.load(one.inputs_path("test")), np.load(two.inputs_path("test")))


DAMAGED_NOTES = {
    "another rate": (wav(rate=22_050), "22050 Hz"),
    "another depth": (wav(subtype="PCM_24"), "PCM_24"),
    "empty": (wav(samples=0), "0 samples"),
    "too long": (wav(samples=64_001), "64001 samples"),
    "no wav at all": (b"nothing", "does not decode"),
    "absent": (None, "named in examples.json but absent"),
}


@pytest.mark.parametrize("damage", DAMAGED_NOTES)
def test_damaged_note_stops_or_is_left_out_and_listed(tmp_path, damage):
    content, why = DAMAGED_NOTES[damage]
    write_nsynth(tmp_path, {"good": note(), "bad": note()}, {"good": wav()} | ({"bad": content} if content else {}))
    with pytest.raises(DataError, match=f"bad.wav.*{why}.*data.strict=False"):
        prepared_after("nsynth", tmp_path, tmp_path, strict=True)
    assert prepared.find("nsynth", "released", tmp_path / "data") is None
    data = prepared_after("nsynth", tmp_path, tmp_path)
    assert data.examples == {"test": 1}
    [[what, reason]] = data.skipped
    assert "bad.wav" in what and why in reason


def test_wav_that_examples_json_does_not_name_is_listed(tmp_path):
    write_nsynth(tmp_path, {"good": note()}, {"good": wav(), "stray": wav()})
    data = prepared_after("nsynth", tmp_path, tmp_path)
    assert data.skipped == [[f"{tmp_path}/nsynth/nsynth-test: stray.wav", "not named in examples.json"]]


@pytest.mark.parametrize("text", ["{", "[]", '{"a": 1}'])
def test_examples_json_of_another_form_is_named(tmp_path, text):
    folder = write_nsynth(tmp_path, {}, {"a": wav()})
    (folder / "examples.json").write_text(text)
    with pytest.raises(DataError, match="examples.json is not"):
        prepared_after("nsynth", tmp_path, tmp_path)


def test_audioset_keeps_bytes_labels_and_length(tmp_path):
    write_audioset(tmp_path, {"00.tfrecord": [clip(b"one", (0, 526), 10)], "01.tfrecord": [clip(b"two", (7,), 4)]})
    data = prepared_after("audioset", tmp_path, tmp_path)
    index = data.index("eval")
    order = np.argsort(index.id)
    assert index.id[order].tolist() == ["one", "two"] and index.length[order].tolist() == [10, 4]
    assert [np.flatnonzero(row).tolist() for row in index.label[order]] == [[0, 526], [7]]
    embedding = np.load(data.inputs_path("eval"))[order]
    assert embedding.dtype == np.uint8 and not embedding[1, 4:].any()
    np.testing.assert_array_equal(embedding[0], np.tile(np.arange(10, dtype=np.uint8)[:, None], (1, 128)))
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


def test_absent_release_is_said(tmp_path):
    with pytest.raises(DataError, match="has no folder nsynth"):
        prepared_after("nsynth", tmp_path, tmp_path)
    (tmp_path / "nsynth").mkdir()
    with pytest.raises(DataError, match="neither nsynth-SPLIT/ nor"):
        prepared_after("nsynth", tmp_path, tmp_path)
    with pytest.raises(ConfigError, match="data sets: audioset, nsynth"):
        prepare("nsinth", "released", tmp_path, tmp_path, True)


def test_killed_preparation_starts_again(tmp_path):
    """SIGKILL in the middle leaves nothing that the next start takes for prepared data."""
    code = (
        "import pathlib, sys\nfrom audiojax.data.prepare import prepare\n"
        "prepare('audioset', 'stand_in', None, pathlib.Path(sys.argv[1]), True)\n"
    )
    first = subprocess.Popen([sys.executable, "-c", code, tmp_path], cwd=ROOT, stderr=subprocess.DEVNULL)
    while first.poll() is None and not list(tmp_path.glob("audioset/stand_in/*")):
        time.sleep(0.001)
    first.kill()
    first.wait()
    assert prepared.find("audioset", "stand_in", tmp_path) is None and list(tmp_path.glob("audioset/stand_in/*"))
    subprocess.run([sys.executable, "-c", code, tmp_path], cwd=ROOT, check=True, stderr=subprocess.DEVNULL)
    data = prepared.find("audioset", "stand_in", tmp_path)
    assert data.examples == {"bal_train": 2000, "eval": 1000}
    assert [path.name for path in (tmp_path / "audioset" / "stand_in").iterdir()] == ["1.0.0"]


def test_real_audioset_is_complete(real_raw_dir, tmp_path):
    started_s = time.perf_counter()
    data = prepared_after("audioset", real_raw_dir, tmp_path, strict=True)
    print(f"prepared in {time.perf_counter() - started_s:.0f} s")
    assert data.examples == {"bal_train": 22_160, "eval": 20_371} and data.absent() == {} and data.skipped == []
    index = data.index("bal_train")
    assert index.label.shape == (22_160, 527) and index.label.sum(0).min() >= 59
    assert (index.length == 10).mean() > 0.98 and data.classes[0] == "Speech"


def test_real_nsynth_part_is_prepared_and_counted(real_raw_dir, tmp_path):
    data = prepared_after("nsynth", real_raw_dir, tmp_path, strict=True)
    assert data.examples == {"train": 833, "valid": 246, "test": 73}
    assert data.absent() == {"train": 288_372, "valid": 12_432, "test": 4_023}
    assert not set(data.index("train").group) & set(data.index("test").group)
    assert set(data.index("valid").group) == set(data.index("test").group)
