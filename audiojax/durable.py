"""Durable files: after a power cut a file has its old or its new content, never a part. And checksums."""

import contextlib
import errno
import hashlib
import os
import pathlib
from collections.abc import Iterator
from typing import IO

# Errors of file systems that cannot sync a folder. They are ignored.
CANNOT_SYNC = {errno.EINVAL, errno.EBADF, errno.ENOTSUP, errno.ENOSYS}


@contextlib.contextmanager
def replacing(path: pathlib.Path, mode: str = "w", **options) -> Iterator[IO]:
    """Opens a temporary file that replaces `path`, durably, at the end of the block.

    If the block or the disk fails, `path` keeps its old content. options: those of `open`.
    """
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
    """Replaces a file's text, durably and atomically."""
    with replacing(path, encoding="utf-8") as file:
        file.write(text)


def make_folder(folder: pathlib.Path) -> None:
    """Makes a folder and its missing parents, durably."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def rename(old: pathlib.Path, new: pathlib.Path) -> None:
    """Renames a file or folder, durably. Raises OSError if `new` is a folder that is not empty."""
    os.rename(old, new)
    sync_folder(new.parent)


def sync(path: pathlib.Path) -> None:
    """Returns once a file's content is on disk."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def sync_folder(folder: pathlib.Path) -> None:
    """Returns once a folder's entries are on disk, if its file system can sync folders."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    except OSError as error:
        if error.errno not in CANNOT_SYNC:
            raise
    finally:
        os.close(opened)


def sync_tree(folder: pathlib.Path) -> None:
    """Returns once a folder and everything in it are on disk."""
    for inner, _, names in os.walk(folder, topdown=False):
        for name in names:
            sync(pathlib.Path(inner) / name)
        sync_folder(pathlib.Path(inner))


def sha256(path: pathlib.Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
