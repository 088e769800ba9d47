"""Reading a tar.gz from its start to its end, so that no damage goes unnoticed."""

import gzip
import pathlib
import tarfile
import zlib
from collections.abc import Iterator

DAMAGE = (tarfile.TarError, EOFError, OSError, zlib.error)
CHUNK_BYTES = 2**20


def read_members(archive: pathlib.Path) -> Iterator[tuple[tarfile.TarInfo, bytes | None]]:
    """Each member with its content, None where it is no file; nothing is extracted to disk.

    tarfile by itself takes a broken header for the end and never comes to gzip's checksum: what follows the last member
    is read too.

    Raises:
      ValueError: truncated or corrupt, once the members before the damage are out.
    """
    try:
        with gzip.open(archive) as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
            for member in tar:
                yield member, tar.extractfile(member).read() if member.isfile() else None
            read_padding(stream)
    except DAMAGE as error:
        raise ValueError(f"truncated or corrupt from here on ({error})") from error


def read_padding(stream: gzip.GzipFile) -> None:
    """Reads what follows a tar's last member. Raises ValueError: there is more than zeros, or the checksum is wrong."""
    try:
        while chunk := stream.read(CHUNK_BYTES):
            if chunk.strip(b"\0"):
                raise tarfile.ReadError("a header is broken")
    except DAMAGE as error:
        raise ValueError(f"damaged, so that any of its files may be altered or lost ({error})") from error
