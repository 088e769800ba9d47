"""Files that a power cut leaves whole, or as they were before, and the checksum that tells."""

import contextlib
import errno
import hashlib
import os
import pathlib
from collections.abc import Iterator
from typing import IO

# What a file system answers that cannot sync a folder. It has no way to keep its entries safer than they are.
CANNOT_SYNC = {errno.EINVAL, errno.EBADF, errno.ENOTSUP, errno.ENOSYS}


@contextlib.contextmanager
def replacing(path: pathlib.Path, mode: str = "w", **options) -> Iterator[IO]:
    """A file to write that takes the place of `path` at the end of the block, on disk; where the block or the disk
    fails, what was there before stays. options: of `open`."""
    temporary = path.with_name(f".{path.name}")
    try:
        with open(temporary, mode, **options) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    sync_folder(path.parent)


def write_text(path: pathlib.Path, text: str) -> None:
    """The whole text, on disk, or what was there before."""
    with replacing(path, encoding="utf-8") as file:
        file.write(text)


def make_folder(folder: pathlib.Path) -> None:
    """Makes a folder and those above it that do not exist, on disk."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def rename(old: pathlib.Path, new: pathlib.Path) -> None:
    """Renames a file or folder, on disk. Raises OSError where `new` is a folder that holds something."""
    os.rename(old, new)
    sync_folder(new.parent)


def sync(path: pathlib.Path) -> None:
    """Returns once what has been written to a file is on disk."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def sync_folder(folder: pathlib.Path) -> None:
    """Returns once the entries of a folder are on disk, where its file system can sync folders."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    except OSError as error:
        if error.errno not in CANNOT_SYNC:
            raise
    finally:
        os.close(opened)


def sync_tree(folder: pathlib.Path) -> None:
    """Returns once a folder is on disk with everything in it."""
    for inner, _, names in os.walk(folder, topdown=False):
        for name in names:
            sync(pathlib.Path(inner) / name)
        sync_folder(pathlib.Path(inner))


def sha256(path: pathlib.Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
