"""Releases as people have them: folders, tar, tar.gz and zip archives of any system, all read by the same rules."""

import contextlib
import functools
import hashlib
import os
import pathlib
import re
import stat
from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple, NoReturn

from audiojax.data.archive import read_archive
from audiojax.data.prepared import Prepared
from audiojax.errors import DataError

AUDIO_SUFFIXES = (".au", ".flac", ".mp3", ".ogg", ".wav")
CLIP_SUFFIXES = (*AUDIO_SUFFIXES, ".tfrecord", ".tfrecord.gz")
LEVELS = 3  # levels of folders that are searched for a part of a release, from its own folder on
# Files and folders that systems write and that are ignored, as are names that begin with a dot.
JUNK = ("__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir", "lost+found", "icon\r")


class File(NamedTuple):
    """A file of a release.

    path: within the folder or archive. what: its unique, printable name in messages.
    read: returns its bytes, or raises ValueError. fault: why it cannot be read, where that is known before.
    """

    path: pathlib.PurePosixPath
    what: str
    read: Callable[[], bytes]
    fault: str = ""


def list_files(source: pathlib.Path) -> Iterator[File]:
    """The files below a folder, sorted by name, or those of an archive, streamed in its order.

    Links in a folder are followed. What cannot be read is listed with a fault: links and devices of an archive, folders
    that cannot be opened or have the name of a clip, names that are not UTF-8 or lead out of the archive, second files
    of one name. Damage of an archive is the last file, without a path.

    Raises:
      DataError: the archive cannot be opened.
    """
    return walk(source) if source.is_dir() else unpack(source)


def walk(root: pathlib.Path, inner: str = "", above: tuple = ()) -> Iterator[File]:
    """The files of root/inner. above: device and inode of the folders around it, into which links are not followed."""
    folder = root / inner
    try:
        status, names = os.stat(folder), sorted(os.listdir(folder))
    except OSError as error:
        yield faulty(inner, str(folder), f"cannot be read ({error.strerror})")
        return
    if (status.st_dev, status.st_ino) in above:
        return
    for name in names:
        path, within = folder / name, f"{inner}/{name}" if inner else name
        if is_junk(name):
            continue
        is_folder = os.path.isdir(path)
        if is_folder and not is_clip(name):
            yield from walk(root, within, (*above, (status.st_dev, status.st_ino)))
        elif fault := "a folder, not a file" if is_folder else name_fault(within):
            yield faulty(within, str(path), fault)
        else:
            yield File(pathlib.PurePosixPath(within), printable(str(path)), functools.partial(read_file, path))


def unpack(archive: pathlib.Path) -> Iterator[File]:
    """The files of an archive."""
    try:
        open_file(archive).close()
        members = read_archive(archive)
    except (ValueError, OSError) as error:
        raise DataError(f"{printable(str(archive))} cannot be read: {error}; download it again.") from error
    seen = set()
    try:
        for name, is_folder, read in members:
            path = pathlib.PurePosixPath(name.replace("\\", "/"))
            what = f"{archive}: {name}"
            if any(map(is_junk, path.parts)) or (is_folder and not is_clip(path.name)):
                continue
            if is_folder:
                yield faulty(path, what, "a folder, not a file")
            elif path.is_absolute() or ".." in path.parts or re.match("[A-Za-z]:", name):
                yield faulty(path, what, "a name that leads out of the archive")
            elif read is None:
                yield faulty(path, what, "a link or device, not a file")
            elif fault := name_fault(name):
                yield faulty(path, what, fault)
            elif str(path) in seen:
                yield faulty(path, f"{what}, a second time", "a second file of this name")
            else:
                seen.add(str(path))
                yield File(path, printable(what), read)
    except ValueError as error:
        yield faulty("", str(archive), str(error))


def faulty(path: pathlib.PurePosixPath | str, what: str, fault: str) -> File:
    """A file that cannot be read."""
    return File(pathlib.PurePosixPath(path), printable(what), functools.partial(refuse, fault), fault)


def refuse(fault: str) -> NoReturn:
    """Raises ValueError."""
    raise ValueError(fault)


