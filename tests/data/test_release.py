"""Folders of releases as systems and people leave them, and the csv files in them."""

import os
import pathlib

import pytest

from audiojax.data.release import find_part, list_files
from audiojax.errors import DataError
from tests.data.releases import write_files


def contents(folder):
    """Path -> bytes, or why it cannot be read."""
    found = {}
    for file in list_files(folder):
        try:
            found[str(file.path)] = file.read()
        except ValueError as error:
            found[str(file.path)] = str(error)
    return found


def test_folder_is_read_with_its_folders_and_without_what_systems_add(tmp_path):
    clips = {"a.wav": b"a", "inner/B.WAV": b"b", "inner/deep/c.txt": b"c"}
    junk = ["._a.wav", ".DS_Store", "inner/Thumbs.db", "inner/Desktop.ini", "__MACOSX/a.wav", ".cache/a.wav"]
    write_files(tmp_path, clips | dict.fromkeys(junk, b"junk"))
    (tmp_path / "empty").mkdir()
    assert contents(tmp_path) == clips


def test_links_are_followed_and_what_is_no_file_is_listed(tmp_path):
    """Stores such as DVC's and Hugging Face's hold the files elsewhere, under names of their own."""
    store, folder = tmp_path / "store", tmp_path / "folder"
    write_files(store, {"blobs/0a1b": b"content", "tree/x.wav": b"x"})
    write_files(folder, {"plain.wav": b"plain"})
    (folder / "link.wav").symlink_to(store / "blobs" / "0a1b")
    (folder / "tree").symlink_to(store / "tree")
    (folder / "circle").symlink_to(folder)
    (folder / "self.wav").symlink_to(folder / "self.wav")
    (folder / "dangling.wav").symlink_to(tmp_path / "nowhere")
    (folder / "folder.wav").mkdir()
    os.link(store / "blobs" / "0a1b", folder / "hard.wav")
    os.mkfifo(folder / "pipe.wav")
    found = contents(folder)
    assert "a link that leads nowhere" in found.pop("dangling.wav")
    assert "a link that leads nowhere" in found.pop("self.wav")
    assert found == {
        "link.wav": b"content",
        "hard.wav": b"content",
        "plain.wav": b"plain",
        "tree/x.wav": b"x",
        "folder.wav": "a folder, not a file",
        "pipe.wav": "a pipe, socket or device, not a file",
    }


def test_folder_that_cannot_be_opened_is_listed(tmp_path, monkeypatch):
    write_files(tmp_path, {"a.wav": b"a", "locked/b.wav": b"b"})
    list_names = os.listdir

    def refuse_locked(path):
        if pathlib.Path(path).name == "locked":
            raise PermissionError(13, "Permission denied")
        return list_names(path)

    monkeypatch.setattr(os, "listdir", refuse_locked)
    assert contents(tmp_path) == {"a.wav": b"a", "locked": "cannot be read (Permission denied)"}


def test_clip_whose_name_is_not_utf8_is_listed_with_a_name_that_can_be_printed(tmp_path):
    (tmp_path / os.fsdecode(b"caf\xe9.wav")).write_bytes(b"a")
    (tmp_path / os.fsdecode(b"caf\xe9.txt")).write_bytes(b"no clip")
    text, clip = list_files(tmp_path)
    assert (clip.what, clip.fault) == (f"{tmp_path}/caf\\udce9.wav", "its name is not UTF-8")
    assert (text.what, text.fault) == (f"{tmp_path}/caf\\udce9.txt", "")


def test_part_is_found_in_folders_within_and_refused_where_it_is_there_twice(tmp_path):
    write_files(tmp_path, {"one/part/a": b"", "one/part.zip": b"", ".hidden/two.zip": b"", "x/y/z/deep": b""})
    assert find_part(tmp_path, "part", "part.zip") == tmp_path / "one" / "part"
    assert find_part(tmp_path, "none", "PART.zip") == tmp_path / "one" / "part.zip"
    assert find_part(tmp_path, "two.zip", "deep") is None
    (tmp_path / "link").symlink_to(tmp_path / "one")
    assert find_part(tmp_path, "part") is not None
    write_files(tmp_path, {"two/part/a": b""})
    with pytest.raises(DataError, match="one/part and .*two/part are both there; keep one of them"):
        find_part(tmp_path, "part")
