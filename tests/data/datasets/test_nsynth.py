"""NSynth: whole, partial and damaged releases."""

import io
import json
import os
import tarfile

import numpy as np
import pytest

from audiojax.data import prepared
from audiojax.errors import DataError
from tests.data.releases import assert_same, encode, inputs_by_id, prepared_after, samples_of, write_files


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


def test_nsynth_folder_keeps_samples_labels_groups_and_counts_what_is_absent(tmp_path):
    notes = {"a": note("bass"), "b": note("flute", 2), "absent": note()}
    write_nsynth(tmp_path, notes, {"a": wav(), "b": wav(1000, seed=1)})
    data = prepared_after("nsynth", tmp_path, tmp_path, strict=True)
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


def test_nsynth_truncated_archive_stops_or_keeps_what_is_whole(tmp_path):
    names = [f"note_{number}" for number in range(20)]
    folder = write_nsynth(tmp_path / "unpacked", dict.fromkeys(names, note()), dict.fromkeys(names, wav()))
    archive = tmp_path / "nsynth" / "nsynth-test.jsonwav.tar.gz"
    archive.parent.mkdir()
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder / "examples.json", "nsynth-test/examples.json")
        tar.add(folder / "audio", "nsynth-test/audio")
    archive.write_bytes(archive.read_bytes()[: archive.stat().st_size // 2])
    with pytest.raises(DataError, match="nsynth-test.jsonwav.tar.gz: truncated or corrupt from here on"):
        prepared_after("nsynth", tmp_path, tmp_path, strict=True)
    assert 5 < prepared_after("nsynth", tmp_path, tmp_path).examples["test"] < 15


DAMAGED_NOTES = {
    "another rate": (wav(rate=22_050), "22050 Hz"),
    "another depth": (wav(subtype="PCM_24"), "PCM_24"),
    "empty": (wav(samples=0), "0 samples"),
    "too long": (wav(samples=64_001), "64001 samples"),
    "no wav at all": (b"nothing", "does not decode"),
    "truncated": (wav()[:-1000], "truncated"),
}


@pytest.mark.parametrize("damage", DAMAGED_NOTES)
def test_damaged_note_stops_or_is_left_out_and_listed(tmp_path, damage):
    content, why = DAMAGED_NOTES[damage]
    write_nsynth(tmp_path, {"good": note(), "bad": note()}, {"good": wav(), "bad": content})
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
    assert data.skipped == [[f"{tmp_path}/nsynth/nsynth-test/audio/stray.wav", "not named in examples.json"]]


def write_archive(raw_dir, members):
    """nsynth-test.jsonwav.tar.gz of bytes, or of a TarInfo, by name."""
    archive = raw_dir / "nsynth" / "nsynth-test.jsonwav.tar.gz"
    archive.parent.mkdir(parents=True)
    with tarfile.open(archive, "w:gz") as tar:
        for name, content in members:
            info = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo()
            info.name, info.size = name, len(content) if isinstance(content, bytes) else 0
            tar.addfile(info, io.BytesIO(content) if info.size else None)
    return archive


def test_nsynth_from_a_mac_or_windows_one_folder_deeper_reads_as_released(tmp_path):
    notes, wavs = {"a": note(), "b": note("vocal")}, {"a": wav(), "b": wav(seed=2)}
    write_nsynth(tmp_path / "plain", notes, wavs)
    folder = write_nsynth(tmp_path / "deep" / "nsynth", notes, {"b": wavs["b"]})
    junk = ["._examples.json", "audio/._a.wav", ".DS_Store", "audio/Thumbs.db"]
    write_files(folder, {"a/audio/a.WAV": wavs["a"]} | dict.fromkeys(junk, b"junk"))
    members = [(f"./nsynth-test/{name}", b"junk") for name in junk]
    members += [("nsynth-test\\examples.json", json.dumps(notes).encode())]
    members += [(f"nsynth-test\\audio\\{name}.wav", content) for name, content in wavs.items()]
    write_archive(tmp_path / "packed", members)
    kinds = ("plain", "deep", "packed")
    one, *others = (prepared_after("nsynth", tmp_path / kind, tmp_path / f"{kind} data", True) for kind in kinds)
    assert one.index("test").id.tolist() == ["a", "b"]
    for other in others:
        assert_same(one, other, "test")


def test_nsynth_lists_one_unreadable_file_and_prepares_the_others(tmp_path):
    folder = write_nsynth(tmp_path, dict.fromkeys("abcd", note()), {"a": wav()})
    (folder / "audio" / "b.wav").symlink_to(tmp_path / "nowhere")
    (folder / "audio" / "c.wav").mkdir()
    os.mkfifo(folder / "audio" / "d.wav")
    data = prepared_after("nsynth", tmp_path, tmp_path)
    assert data.index("test").id.tolist() == ["a"] and [what[-5:] for what, _ in data.skipped] == [
        *("b.wav", "c.wav", "d.wav")
    ]


def test_nsynth_archive_lists_links_and_second_files(tmp_path):
    link = tarfile.TarInfo()
    link.type, link.linkname = tarfile.LNKTYPE, "nsynth-test/audio/a.wav"
    text = json.dumps({"a": note(), "b": note()}).encode()
    members = [
        ("nsynth-test/old_examples.json", b"{}"),
        ("nsynth-test/examples.json", text),
        ("nsynth-test/audio/a.wav", wav()),
        ("nsynth-test/audio/b.wav", link),
        ("nsynth-test/audio/a.wav", wav(seed=1)),
        ("nsynth-test/other/a.wav", wav(seed=2)),
        ("nsynth-test/other/examples.json", text),
    ]
    archive = write_archive(tmp_path, members)
    for _ in range(2):  # What the first attempt has read makes the second one no more lenient.
        with pytest.raises(DataError, match="b.wav: a link or device, not a file, and 3 more;"):
            prepared_after("nsynth", tmp_path, tmp_path, strict=True)
    data = prepared_after("nsynth", tmp_path, tmp_path)
    np.testing.assert_array_equal(inputs_by_id(data, "test")["a"], samples_of(0, 64_000))
    assert data.skipped == [
        [f"{archive}: nsynth-test/audio/b.wav", "a link or device, not a file"],
        [f"{archive}: nsynth-test/audio/a.wav, a second time", "a second file of this name"],
        [f"{archive}: nsynth-test/other/a.wav", "a second file of the note a"],
        [f"{archive}: nsynth-test/other/examples.json", "a second examples.json"],
    ]


@pytest.mark.parametrize("text", ["{", "[]", '{"a": 1}', '{"a": {}, "a": {}}'])
def test_examples_json_of_another_form_is_named(tmp_path, text):
    folder = write_nsynth(tmp_path, {}, {"a": wav()})
    (folder / "examples.json").write_text(text)
    with pytest.raises(DataError, match="examples.json is not"):
        prepared_after("nsynth", tmp_path, tmp_path)


def test_real_nsynth_part_is_prepared_and_counted(real_raw_dir, tmp_path):
    data = prepared_after("nsynth", real_raw_dir, tmp_path, strict=True)
    assert data.examples == {"train": 833, "valid": 246, "test": 73}
    assert data.absent() == {"train": 288_372, "valid": 12_432, "test": 4_023}
    assert not set(data.index("train").group) & set(data.index("test").group)
    assert set(data.index("valid").group) == set(data.index("test").group)
