"""A release as people have it: a folder, a tar(.gz) or a zip of any system, with one rule for what is passed over."""

import codecs
import contextlib
import csv
import functools
import hashlib
import io
import itertools
import os
import pathlib
import re
import stat
from collections.abc import Callable, Collection, Iterator
from typing import BinaryIO, NamedTuple, NoReturn

from audiojax.data.archive import read_archive
from audiojax.data.prepared import Prepared
from audiojax.errors import DataError

AUDIO_SUFFIXES = (".au", ".flac", ".mp3", ".ogg", ".wav")
CLIP_SUFFIXES = (*AUDIO_SUFFIXES, ".tfrecord", ".tfrecord.gz")
LEVELS = 3  # of folders in which a part of a release is looked for, the release's own included
# Besides names that begin with a dot; all are written by systems, none by whoever made the release.
JUNK = ("__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir", "lost+found", "icon\r")
SEPARATORS = (",", ";", "\t")


class File(NamedTuple):
    """A file of a release.

    path: within the folder or archive. what: how messages call it, printable, unlike that of any other file.
    read: returns its bytes, raises ValueError where it is unreadable. fault: why it is, where that is known before.
    """

    path: pathlib.PurePosixPath
    what: str
    read: Callable[[], bytes]
    fault: str = ""


def list_files(source: pathlib.Path) -> Iterator[File]:
    """The files of a folder and of all folders in it, by name, or those of an archive in its order, streamed.

    Links within a folder are followed wherever they lead; an archive's links are listed with a fault. So is whatever
    else cannot be read: a folder that cannot be opened, a folder with the name of a clip, a name that is not UTF-8 or
    leads out of the archive, a second file of one name; and last, as a file of no name, an archive's damage.

    Raises:
      DataError: `source` is no archive that can be opened.
    """
    return walk(source) if source.is_dir() else unpack(source)


def walk(root: pathlib.Path, inner: str = "", above: tuple = ()) -> Iterator[File]:
    """The files of root/inner. above: the folders on the way there; a link back to one of them leads to nothing new."""
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
        check_file(archive)
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
    """Whether a file or folder of this name is hidden or a system's own, and passed over."""
    return (name.startswith(".") and name not in (".", "..")) or name.lower() in JUNK


def is_audio(name: str) -> bool:
    """Whether a file of this name may be audio."""
    return name.lower().endswith(AUDIO_SUFFIXES)


def is_clip(name: str) -> bool:
    """Whether a file of this name may hold clips."""
    return name.lower().endswith(CLIP_SUFFIXES)


def name_fault(name: str) -> str:
    """Why a clip cannot have this name, or ""; ids end up in JSON and csv."""
    return "its name is not UTF-8" if is_clip(name) and printable(name) != name else ""


