"""Preparation of releases: whole, partial and damaged ones, written here as the releases lay their files out."""

import io
import json
import pathlib
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile

import numpy as np
import pytest
import soundfile
import tensorflow as tf

from audiojax.data import prepared, store
from audiojax.data.prepare import prepare
from audiojax.errors import ConfigError, DataError
from tests.conftest import ROOT


def samples_of(seed, samples=2_000):
    return np.random.default_rng(seed).integers(-3000, 3000, samples).astype(np.int16)


def encode(audio, rate, form="WAV", subtype="PCM_16"):
    file = io.BytesIO()
    soundfile.write(file, audio, rate, format=form, subtype=subtype)
    return file.getvalue()


def wav(samples=64_000, rate=16_000, subtype="PCM_16", seed=0):
    return encode(samples_of(seed, samples), rate, subtype=subtype)


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


def inputs_by_id(data, split):
    """Example's id -> its steps, as they are stored."""
    index, inputs = data.index(split), data.inputs(split)
    return {i: inputs[start : start + length] for i, start, length in zip(index.id, index.start, index.length)}


def assert_same(one, two, split):
    """Two prepared data sets hold the same of a split."""
    for field, other in zip(one.index(split), two.index(split)):
        np.testing.assert_array_equal(field, other)
    np.testing.assert_array_equal(one.inputs(split), two.inputs(split))


def test_nsynth_folder_keeps_samples_labels_groups_and_counts_what_is_absent(tmp_path):
    notes = {"a": note("bass"), "b": note("flute", 2)}
    write_nsynth(tmp_path, notes, {"a": wav(), "b": wav(1000, seed=1)})
    data = prepared_after("nsynth", tmp_path, tmp_path)
    index = data.index("test")
    assert index.id.tolist() == ["a", "b"]
    assert index.group.tolist() == ["bass_acoustic_000", "flute_acoustic_002"]
    assert [data.classes[label] for label in index.label] == ["bass", "flute"]
    assert index.length.tolist() == [64_000, 1000]
    audio = inputs_by_id(data, "test")["b"]
    assert audio.dtype == np.int16
    np.testing.assert_array_equal(audio, samples_of(1, 1000))
    assert data.absent() == {"train": 289_205, "valid": 12_678, "test": 4_094}
    assert data.skipped == []


def test_nsynth_archive_reads_as_the_folder_does(tmp_path):
    folder = write_nsynth(tmp_path / "unpacked", {"a": note(), "b": note("vocal")}, {"a": wav(), "b": wav(seed=2)})
    (tmp_path / "packed" / "nsynth").mkdir(parents=True)
    with tarfile.open(tmp_path / "packed" / "nsynth" / "nsynth-test.jsonwav.tar.gz", "w:gz") as tar:
        tar.add(folder, "nsynth-test")
    one = prepared_after("nsynth", tmp_path / "unpacked", tmp_path / "one")
    two = prepared_after("nsynth", tmp_path / "packed", tmp_path / "two")
    assert_same(one, two, "test")


