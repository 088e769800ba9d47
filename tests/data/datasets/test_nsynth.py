"""NSynth: whole, partial and damaged releases."""

import json
import tarfile

import numpy as np
import pytest

from audiojax.data import prepared
from audiojax.errors import DataError
from tests.data.releases import assert_same, encode, inputs_by_id, prepared_after, samples_of


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


def test_real_nsynth_part_is_prepared_and_counted(real_raw_dir, tmp_path):
    data = prepared_after("nsynth", real_raw_dir, tmp_path, strict=True)
    assert data.examples == {"train": 833, "valid": 246, "test": 73}
    assert data.absent() == {"train": 288_372, "valid": 12_432, "test": 4_023}
    assert not set(data.index("train").group) & set(data.index("test").group)
    assert set(data.index("valid").group) == set(data.index("test").group)