def printable(text: str) -> str:
    """The same with what is not UTF-8 as backslash escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


def check_file(path: pathlib.Path) -> None:
    """Raises ValueError: absent, or neither a file nor a link to one; opening a named pipe would wait for ever."""
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        link = "a link that leads nowhere: " if path.is_symlink() else ""
        raise ValueError(f"cannot be read ({link}{error.strerror})") from error
    if not stat.S_ISREG(mode):
        raise ValueError(f"a {'folder' if stat.S_ISDIR(mode) else 'pipe, socket or device'}, not a file")


def open_file(path: pathlib.Path) -> BinaryIO:
    """The file, links followed, for reading bytes. Raises ValueError where it cannot be read."""
    check_file(path)
    try:
        return open(path, "rb")
    except OSError as error:
        raise ValueError(f"cannot be read ({error.strerror})") from error


def read_file(path: pathlib.Path) -> bytes:
    """The bytes of a file, links followed. Raises ValueError where it cannot be read."""
    try:
        with open_file(path) as file:
            return file.read()
    except OSError as error:
        raise ValueError(f"cannot be read ({error.strerror})") from error


def find_part(root: pathlib.Path, *names: str) -> pathlib.Path | None:
    """The file or folder of the first of `names` that is in `root`, else in a folder in it, or one level deeper.

    Upper and lower case are the same. Raises DataError where it is there twice on one level.
    """
    paths = [root]
    for _ in range(LEVELS):
        folders = [path for path in paths if os.path.isdir(path)]
        paths = [path for folder in folders for path in list_folder(folder)]
        for name in names:
            found = [path for path in paths if path.name.lower() == name.lower()]
            different = [*{os.path.realpath(path): path for path in found}.values()]
            if len(different) > 1:
                raise DataError(f"{different[0]} and {different[1]} are both there; keep one of them.")
            if found:
                return found[0]
    return None


def list_folder(folder: pathlib.Path) -> list[pathlib.Path]:
    """What is in a folder, by name, without junk; nothing where it cannot be opened."""
    try:
        return sorted(path for path in folder.iterdir() if not is_junk(path.name))
    except OSError:
        return []


def read_rows(content: bytes, columns: Collection[str]) -> Iterator[tuple[int, dict[str, str | None]]]:
    """The rows of a csv with a header, as the line that a row ends on and {column: value}, None where it is too short.

    The text is UTF-8 or UTF-16. The separator is the comma, semicolon or tab whose header has most of `columns`.

    Raises:
      ValueError: neither encoding, no header with all `columns`, a quote that is not closed, or a row that is too long.
    """
    text = decode_text(content)

    def split(separator: str) -> Iterator[tuple[int, list[str]]]:
        lines = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
        return ((lines.line_num, fields) for fields in lines if any(map(str.strip, fields)))

    def read_header(separator: str) -> list[str]:
        try:
            return [field.strip() for field in next(split(separator), (0, []))[1]]
        except csv.Error:
            return []

    try:
        separator = min(SEPARATORS, key=lambda separator: len(set(columns) - set(read_header(separator))))
        header = read_header(separator)
        if missing := sorted(set(columns) - set(header)):
            raise ValueError(f"has no column {', '.join(missing)}")
        if twice := [column for column in columns if header.count(column) > 1]:
            raise ValueError(f"has the column {twice[0]} twice")
        for line, fields in itertools.islice(split(separator), 1, None):
            if any(fields[len(header) :]):
                raise ValueError(f"line {line}: {len(fields)} values under a header of {len(header)} columns")
            yield line, dict(itertools.zip_longest(header, fields[: len(header)]))
    except csv.Error as error:
        raise ValueError(str(error)) from error


def decode_text(content: bytes) -> str:
    """A text in UTF-8 or UTF-16, with or without its mark; its first character is ASCII. Raises ValueError: neither."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "UTF-16"
    elif b"\0" in content[:2]:
        encoding = "UTF-16-LE" if content[1:2] == b"\0" else "UTF-16-BE"
    else:
        encoding = "UTF-8-SIG"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        what = f"byte 0x{content[error.start]:02X} at position {error.start}"
        raise ValueError(f"its text is neither UTF-8 nor UTF-16 ({what}), so save it as UTF-8") from error


def find_release(name: str, raw_dir: pathlib.Path | None) -> pathlib.Path | None:
    """raw_dir/NAME, None without a raw_dir. Raises DataError where that folder is absent."""
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
    """A checksum of the names, sizes and times of all files below a folder, links followed, hidden files left out."""
    found = []
    for file in walk(release):
        with contextlib.suppress(OSError):  # A link may lead nowhere.
            status = os.stat(release / file.path)
            if stat.S_ISREG(status.st_mode):
                found.append((str(file.path), status.st_size, status.st_mtime_ns))
    return hashlib.sha256(repr(sorted(found)).encode(errors="backslashreplace")).hexdigest()


def check_release(prepared: Prepared, release: pathlib.Path) -> None:
    """Raises DataError where `release` is not what the data was prepared from."""
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