def is_junk(name: str) -> bool:
    """Whether a file or folder of this name is ignored: hidden, or written by a system."""
    return (name.startswith(".") and name not in (".", "..")) or name.lower() in JUNK


def is_audio(name: str) -> bool:
    """Whether the suffix of a name is one of audio."""
    return name.lower().endswith(AUDIO_SUFFIXES)


def is_clip(name: str) -> bool:
    """Whether the suffix of a name is one of clips."""
    return name.lower().endswith(CLIP_SUFFIXES)


def name_fault(name: str) -> str:
    """Why a clip cannot have this name, or "". Ids are written to JSON and csv."""
    return "its name is not UTF-8" if is_clip(name) and printable(name) != name else ""


def printable(text: str) -> str:
    """The text with backslash escapes for what is not UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode()


def open_file(path: pathlib.Path) -> BinaryIO:
    """Opens a file, or what a link leads to, for reading bytes. Raises ValueError where it cannot be read."""
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISREG(mode):  # Opening a named pipe would never return.
            return open(path, "rb")
    except OSError as error:
        link = "a link that leads nowhere: " if path.is_symlink() and not path.exists() else ""
        raise ValueError(f"cannot be read ({link}{error.strerror})") from error
    raise ValueError(f"a {'folder' if stat.S_ISDIR(mode) else 'pipe, socket or device'}, not a file")


def read_file(path: pathlib.Path) -> bytes:
    """The bytes of a file. Raises ValueError where it cannot be read."""
    try:
        with open_file(path) as file:
            return file.read()
    except OSError as error:
        raise ValueError(f"cannot be read ({error.strerror})") from error


def find_part(root: pathlib.Path, *names: str) -> pathlib.Path | None:
    """Finds the first of `names`, a file or folder, in `root` or up to two levels below. Ignores case.

    Raises:
      DataError: two of that name on one level.
    """
    paths = [root]
    for _ in range(LEVELS):
        folders, paths = [path for path in paths if os.path.isdir(path)], []
        for folder in folders:
            with contextlib.suppress(OSError):  # a folder that cannot be opened
                paths += sorted(path for path in folder.iterdir() if not is_junk(path.name))
        for name in names:
            found = [path for path in paths if path.name.lower() == name.lower()]
            different = [*{os.path.realpath(path): path for path in found}.values()]
            if len(different) > 1:
                raise DataError(f"{different[0]} and {different[1]} are both there; keep one of them.")
            if found:
                return found[0]
    return None


def find_release(name: str, raw_dir: pathlib.Path | None) -> pathlib.Path | None:
    """The folder raw_dir/NAME; None without a raw_dir. Raises DataError where it is absent."""
    if raw_dir is None:
        return None
    release = raw_dir / name
    if not release.is_dir():
        raise DataError(
            f"--raw_dir={raw_dir} has no folder {name}; put the release there, or leave the flag out to use what is"
            " prepared or to download it."
        )
    return release


def fingerprint(release: pathlib.Path) -> str:
    """A checksum of the names, sizes and times of all files below a folder, as `list_files` finds them."""
    files = []
    for file in walk(release):
        with contextlib.suppress(OSError):  # a link that leads nowhere
            status = os.stat(release / file.path)
            if stat.S_ISREG(status.st_mode):
                files.append((str(file.path), status.st_size, status.st_mtime_ns))
    return hashlib.sha256(repr(sorted(files)).encode(errors="backslashreplace")).hexdigest()


def check_release(prepared: Prepared, release: pathlib.Path) -> None:
    """Raises DataError where the data were not prepared from `release` as it is now."""
    if prepared.release.get("fingerprint") != fingerprint(release):
        source = prepared.release.get("folder")
        if source is None:
            differs = "a download"
        elif source == str(release.resolve()):
            differs = "this folder as it was before: names, sizes or times of its files have changed since"
        else:
            differs = f"{source}, whose files have other names, sizes or times"
        raise DataError(
            f"{prepared.folder} was not prepared from {release} but from {differs}; delete it to prepare the data anew,"
            " choose another --data_dir, or leave --raw_dir out to use it as it is."
        )
