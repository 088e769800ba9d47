"""FSDKaggle2018: its folders and archives, whole, partial and damaged."""

import shutil
import zipfile

import numpy as np
import pytest

from audiojax.errors import DataError
from tests.data.releases import assert_same, encode, inputs_by_id, prepared_after, samples_of, write_files

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
        write_files(root / f"FSDKaggle2018.audio_{split}", files)
    return root


def clip_wav(seed, samples):
    return encode(samples_of(seed, samples), 44_100)


CLIPS = {"train": {"a.wav": clip_wav(1, 500), "b.wav": clip_wav(2, 700)}, "test": {"c.wav": clip_wav(3, 900)}}


def unpacked_and_packed(tmp_path, separator, finder=False):
    """The same clips prepared from folders and from zips, between whose folders and files stands `separator`."""
    root = write_fsd(tmp_path / "unpacked", **CLIPS)
    packed = tmp_path / "packed" / "fsdkaggle2018"
    packed.mkdir(parents=True)
    for part in ("meta", "audio_train", "audio_test"):
        with zipfile.ZipFile(packed / f"FSDKaggle2018.{part}.zip", "w") as archive:
            if finder:
                archive.writestr(f"__MACOSX/FSDKaggle2018.{part}/._a.wav", b"finder")
            for path in sorted((root / f"FSDKaggle2018.{part}").iterdir()):
                archive.writestr(f"FSDKaggle2018.{part}{separator}{path.name}", path.read_bytes())
    return (prepared_after("fsdkaggle2018", tmp_path / k, tmp_path / k, True) for k in ("unpacked", "packed"))


def test_fsd_keeps_lengths_labels_subsets_and_groups_as_folders_and_as_archives(tmp_path):
    one, two = unpacked_and_packed(tmp_path, "/", finder=True)
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
    write_files(root / "FSDKaggle2018.audio_train", CLIPS["train"] | {"stray ü.wav": clip_wav(4, 10), ".hidden": b""})
    data = prepared_after("fsdkaggle2018", tmp_path, tmp_path)
    assert data.examples == {"train": 2} and data.absent() == {"train": 9471, "test": 1600}
    assert data.skipped == [[f"{root}/FSDKaggle2018.audio_train/stray ü.wav", "not named in the metadata"]]


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
        (TRAIN + TRAIN_ROWS + "a.wav,Bus,1,11,CC\n", "line 5: fname 'a.wav' is empty or named a second time"),
        (TRAIN + "a.wav,Bus,yes,11,CC\n", "line 2: manually_verified 'yes' is none of 1, 0"),
        (TRAIN + "a.wav,Bus,1,,CC\n", "line 2: freesound_id of a.wav is empty"),
        (TRAIN + "a.wav,Bus\n", "line 2: manually_verified None"),
        (TRAIN + "a.wav,Bus,1,11,CC, by\n", "line 2: 6 values under a header of 5 columns"),
        ("fname,label\na.wav,Bus\n", "has no column freesound_id, manually_verified"),
        ("", "has no column"),
    ],
)
def test_fsd_metadata_of_another_form_is_named(tmp_path, text, why):
    root = write_fsd(tmp_path, train_csv=text)
    write_files(root / "FSDKaggle2018.audio_train", CLIPS["train"])
    with pytest.raises(DataError, match=f"FSDKaggle2018.meta: train_post_competition.csv: {why}"):
        prepared_after("fsdkaggle2018", tmp_path, tmp_path)


def test_fsd_without_audio_or_metadata_stops(tmp_path):
    root = write_fsd(tmp_path)
    with pytest.raises(DataError, match="lacks FSDKaggle2018.meta or any FSDKaggle2018.audio_SPLIT"):
        prepared_after("fsdkaggle2018", tmp_path, tmp_path)
    write_files(root / "FSDKaggle2018.audio_train", CLIPS["train"])
    (root / "FSDKaggle2018.meta" / "train_post_competition.csv").unlink()
    with pytest.raises(DataError, match="train_post_competition.csv is absent"):
        prepared_after("fsdkaggle2018", tmp_path, tmp_path)


def test_fsd_zip_made_on_windows_reads_as_the_folder_does(tmp_path):
    one, two = unpacked_and_packed(tmp_path, "\\")
    for split in ("train", "test"):
        assert_same(one, two, split)


def test_fsd_one_folder_deeper_with_upper_case_suffixes_links_and_what_systems_add(tmp_path):
    root = write_fsd(tmp_path / "raw")
    (tmp_path / "blob").write_bytes(CLIPS["train"]["b.wav"])
    inner = root / "FSDKaggle2018.audio_train" / "FSDKaggle2018.audio_train"
    write_files(inner, {"a.WAV": CLIPS["train"]["a.wav"], "._a.WAV": b"finder", "Thumbs.db": b"explorer"})
    (inner / "b.wav").symlink_to(tmp_path / "blob")
    (root / "FSDKaggle2018").mkdir()
    for part in ("meta", "audio_train"):
        (root / f"FSDKaggle2018.{part}").rename(root / "FSDKaggle2018" / f"FSDKaggle2018.{part}")
    data = prepared_after("fsdkaggle2018", tmp_path / "raw", tmp_path, strict=True)
    assert data.index("train").id.tolist() == ["a", "b"] and data.skipped == []
    np.testing.assert_array_equal(inputs_by_id(data, "train")["b"], samples_of(2, 700))


def test_fsd_clips_of_one_name_in_two_folders_are_not_hidden(tmp_path):
    root = write_fsd(tmp_path)
    with zipfile.ZipFile(root / "FSDKaggle2018.audio_train.zip", "w") as archive:
        archive.writestr("one/a.wav", CLIPS["train"]["a.wav"])
        archive.writestr("two/a.wav", CLIPS["train"]["b.wav"])
    for _ in range(2):  # What the first attempt has read makes the second one no more lenient.
        with pytest.raises(DataError, match="two/a.wav: a second file of the clip a.wav"):
            prepared_after("fsdkaggle2018", tmp_path, tmp_path, strict=True)
    write_files(root / "FSDKaggle2018.meta" / "old", {"train_post_competition.csv": b"fname"})
    with pytest.raises(DataError, match="train_post_competition.csv is there twice, as .*; keep one of them"):
        prepared_after("fsdkaggle2018", tmp_path, tmp_path)


def test_fsd_metadata_of_another_program_reads_the_same(tmp_path):
    text = (TRAIN + 'a.wav,Hi-hat,0,11,"CC\nby"\nb.wav,Flute,1,12,CC\n').replace(",", ";")
    root = write_fsd(tmp_path, **CLIPS)
    (root / "FSDKaggle2018.meta" / "train_post_competition.csv").write_bytes(text.encode("utf-16"))
    data = prepared_after("fsdkaggle2018", tmp_path, tmp_path, strict=True)
    assert data.index("train").id.tolist() == ["a", "b"] and data.index("train").group.tolist() == ["11", "12"]


def test_real_fsd_part_is_prepared_untouched_and_counted(real_raw_dir, tmp_path):
    data = prepared_after("fsdkaggle2018", real_raw_dir, tmp_path, strict=True)
    index = data.index("train")
    assert data.examples == {"train": 160} and data.absent() == {"train": 9313, "test": 1600}
    assert data.changes == {} and set(index.subset) == {"verified"} and np.bincount(index.label).max() == 16
