"""The choice of examples, their sounds and pictures."""

import dataclasses

import numpy as np
import pytest

from audiojax.data.audio_file import decode, encode_mp3
from audiojax.data.prepared import find
from audiojax.report import clips, page
from tests.report.conftest import IDS, RATE_HZ, config_of, tone, write_tones


def test_choice_of_single_labels():
    score_NK = np.array([[0.9, 0.1, 0], [0.8, 0.2, 0], [0.1, 0.7, 0.2], [0.5, 0.45, 0.05], [0.2, 0.2, 0.6]])
    label_N = np.array([0, 0, 0, 1, 2])
    chosen = clips.choose(score_NK, label_N, np.array(["a", "a", "b", "c", "d"]))
    assert chosen == {
        "Most confident, right": [0, 4],  # Row 1 is of the same clip as row 0.
        "Most confident, wrong": [2, 3],
        "Least decided": [3, 4, 2],
    }


def test_choice_of_many_labels_is_right_where_the_first_class_is_one_of_them():
    score_NK = np.array([[0.9, 0.8], [0.3, 0.6]])
    chosen = clips.choose(score_NK, np.array([[1, 1], [1, 0]], np.uint8), np.array(["a", "b"]))
    assert chosen["Most confident, right"] == [0]
    assert chosen["Most confident, wrong"] == [1]


def test_an_example_is_cut_where_its_window_lies(tmp_path):
    write_tones(tmp_path)
    sound = clips.open_sound(config_of("honest"), tmp_path)
    for row, name in enumerate(IDS):
        np.testing.assert_array_equal(clips.cut(sound, name, RATE_HZ // 4), tone(row)[RATE_HZ // 4 : RATE_HZ * 3 // 4])
    assert len(clips.cut(sound, "plain", RATE_HZ * 3 // 4)) == RATE_HZ // 4  # up to the clip's end
    assert clips.cut(sound, "zzz", 0) is None
    assert clips.cut(sound, "plain", RATE_HZ) is None


def test_of_long_clips_the_beginning_is_shown_and_that_is_said(tmp_path, monkeypatch):
    write_tones(tmp_path)
    sound = clips.open_sound(config_of("honest", seconds=0.0), tmp_path)
    assert len(clips.cut(sound, "plain", 0)) == RATE_HZ
    assert page.heard(sound) == ""
    monkeypatch.setattr(clips, "LONGEST_S", 0.25)
    assert len(clips.cut(sound, "plain", 0)) == RATE_HZ // 4
    assert page.heard(sound) == "Clips are cut to their first 0.25 s."


def test_why_there_is_no_sound_is_said(tmp_path, monkeypatch):
    assert "tones (released), split all, is not in the data folder" in clips.open_sound(config_of("honest"), tmp_path)
    write_tones(tmp_path)
    folded = config_of("honest")
    folded["data"]["split_file"] = "folds.csv"
    assert "split half, is not in the data folder" in clips.open_sound(folded, tmp_path)
    monkeypatch.setattr(clips, "encode_mp3", None)
    assert "soundfile cannot be imported" in clips.open_sound(config_of("honest"), tmp_path)
    dataclasses.replace(find("tones", "released", tmp_path), step_shape=(128,)).save()
    assert "tones holds no audio" in clips.open_sound(config_of("honest"), tmp_path)


@pytest.mark.parametrize(("rate_hz", "heard_hz"), [(8000, 8000), (22_050, 22_050), (44_100, 44_100), (10_000, 44_100)])
def test_mp3_sounds_as_it_did(rate_hz, heard_hz):
    tone_T = (9000 * np.sin(2 * np.pi * 440 * np.arange(rate_hz) / rate_hz)).astype(np.int16)
    heard_T, changes = decode(encode_mp3(tone_T, rate_hz), heard_hz)
    assert "resampled" not in changes
    assert abs(len(heard_T) - heard_hz) <= 1
    expected_T = 9000 * np.sin(2 * np.pi * 440 * np.arange(len(heard_T)) / heard_hz)
    middle = slice(heard_hz // 4, heard_hz * 3 // 4)
    assert np.abs(heard_T[middle] - expected_T[middle]).max() < 450  # 5 % of the peak


def test_damaged_data_leaves_the_clips_without_sound(tmp_path):
    write_tones(tmp_path)
    [description] = (tmp_path / "tones").rglob("audiojax.json")
    text = description.read_text()
    for broken in ("", "[]", "{}"):
        description.write_text(broken)
        assert "is damaged" in clips.open_sound(config_of("honest"), tmp_path)
    description.write_text(text)
    for path in set(description.parent.iterdir()) - {description}:
        path.write_bytes(b"")
    assert "is damaged" in clips.open_sound(config_of("honest"), tmp_path)
