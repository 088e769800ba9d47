"""One run writes a folder at a time."""

import errno
import fcntl
import os
import socket
import subprocess
import sys

import pytest

from audiojax import lock
from audiojax.errors import RunError

HOLD = """
import fcntl, sys, time
with open(sys.argv[1], "a") as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    print("a dead process", file=file, flush=True)
    print("held", flush=True)
    time.sleep(100)
"""


def test_the_second_is_refused_by_name_and_writes_nothing(tmp_path):
    folder = tmp_path / "run"
    named = f"{folder} is in use by process {os.getpid()} on {socket.gethostname()} since 20.*; wait for it or choose"
    with lock.hold(folder):
        for _ in range(2):
            with pytest.raises(RunError, match=named), lock.hold(folder):
                pass
        assert os.listdir(folder) == [lock.LOCK]
    assert not folder.exists()


def test_a_killed_process_holds_no_lock(tmp_path):
    command = [sys.executable, "-c", HOLD, str(tmp_path / lock.LOCK)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(RunError, match="in use by a dead process"), lock.hold(tmp_path):
            pass
        holder.kill()
    with lock.hold(tmp_path):
        assert f"process {os.getpid()} " in (tmp_path / lock.LOCK).read_text()
    assert os.listdir(tmp_path) == []


def test_it_is_free_after_a_failure_and_leaves_no_trace(tmp_path):
    folder = tmp_path / "a" / "run"
    for _ in range(2):
        with pytest.raises(ValueError), lock.hold(folder):
            (folder / "kept").write_text("")
            raise ValueError
    assert os.listdir(folder) == ["kept"]
    with pytest.raises(ValueError), lock.hold(tmp_path / "empty"):
        raise ValueError
    assert not (tmp_path / "empty").exists()


def test_a_lock_that_is_removed_between_opening_and_locking_is_made_anew(tmp_path, monkeypatch):
    flock, calls = fcntl.flock, []

    def late(file, operation):
        if not calls:
            (tmp_path / lock.LOCK).unlink()
        calls.append(operation)
        flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    with lock.hold(tmp_path):
        assert len(calls) == 2
        monkeypatch.undo()
        with pytest.raises(RunError, match="is in use"), lock.hold(tmp_path):
            pass


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_without_locks_it_goes_on_and_says_so(tmp_path, monkeypatch, capsys, number):
    def none(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", none)
    with lock.hold(tmp_path):
        pass
    [said] = capsys.readouterr().err.splitlines()
    assert "file system without locks" in said


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be written"), lock.hold(tmp_path / "file" / "run"):
        pass
