"""Files that a power cut leaves whole: the order of writing, syncing and renaming."""

import errno
import os
import pathlib

import pytest

from audiojax import durable
from audiojax.data import labels


@pytest.fixture
def done(monkeypatch) -> list:
    """What is synced and put in place, in order: ("sync" or "replace", path)."""
    found, fsync, replace = [], os.fsync, os.replace
    path_of = lambda opened: pathlib.Path(os.readlink(f"/proc/self/fd/{opened}"))
    monkeypatch.setattr(os, "fsync", lambda opened: (found.append(("sync", path_of(opened))), fsync(opened)))
    monkeypatch.setattr(os, "replace", lambda old, new: (found.append(("replace", new)), replace(old, new)))
    return found


def test_a_file_is_on_disk_before_it_takes_its_place_and_its_folder_after(tmp_path, done):
    path = tmp_path / "a" / "b" / "file"
    durable.make_folder(path.parent)
    assert done == [("sync", tmp_path), ("sync", tmp_path / "a")]
    del done[:]
    durable.write_text(path, "text")
    assert done == [("sync", path.with_name(".file")), ("replace", path), ("sync", path.parent)]
    assert path.read_text() == "text" and os.listdir(path.parent) == ["file"]
    del done[:]
    labels.write(path, [{"clip": "c", "label": "l"}])
    assert done == [("sync", path.with_name(".file")), ("replace", path), ("sync", path.parent)]


@pytest.mark.parametrize("fails", ["write", "fsync", "replace"])
def test_what_was_there_stays_where_writing_fails(tmp_path, monkeypatch, fails):
    path = tmp_path / "file"
    durable.write_text(path, "before")

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if fails != "write":
        monkeypatch.setattr(os, fails, full)
    with pytest.raises(OSError, match="No space left"), durable.replacing(path) as file:
        file.write("after")
        if fails == "write":
            full()
    assert path.read_text() == "before" and os.listdir(tmp_path) == ["file"]


def test_a_file_system_that_cannot_sync_folders_will_do(tmp_path, monkeypatch):
    fsync = os.fsync

    def no_folders(opened):
        if os.path.isdir(os.readlink(f"/proc/self/fd/{opened}")):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        fsync(opened)

    monkeypatch.setattr(os, "fsync", no_folders)
    durable.write_text(tmp_path / "file", "text")
    assert (tmp_path / "file").read_text() == "text"


def test_a_tree_is_synced_with_all_its_files_and_folders(tmp_path, done):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").write_text("text")
    durable.sync_tree(tmp_path / "a")
    assert {path for _, path in done} == {tmp_path / "a", tmp_path / "a" / "b", tmp_path / "a" / "b" / "file"}
    durable.rename(tmp_path / "a", tmp_path / "c")
    assert done[-1] == ("sync", tmp_path)
