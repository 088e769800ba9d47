"""Members of tar, tar.gz and zip archives, read without extracting them to disk. All damage is reported."""

import functools
import gzip
import lzma
import pathlib
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

from audiojax.errors import DataError

DAMAGE = (tarfile.TarError, EOFError, OSError, OverflowError, zlib.error)
ZIP_DAMAGE = (zipfile.BadZipFile, OSError, RuntimeError, ValueError, struct.error)
GZIP, ZIP, USTAR, USTAR_BYTE = b"\x1f\x8b", b"PK", b"ustar", 257
FOLDER_TYPES = (tarfile.DIRTYPE, b"D", b"V")  # a folder; GNU tar's list of a folder, and its label of an archive
CHUNK_BYTES = 2**20
UTF8_FLAG = 0x800  # of a member of a zip


class Member(NamedTuple):
    """What an archive holds under one name.

    read: returns the content, or raises ValueError where it is damaged. None for links and devices.
    """

    name: str
    is_folder: bool
    read: Callable[[], bytes] | None


class Header(tarfile.TarInfo):
    """A header of a tar whose damage is an error. tarfile itself takes a broken header for the end of the archive."""

    @classmethod
    def frombuf(cls, buf, encoding, errors):
        try:
            return super().frombuf(buf, encoding, errors)
        except (tarfile.EmptyHeaderError, tarfile.TruncatedHeaderError) as error:
            raise EOFError("its end mark is absent") from error
        except tarfile.InvalidHeaderError as error:
            raise ValueError("damaged (a header is broken), so any of its files may be altered or lost") from error


def read_archive(archive: pathlib.Path) -> Iterator[Member]:
    """The members of a tar, tar.gz or zip, which its first bytes tell apart.

    Raises:
      DataError: a zip that cannot be opened. ValueError: a truncated or corrupt tar, after the members before the
        damage.
    """
    with open(archive, "rb") as file:
        head = file.read(tarfile.BLOCKSIZE)
    if head.startswith(GZIP):
        return read_tar(archive, gzip.open)
    if head.startswith(USTAR, USTAR_BYTE) or not (head.startswith(ZIP) or archive.suffix.lower() == ".zip"):
        return read_tar(archive, open)
    return read_zip(archive)


def read_tar(archive: pathlib.Path, open_stream: Callable) -> Iterator[Member]:
    """The members of a tar, as a stream. Raises ValueError as `read_archive`."""
    try:
        with open_stream(archive, "rb") as stream, tarfile.open(fileobj=stream, mode="r|", tarinfo=Header) as tar:
            while (member := tar.next()) is not None:
                read = None
                if member.isfile():
                    content = tar.extractfile(member).read()
                    if len(content) < member.size:
                        raise EOFError(f"{member.name} ends too early")
                    read = functools.partial(bytes, content)  # the same object, not a copy
                tar.members.clear()  # tarfile keeps them all, and memory would grow.
                yield Member(member.name, member.type in FOLDER_TYPES, read)
            read_padding(tar.fileobj)
    except DAMAGE as error:
        raise ValueError(f"truncated or corrupt from here on ({error})") from error


def read_padding(stream) -> None:
    """Reads to the end, where gzip has its checksum. Raises ValueError: it is wrong, or data follow the tar's end."""
    try:
        while chunk := stream.read(CHUNK_BYTES):
            if chunk.strip(b"\0"):
                raise tarfile.ReadError("data follow its end")
    except DAMAGE as error:
        raise ValueError(f"damaged ({error}), so any of its files may be altered or lost") from error


def read_zip(path: pathlib.Path) -> Iterator[Member]:
    """The members of a zip. Raises DataError where it cannot be opened."""
    try:
        archive = zipfile.ZipFile(path)
    except ZIP_DAMAGE as error:
        raise DataError(f"{path} cannot be read ({error}); download it again.") from error
    for member in archive.infolist():
        name, is_link = zip_name(member), stat.S_ISLNK(member.external_attr >> 16)
        is_folder = name.endswith(("/", "\\"))
        yield Member(name, is_folder, None if is_link else functools.partial(read_zip_member, archive, member))


def zip_name(member: zipfile.ZipInfo) -> str:
    """The name of a member. Without the mark of UTF-8 it is UTF-8 if that is valid, else code page 437."""
    if member.flag_bits & UTF8_FLAG:
        return member.filename
    try:
        return member.filename.encode("cp437").decode("utf-8")
    except UnicodeError:
        return member.filename


def read_zip_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """The content of a file in a zip. Raises ValueError: it is damaged, encrypted, or of an unknown compression."""
    try:
        return archive.read(member)
    except (*ZIP_DAMAGE, zlib.error, lzma.LZMAError, EOFError) as error:
        raise ValueError(f"cannot be unpacked ({error})") from error
