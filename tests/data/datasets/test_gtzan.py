"""GTZAN: its trees and archives, whole and damaged."""

import gzip
import io
import os
import pathlib
import tarfile

import numpy as np
import pytest
import soundfile

from audiojax.errors import DataError
from tests.data.releases import assert_same, encode, inputs_by_id, prepared_after, samples_of, track, write_files


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
    write_files(tmp_path / "au" / "gtzan", au | {"genres/blues/._blues.00000.au": b"finder", "genres/x.mf": b"list"})
    write_files(tmp_path / "wav" / "gtzan", wavs | images)
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
    write_files(tmp_path / "gtzan" / "a folder" / "another", tracks)
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
    write_files(folder, tracks | {"jazz/jazz.00054.wav": bytes(range(256)) * 100})
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
        write_files(tmp_path / "gtzan", tracks)
    with pytest.raises(DataError, match=f"bad.wav: .*({why})"):
        prepared_after("gtzan", tmp_path, tmp_path, strict=True)
    assert prepared_after("gtzan", tmp_path, tmp_path).examples == {"all": 1}


def test_gtzan_reads_links_and_lists_second_ids_and_what_is_no_audio(tmp_path):
    outside, folder = tmp_path / "outside.wav", tmp_path / "gtzan" / "genres" / "disco"
    outside.write_bytes(track(2))
    write_files(folder, {"one.wav": track(1), "one.flac": track(1, "FLAC"), "notes.txt": b"text"})
    (folder / "two.wav").symlink_to(outside)
    (folder / "three.wav").symlink_to(tmp_path / "nowhere")
    os.mkfifo(folder / "four.wav")
    (folder / os.fsdecode(b"caf\xe9.wav")).write_bytes(track(3))
    data = prepared_after("gtzan", tmp_path, tmp_path)
    assert data.index("all").id.tolist() == ["one", "two"]
    np.testing.assert_array_equal(inputs_by_id(data, "all")["two"], samples_of(2))
    assert {pathlib.Path(what).name: why for what, why in data.skipped} == {
        "notes.txt": "not an audio file",
        "one.wav": "a second example with the id one",
        "three.wav": "cannot be read (a link that leads nowhere: No such file or directory)",
        "four.wav": "a pipe, socket or device, not a file",
        "caf\\udce9.wav": "its name is not UTF-8",
    }


def test_gtzan_genres_in_upper_case_and_deep_folders_and_images_in_any_release(tmp_path):
    files = {
        "a/b/c/Data/genres_original/Blues/blues.00000.WAV": track(1),
        "a/b/c/Data/genres_original/jazz/disc 1/jazz.00001.wav": track(2),
        "a/b/c/Data/genres_original/jazz/desktop.ini": b"explorer",
        "a/b/c/Data/images_original/blues/blues00000.png": b"image",
    }
    write_files(tmp_path / "tree" / "gtzan", files)
    tar_of(tmp_path / "tar" / "gtzan" / "genres.tar.gz", files)
    one, two = (prepared_after("gtzan", tmp_path / kind, tmp_path / kind, True) for kind in ("tree", "tar"))
    assert one.index("all").id.tolist() == ["blues.00000", "jazz.00001"] and one.index("all").label.tolist() == [0, 5]
    assert_same(one, two, "all")


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


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_gtzan_archive_with_a_wrong_byte_anywhere_stops(tmp_path, share):
    archive = tmp_path / "gtzan" / "genres.tar.gz"
    tar_of(archive, {f"genres/pop/{number}.wav": track(number) for number in range(10)})
    content = bytearray(archive.read_bytes())
    content[int(share * len(content))] ^= 0x40
    archive.write_bytes(content)
    with pytest.raises(DataError, match="genres.tar.gz: (truncated or corrupt|damaged)|does not decode|truncated"):
        prepared_after("gtzan", tmp_path, tmp_path, strict=True)
    assert prepared_after("gtzan", tmp_path, tmp_path).skipped[-1][0].endswith("genres.tar.gz")


def test_gtzan_archive_with_a_broken_header_stops(tmp_path):
    archive = tmp_path / "gtzan" / "genres.tar.gz"
    tar_of(archive, {f"genres/pop/{number}.wav": track(number) for number in range(4)})
    content = bytearray(gzip.decompress(archive.read_bytes()))
    content[content.index(b"genres/pop/2.wav") + 150] ^= 1  # in that header's own checksum
    archive.write_bytes(gzip.compress(content))
    with pytest.raises(DataError, match="genres.tar.gz: damaged .*, so any of its files may be altered or lost"):
        prepared_after("gtzan", tmp_path, tmp_path, strict=True)
    data = prepared_after("gtzan", tmp_path, tmp_path)
    assert data.index("all").id.tolist() == ["0", "1"] and len(data.skipped) == 1


def test_gtzan_without_anything_readable_stops(tmp_path):
    (tmp_path / "gtzan").mkdir()
    with pytest.raises(DataError, match="neither genres.tar.gz nor folders named blues to rock"):
        prepared_after("gtzan", tmp_path, tmp_path)
    (tmp_path / "gtzan" / "genres.tar.gz").write_bytes(b"no archive")
    with pytest.raises(DataError, match="no clip of split all can be read"):
        prepared_after("gtzan", tmp_path, tmp_path)
    with pytest.raises(DataError, match="gtzan can no longer be downloaded; put its genres/"):
        prepared_after("gtzan", None, tmp_path)


def test_real_gtzan_part_is_prepared_untouched_and_counted(real_raw_dir, tmp_path):
    data = prepared_after("gtzan", real_raw_dir, tmp_path, strict=True)
    index = data.index("all")
    assert data.examples == {"all": 60} and data.absent() == {"all": 940} and data.changes == {}
    assert np.bincount(index.label).tolist() == [6] * 10 and index.length.min() > 660_000
    path = real_raw_dir / "gtzan" / "genres_original" / "jazz" / "jazz.00002.wav"
    expected, _ = soundfile.read(path, dtype="int16")
    np.testing.assert_array_equal(inputs_by_id(data, "all")["jazz.00002"], expected)