DAMAGED_NOTES = {
    "another rate": (wav(rate=22_050), "22050 Hz"),
    "another depth": (wav(subtype="PCM_24"), "PCM_24"),
    "empty": (wav(samples=0), "0 samples"),
    "too long": (wav(samples=64_001), "64001 samples"),
    "no wav at all": (b"nothing", "does not decode"),
    "truncated": (wav()[:-1000], "truncated"),
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


def test_absent_release_is_said(tmp_path):
    with pytest.raises(DataError, match="has no folder nsynth"):
        prepared_after("nsynth", tmp_path, tmp_path)
    (tmp_path / "nsynth").mkdir()
    with pytest.raises(DataError, match="neither nsynth-SPLIT/ nor"):
        prepared_after("nsynth", tmp_path, tmp_path)
    with pytest.raises(ConfigError, match="data sets: audioset, fsdkaggle2018, gtzan, nsynth\\."):
        prepare("nsinth", "released", tmp_path, tmp_path, True)


def write_gtzan(root, tracks):
    """Files by name, such as blues/blues.00000.wav, under `root`."""
    for name, content in tracks.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def track(seed=0, form="WAV", subtype="PCM_16"):
    return encode(samples_of(seed), 22_050, form, subtype)


def tar_of(path, members):
    """A genres.tar.gz of bytes by name; a TarInfo instead of bytes stands for itself."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            if isinstance(content, bytes):
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
            else:
                content.name = name
                tar.addfile(content)


def test_gtzan_trees_of_au_and_wav_and_its_archive_hold_the_same(tmp_path):
    names = ["blues/blues.00000", "jazz/jazz.00001", "rock/rock.00002"]
    au = {f"genres/{name}.au": track(seed, "AU") for seed, name in enumerate(names)}
    wavs = {f"Data/genres_original/{name}.wav": track(seed) for seed, name in enumerate(names)}
    images = {f"Data/images_original/{name.replace('.', '')}.png": b"image" for name in names}
    write_gtzan(tmp_path / "au" / "gtzan", au | {"genres/blues/._blues.00000.au": b"finder", "genres/x.mf": b"list"})
    write_gtzan(tmp_path / "wav" / "gtzan", wavs | images)
    tar_of(
        tmp_path / "tar" / "gtzan" / "genres.tar.gz", au | {"genres/blues/._blues.00000.au": b"", "genres/x.mf": b""}
    )
    one, two, three = (prepared_after("gtzan", tmp_path / kind, tmp_path / kind, True) for kind in ("au", "wav", "tar"))
    index = one.index("all")
    assert index.id.tolist() == index.group.tolist() == ["blues.00000", "jazz.00001", "rock.00002"]
    assert [one.classes[label] for label in index.label] == ["blues", "jazz", "rock"]
    for seed, audio in enumerate(inputs_by_id(one, "all").values()):
        np.testing.assert_array_equal(audio, samples_of(seed))
    assert_same(one, two, "all")
    assert_same(one, three, "all")
    assert one.absent() == {"all": 997} and one.changes == {} and one.sample_rate_hz == 22_050


def test_gtzan_reads_every_format_and_any_file_name_and_counts_changes(tmp_path):
    tracks = {
        "pop/Étude № 7 шум.wav": track(1),
        "pop/a.FLAC": track(2, "FLAC"),
        "pop/b.ogg": track(3, "OGG", "VORBIS"),
        "pop/c.mp3": track(4, "MP3", "MPEG_LAYER_III"),
        "pop/d.wav": encode(np.stack([samples_of(5)] * 2, 1), 22_050),
        "pop/e.wav": encode(samples_of(6), 44_100),
        "pop/f.wav": encode(np.zeros(100, np.int16), 22_050),
    }
    write_gtzan(tmp_path / "gtzan" / "a folder" / "another", tracks)
    data = prepared_after("gtzan", tmp_path, tmp_path, strict=True)
    audio = inputs_by_id(data, "all")
    assert sorted(audio) == sorted(["Étude № 7 шум", *"abcdef"])
    for name, seed in (("Étude № 7 шум", 1), ("a", 2), ("d", 5)):
        np.testing.assert_array_equal(audio[name], samples_of(seed))
    assert len(audio["e"]) == 1000 and data.index("all").length.max() == data.longest == 2000
    assert data.changes == {"mixed to mono": 1, "resampled": 1, "silent": 1}


def test_gtzan_jazz_54_stops_or_is_left_out_and_listed(tmp_path):
    """The common copy holds one file that is no audio."""
    folder = tmp_path / "gtzan" / "genres_original"
    tracks = {f"jazz/jazz.{number:05d}.wav": track(number) for number in (53, 54, 55)}
    write_gtzan(folder, tracks | {"jazz/jazz.00054.wav": bytes(range(256)) * 100})
    with pytest.raises(DataError, match="jazz.00054.wav: does not decode.*data.strict=False"):
        prepared_after("gtzan", tmp_path, tmp_path, strict=True)
    data = prepared_after("gtzan", tmp_path, tmp_path)
    assert data.index("all").id.tolist() == ["jazz.00053", "jazz.00055"] and data.absent() == {"all": 998}
    [[what, why]] = data.skipped
    assert what == str(folder / "jazz" / "jazz.00054.wav") and "does not decode" in why


DAMAGED_TRACKS = {
    "corrupt header": (b"RIFX" + track()[4:], "does not decode|truncated"),
    "truncated": (track()[:-100], "truncated"),
    "empty": (encode(np.zeros(0, np.int16), 22_050), "no samples"),
    "not a number": (encode(np.array([0.1, np.nan]), 22_050, subtype="FLOAT"), "NaN"),
}


@pytest.mark.parametrize("damage", DAMAGED_TRACKS)
@pytest.mark.parametrize("packed", [False, True])
def test_damaged_track_is_listed(tmp_path, damage, packed):
    content, why = DAMAGED_TRACKS[damage]
    tracks = {"genres/pop/bad.wav": content, "genres/pop/good.wav": track()}
    if packed:
        tar_of(tmp_path / "gtzan" / "genres.tar.gz", tracks)
    else:
        write_gtzan(tmp_path / "gtzan", tracks)
    with pytest.raises(DataError, match=f"bad.wav: .*({why})"):
        prepared_after("gtzan", tmp_path, tmp_path, strict=True)
    assert prepared_after("gtzan", tmp_path, tmp_path).examples == {"all": 1}


def test_gtzan_links_out_of_the_tree_and_second_ids_are_listed(tmp_path):
    outside, folder = tmp_path / "outside.wav", tmp_path / "gtzan" / "genres" / "disco"
    outside.write_bytes(track())
    write_gtzan(folder, {"one.wav": track(1), "one.flac": track(1, "FLAC"), "notes.txt": b"text"})
    (folder / "two.wav").symlink_to(outside)
    data = prepared_after("gtzan", tmp_path, tmp_path)
    assert {pathlib.Path(what).name: why for what, why in data.skipped} == {
        "notes.txt": "not an audio file",
        "one.wav": "a second example with the id one",
        "two.wav": "a link that leads out of the release",
    }


def test_gtzan_archive_that_leads_out_of_itself_is_listed_and_nothing_extracted(tmp_path):
    link = tarfile.TarInfo()
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    archive = tmp_path / "gtzan" / "genres.tar.gz"
    members = {
        "genres/pop/good.wav": track(1),
        "genres/pop/../../../pop/up.wav": track(2),
        "/genres/pop/root.wav": track(3),
        "genres/pop/link.wav": link,
        "genres/pop/notes.txt": b"text",
    }
    tar_of(archive, members)
    data = prepared_after("gtzan", tmp_path, tmp_path)
    assert data.index("all").id.tolist() == ["good"]
    assert {what.rsplit("/")[-1]: why for what, why in data.skipped} == {
        "up.wav": "a name that leads out of the archive",
        "root.wav": "a name that leads out of the archive",
        "link.wav": "a link or device, not a file",
        "notes.txt": "not an audio file",
    }
    assert not list(tmp_path.rglob("*.wav"))


def test_gtzan_truncated_archive_stops_or_keeps_what_is_whole(tmp_path):
    archive = tmp_path / "gtzan" / "genres.tar.gz"
    tar_of(archive, {f"genres/pop/{number}.wav": track(number) for number in range(40)})
    archive.write_bytes(archive.read_bytes()[: archive.stat().st_size // 2])
    with pytest.raises(DataError, match="genres.tar.gz: truncated or corrupt from here on"):
        prepared_after("gtzan", tmp_path, tmp_path, strict=True)
    assert 10 < prepared_after("gtzan", tmp_path, tmp_path).examples["all"] < 30


def test_gtzan_without_anything_readable_stops(tmp_path):
    (tmp_path / "gtzan").mkdir()
    with pytest.raises(DataError, match="neither genres.tar.gz nor folders named blues to rock"):
        prepared_after("gtzan", tmp_path, tmp_path)
    (tmp_path / "gtzan" / "genres.tar.gz").write_bytes(b"no archive")
    with pytest.raises(DataError, match="nothing of split all can be read"):
        prepared_after("gtzan", tmp_path, tmp_path)
    with pytest.raises(DataError, match="gtzan can no longer be downloaded; put its genres/"):
        prepared_after("gtzan", None, tmp_path)


TRAIN = "fname,label,manually_verified,freesound_id,license\n"
TEST = "fname,label,usage,freesound_id,license\n"
TRAIN_ROWS = "a.wav,Hi-hat,0,11,CC\nb.wav,Flute,1,12,CC\nabsent.wav,Flute,1,12,CC\n"


def write_fsd(raw_dir, train_csv=TRAIN + TRAIN_ROWS, test_csv=TEST + "c.wav,Bus,Public,13,CC\n", **audio):
    """FSDKaggle2018.meta, and FSDKaggle2018.audio_SPLIT for each `audio`: SPLIT = {file name: bytes}."""
    root = raw_dir / "fsdkaggle2018"
    (root / "FSDKaggle2018.meta").mkdir(parents=True)
    (root / "FSDKaggle2018.meta" / "train_post_competition.csv").write_text(train_csv)
    (root / "FSDKaggle2018.meta" / "test_post_competition_scoring_clips.csv").write_text(test_csv)
    for split, files in audio.items():
        write_gtzan(root / f"FSDKaggle2018.audio_{split}", files)
    return root


def clip_wav(seed, samples):
    return encode(samples_of(seed, samples), 44_100)


CLIPS = {"train": {"a.wav": clip_wav(1, 500), "b.wav": clip_wav(2, 700)}, "test": {"c.wav": clip_wav(3, 900)}}


def test_fsd_keeps_lengths_labels_subsets_and_groups_as_folders_and_as_archives(tmp_path):
    root = write_fsd(tmp_path / "unpacked", **CLIPS)
    packed = tmp_path / "packed" / "fsdkaggle2018"
    packed.mkdir(parents=True)
    for part in ("meta", "audio_train", "audio_test"):
        with zipfile.ZipFile(packed / f"FSDKaggle2018.{part}.zip", "w") as archive:
            archive.writestr(f"__MACOSX/FSDKaggle2018.{part}/._a.wav", b"finder")
            for path in sorted((root / f"FSDKaggle2018.{part}").iterdir()):
                archive.write(path, f"FSDKaggle2018.{part}/{path.name}")
    one, two = (prepared_after("fsdkaggle2018", tmp_path / k, tmp_path / k, True) for k in ("unpacked", "packed"))
    train, test = one.index("train"), one.index("test")
    assert train.id.tolist() == ["a", "b"] and train.group.tolist() == ["11", "12"]
    assert train.subset.tolist() == ["unverified", "verified"] and test.subset.tolist() == ["Public"]
    assert [one.classes[label] for label in [*train.label, *test.label]] == ["Hi-hat", "Flute", "Bus"]
    np.testing.assert_array_equal(inputs_by_id(one, "train")["b"], samples_of(2, 700))
    assert one.absent() == {"train": 9471, "test": 1599} and one.skipped == []
    for split in ("train", "test"):
        assert_same(one, two, split)


def test_fsd_audio_without_metadata_is_listed_and_an_absent_split_is_absent(tmp_path):
    root = write_fsd(tmp_path)
    write_gtzan(root / "FSDKaggle2018.audio_train", CLIPS["train"] | {"stray ü.wav": clip_wav(4, 10), ".hidden": b""})
    data = prepared_after("fsdkaggle2018", tmp_path, tmp_path)
    assert data.examples == {"train": 2} and data.absent() == {"train": 9471, "test": 1600}
    assert data.skipped == [[f"{root}/FSDKaggle2018.audio_train: stray ü.wav", "not named in the metadata"]]


def test_fsd_damaged_member_of_an_archive_is_listed(tmp_path):
    root = write_fsd(tmp_path)
    path = root / "FSDKaggle2018.audio_train.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in CLIPS["train"].items():
            archive.writestr(f"FSDKaggle2018.audio_train/{name}", content)
    content = bytearray(path.read_bytes())
    content[300] ^= 1  # inside a.wav
    path.write_bytes(content)
    data = prepared_after("fsdkaggle2018", tmp_path, tmp_path)
    [[what, why]] = data.skipped
    assert data.index("train").id.tolist() == ["b"] and what.endswith(": a.wav") and "cannot be unpacked" in why
    path.write_bytes(b"PK")
    shutil.rmtree(tmp_path / "data")
    with pytest.raises(DataError, match="audio_train.zip cannot be read .*; download it again"):
        prepared_after("fsdkaggle2018", tmp_path, tmp_path)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (TRAIN + "a.wav,Kazoo,1,11,CC\n", "line 2: label 'Kazoo' is none of the 41 classes"),
        (TRAIN + TRAIN_ROWS + "a.wav,Bus,1,11,CC\n", "line 5: fname 'a.wav' is empty or named before"),
        (TRAIN + "a.wav,Bus,yes,11,CC\n", "line 2: manually_verified 'yes' is none of 1, 0"),
        (TRAIN + "a.wav,Bus,1,,CC\n", "line 2: freesound_id of a.wav is empty"),
        (TRAIN + "a.wav,Bus\n", "line 2: manually_verified None"),
        ("fname,label\na.wav,Bus\n", "has no column freesound_id, manually_verified"),
        ("", "has no column"),
    ],
)
def test_fsd_metadata_of_another_form_is_named(tmp_path, text, why):
    root = write_fsd(tmp_path, train_csv=text)
    write_gtzan(root / "FSDKaggle2018.audio_train", CLIPS["train"])
    with pytest.raises(DataError, match=f"FSDKaggle2018.meta: train_post_competition.csv: {why}"):
        prepared_after("fsdkaggle2018", tmp_path, tmp_path)


def test_fsd_without_audio_or_metadata_stops(tmp_path):
    root = write_fsd(tmp_path)
    with pytest.raises(DataError, match="lacks FSDKaggle2018.meta or any FSDKaggle2018.audio_SPLIT"):
        prepared_after("fsdkaggle2018", tmp_path, tmp_path)
    write_gtzan(root / "FSDKaggle2018.audio_train", CLIPS["train"])
    (root / "FSDKaggle2018.meta" / "train_post_competition.csv").unlink()
    with pytest.raises(DataError, match="train_post_competition.csv is absent"):
        prepared_after("fsdkaggle2018", tmp_path, tmp_path)


def test_killed_preparation_goes_on_where_it_stopped(tmp_path):
    """After SIGKILL nothing passes for prepared data; the second start reads only what is missing; the bytes agree."""
    folder = tmp_path / "raw" / "gtzan" / "genres" / "rock"
    write_gtzan(folder, {f"{n:03d}.wav": encode(samples_of(n, 200_000), 48_000) for n in range(100)})
    prepare("gtzan", "released", tmp_path / "raw", tmp_path / "whole", True)
    killed = tmp_path / "killed"
    code = (
        "import pathlib, sys\nfrom audiojax.data.prepare import prepare\n"
        "prepare('gtzan', 'released', pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), True)\n"
    )
    journal = killed / "gtzan" / "released" / "partial" / "all.journal"
    command = [sys.executable, "-c", code, tmp_path / "raw", killed]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as first:
        while first.poll() is None and not (journal.exists() and journal.read_bytes().count(b"\n") > 3):
            time.sleep(0.001)
        first.kill()
    assert prepared.find("gtzan", "released", killed) is None
    done = [json.loads(line)["what"] for line in journal.read_text().split("\n")[:-1]]
    assert 3 < len(done) < 100
    for path in done[:-1]:  # The last one's samples may be half-written.
        pathlib.Path(path).write_bytes(b"not to be read again")
    prepare("gtzan", "released", tmp_path / "raw", killed, True)
    one, two = (prepared.find("gtzan", "released", path) for path in (tmp_path / "whole", killed))
    for path in (store.inputs_path, store.index_path):
        assert path(one.folder, "all").read_bytes() == path(two.folder, "all").read_bytes()
    assert one.examples == two.examples == {"all": 100} and one.changes == two.changes == {"resampled": 100}
    assert [path.name for path in (killed / "gtzan" / "released").iterdir()] == ["2.0.0"]


def test_killed_preparation_of_another_release_starts_afresh(tmp_path):
    write_gtzan(tmp_path / "one" / "gtzan", {"pop/a.wav": track(1), "pop/b.wav": b"broken"})
    write_gtzan(tmp_path / "two" / "gtzan", {"pop/a.wav": track(2)})
    with pytest.raises(DataError):
        prepared_after("gtzan", tmp_path / "one", tmp_path, strict=True)
    data = prepared_after("gtzan", tmp_path / "two", tmp_path, strict=True)
    np.testing.assert_array_equal(inputs_by_id(data, "all")["a"], samples_of(2))


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


def test_real_gtzan_part_is_prepared_untouched_and_counted(real_raw_dir, tmp_path):
    data = prepared_after("gtzan", real_raw_dir, tmp_path, strict=True)
    index = data.index("all")
    assert data.examples == {"all": 60} and data.absent() == {"all": 940} and data.changes == {}
    assert np.bincount(index.label).tolist() == [6] * 10 and index.length.min() > 660_000
    path = real_raw_dir / "gtzan" / "genres_original" / "jazz" / "jazz.00002.wav"
    expected, _ = soundfile.read(path, dtype="int16")
    np.testing.assert_array_equal(inputs_by_id(data, "all")["jazz.00002"], expected)


def test_real_fsd_part_is_prepared_untouched_and_counted(real_raw_dir, tmp_path):
    data = prepared_after("fsdkaggle2018", real_raw_dir, tmp_path, strict=True)
    index = data.index("train")
    assert data.examples == {"train": 160} and data.absent() == {"train": 9313, "test": 1600}
    assert data.changes == {} and set(index.subset) == {"verified"} and np.bincount(index.label).max() == 16
