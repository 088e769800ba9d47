"""The lock of a folder, so that one run or table writes it at a time. It is free once its process has ended."""

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
    """Holds the lock of a folder for all processes of a run. Makes the folder if it does not exist.

    Raises:
      RunError: another process, which is named, holds the lock; or the folder cannot be written.
    """
    with contextlib.ExitStack() as held:
        meshes.by_first(lambda: held.enter_context(first_hold(folder)))
        yield


@contextlib.contextmanager
def first_hold(folder: pathlib.Path) -> Iterator[None]:
    """Holds the lock of a folder for this process."""
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
                    folder.rmdir()  # Fails, as it should, if the folder is not empty.


def open_locked(path: pathlib.Path) -> IO:
    """Opens and locks the lock's file. Raises BlockingIOError if another process holds it."""
    with contextlib.ExitStack() as opened:
        file = opened.enter_context(open(path, "a", encoding="utf-8"))
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in CANNOT_LOCK:
                raise
            console.say(f"{path.parent} is on a file system without locks; start no second run there.")
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.stat(path), os.fstat(file.fileno())):
                opened.pop_all()
                return file
    return open_locked(path)  # The last holder has removed the file in the meantime.


def holder(path: pathlib.Path) -> str:
    """The holder's name, read from the lock's file."""
    try:
        return path.read_text(encoding="utf-8").strip() or "another process"
    except OSError:
        return "another process"
