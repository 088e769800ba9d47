"""One run or table writes a folder at a time: a lock that its holder's end sets free, however it ends."""

import contextlib
import errno
import fcntl
import os
import pathlib
import socket
import time
from collections.abc import Iterator
from typing import IO

from audiojax import console, durable
from audiojax import mesh as meshes
from audiojax.errors import RunError

LOCK = ".lock"  # holds "process PID on HOST since TIME" while a run writes the folder
CANNOT_LOCK = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}


@contextlib.contextmanager
def hold(folder: pathlib.Path) -> Iterator[None]:
    """Holds the lock of a folder, which is made where it is not there, for all processes of a run.

    Raises:
      RunError: another process holds it, which is named, or the folder cannot be written.
    """
    with contextlib.ExitStack() as held:
        meshes.by_first(lambda: held.enter_context(first_hold(folder)))
        yield


@contextlib.contextmanager
def first_hold(folder: pathlib.Path) -> Iterator[None]:
    """The same for this process alone."""
    path, is_new = folder / LOCK, not folder.exists()
    try:
        durable.make_folder(folder)
        file = open_locked(path)
    except BlockingIOError as error:
        raise RunError(f"{folder} is in use by {holder(path)}; wait for it or choose another --workdir.") from error
    except OSError as error:
        raise RunError(f"--workdir={folder} cannot be written ({error}); choose another folder.") from error
    with file:
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()} since {time.strftime('%Y-%m-%d %H:%M')}\n")
        file.flush()
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                path.unlink()
                if is_new:
                    folder.rmdir()  # Where something was written it stays.


def open_locked(path: pathlib.Path) -> IO:
    """The lock's file, locked. Raises BlockingIOError where another process holds it."""
    with contextlib.ExitStack() as opened:
        file = opened.enter_context(open(path, "a", encoding="utf-8"))
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in CANNOT_LOCK:
                raise
            console.say(f"{path.parent} is on a file system without locks: let no second run write there.")
        if is_at(path, file):
            opened.pop_all()
            return file
    return open_locked(path)  # Its last holder has removed the file meanwhile.


def is_at(path: pathlib.Path, file: IO) -> bool:
    """Whether an open file is the one at `path`."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def holder(path: pathlib.Path) -> str:
    """Who holds a lock, as its file says."""
    try:
        return path.read_text(encoding="utf-8").strip() or "another process"
    except OSError:
        return "another process"
