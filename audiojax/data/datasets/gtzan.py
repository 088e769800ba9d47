"""GTZAN: music of ten genres, 1,000 tracks of 30 s at 22,050 Hz (Tzanetakis and Cook 2002)."""

import functools
import pathlib
import tarfile
import zlib
from collections.abc import Iterator

import tensorflow_datasets as tfds

from audiojax.data.audio_file import decode, is_audio, read_within
from audiojax.data.datasets.base import AudioBuilder, Example, Item, unreadable
from audiojax.errors import DataError

SAMPLE_RATE_HZ = 22_050
GENRES = ["blues", "classical", "country", "disco", "hiphop", "jazz", "metal", "pop", "reggae", "rock"]
ARCHIVE = "genres.tar.gz"

with tfds.core.registered.skip_registration():

    class Builder(AudioBuilder):
        """GTZAN tracks with their genre; a track is its own group."""

        name = "gtzan"
        input_name = "audio"
        sample_rate_hz = SAMPLE_RATE_HZ
        released_examples = {"all": 1_000}

        def classes(self) -> list[str]:
            return GENRES

        def released(self, downloads):
            if self.raw_dir is None:
                raise DataError(
                    "gtzan can no longer be downloaded; put its genres/, genres_original/ or genres.tar.gz in DIR/gtzan"
                    " and pass --raw_dir=DIR, or try the synthesised --config.data.variant=stand_in."
                )
            if items := read_tree(self.raw_dir):
                return {"all": items}
            if (archive := self.raw_dir / ARCHIVE).exists():
                return {"all": read_archive(archive)}
            raise DataError(
                f"{self.raw_dir} has neither {ARCHIVE} nor folders named {GENRES[0]} to {GENRES[-1]} with audio in them;"
                " put the release there."
            )


def read_tree(root: pathlib.Path) -> list[Item]:
    """The tracks in folders named after a genre, at most three folders deep.

    Such a folder counts if it holds audio, for copies of GTZAN have folders of images too. Hidden files, as macOS adds
    them ("._blues.00000.au"), are passed over; any other file there is a track or listed as unreadable.
    """
    folders = sorted(
        path for depth in ("*", "*/*", "*/*/*") for path in root.glob(depth) if path.name in GENRES and path.is_dir()
    )
    items = []
    for folder in folders:
        paths = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
        if any(is_audio(path.name) for path in paths):
            items += [(str(path), functools.partial(read_track, root, path)) for path in paths]
    return items


def read_archive(archive: pathlib.Path) -> Iterator[Item]:
    """The tracks of a tar.gz, streamed: nothing is extracted to disk.

    Files in folders named after a genre are tracks or listed as unreadable, and so are links and names that lead out
    of the archive, wherever they stand; hidden files and what lies outside the genres' folders is passed over.
    """
    try:
        with tarfile.open(archive, "r|gz") as tar:
            for member in tar:
                path, what = pathlib.PurePosixPath(member.name), f"{archive}: {member.name}"
                if member.isdir() or path.name.startswith("."):
                    continue
                if path.is_absolute() or ".." in path.parts:
                    yield unreadable(what, "a name that leads out of the archive")
                elif not member.isfile():
                    yield unreadable(what, "a link or device, not a file")
                elif path.parent.name in GENRES:
                    yield what, functools.partial(parse_track, path, tar.extractfile(member).read())
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        yield unreadable(str(archive), f"truncated or corrupt from here on ({error})")


def read_track(root: pathlib.Path, path: pathlib.Path) -> Example:
    return parse_track(path, read_within(root, path))


def parse_track(path: pathlib.PurePath, content: bytes) -> Example:
    """Raises ValueError: no audio file, or one that cannot be read."""
    if not is_audio(path.name):
        raise ValueError("not an audio file")
    audio, changes = decode(content, SAMPLE_RATE_HZ)
    return Example(path.stem, path.stem, GENRES.index(path.parent.name), audio, changes=changes)
