"""GTZAN: music of ten genres, 1,000 tracks of 30 s at 22,050 Hz (Tzanetakis and Cook 2002)."""

import functools
import pathlib
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import tensorflow_datasets as tfds

from audiojax.data.audio_file import decode
from audiojax.data.datasets.base import AudioBuilder, Example, Item, unreadable
from audiojax.data.datasets.synthesiser import Style, Timbre, perform
from audiojax.data.release import File, find_part, is_audio, list_files
from audiojax.errors import DataError

SAMPLE_RATE_HZ = 22_050
GENRES = ["blues", "classical", "country", "disco", "hiphop", "jazz", "metal", "pop", "reggae", "rock"]
ARCHIVES = ("genres.tar.gz", "genres.tar")

# Instruments of the stand-in.
BASS = Timbre(rolloff=2.0, even=1.0, attack_s=0.01, decay_s=0.6)
SUB_BASS = Timbre(rolloff=3.5, even=1.0, attack_s=0.02, decay_s=1.5)
GUITAR = Timbre(rolloff=1.4, even=0.9, attack_s=0.003, decay_s=0.5)
STEEL_GUITAR = Timbre(rolloff=0.8, even=1.0, attack_s=0.003, decay_s=0.4, stretch=0.0002)
LOUD_GUITAR = Timbre(rolloff=0.7, even=1.0, attack_s=0.004, decay_s=3.0)
PIANO = Timbre(rolloff=1.8, even=1.0, attack_s=0.005, decay_s=0.8, stretch=0.0004)
ORGAN = Timbre(rolloff=0.6, even=1.0, attack_s=0.01, decay_s=20.0, octaves=True)
REED = Timbre(rolloff=1.0, even=0.05, attack_s=0.04, decay_s=5.0, vibrato=0.003)
STRINGS = Timbre(rolloff=1.1, even=0.8, attack_s=0.15, decay_s=8.0, vibrato=0.006, noise=0.01)
VOICES = Timbre(rolloff=1.0, even=1.0, attack_s=0.06, decay_s=8.0, vibrato=0.004, formant_hz=900.0)

MAJOR, MINOR, SEVENTH, FIFTH = (0, 4, 7), (0, 3, 7), (0, 4, 10), (-12, -5)


def above(chord: tuple[int, ...], semitones: int) -> tuple[int, ...]:
    """A chord transposed by semitones."""
    return tuple(note + semitones for note in chord)


NONE, BEATS, HALVES = "................", "x...x...x...x...", "x.......x......."
BACKBEAT, OFFBEATS, EIGHTHS = "....x.......x...", "..x...x...x...x.", "x.x.x.x.x.x.x.x."
STYLES = {
    "blues": Style(
        *(92, HALVES, BACKBEAT, "x.x.x.x.x.x.x.x.", "x.......x..x....", EIGHTHS),
        harmony=(SEVENTH, above(SEVENTH, 5), SEVENTH, above(SEVENTH, 7)),
        **dict(chord_timbre=GUITAR, bass_timbre=BASS, chord_steps=5, bass_steps=2, drums=0.5, swing=0.6, noise=0.02),
    ),
    "classical": Style(
        *(72, NONE, NONE, NONE, HALVES, "x..............."),
        harmony=(MAJOR, above(MINOR, -3), above(MAJOR, 5), above(MAJOR, -5)),
        **dict(chord_timbre=STRINGS, bass_timbre=STRINGS, chord_steps=9, bass_steps=17),
    ),
    "country": Style(
        *(112, HALVES, "....x.......x.x.", NONE, OFFBEATS, HALVES),
        harmony=(MAJOR, above(MAJOR, 5), above(MAJOR, -5), MAJOR),
        **dict(chord_timbre=STEEL_GUITAR, bass_timbre=BASS, chord_steps=3, bass_steps=4, drums=0.35),
    ),
    "disco": Style(
        *(122, BEATS, BACKBEAT, OFFBEATS, "x.........x.....", EIGHTHS),
        harmony=(MINOR, above(MAJOR, -4), above(MAJOR, 3), above(MAJOR, -2)),
        **dict(chord_timbre=STRINGS, bass_timbre=BASS, chord_steps=8, bass_steps=1, drums=1.2),
    ),
    "hiphop": Style(
        *(88, "x..x..x...x.....", BACKBEAT, "x.x.x.xxx.x.x.x.", "x...............", "x..x..x........."),
        harmony=(MINOR, MINOR, above(MINOR, 1), MINOR),
        **dict(chord_timbre=PIANO, bass_timbre=SUB_BASS, chord_steps=6, bass_steps=4, drums=1.8, noise=0.04),
    ),
    "jazz": Style(
        *(140, NONE, "......x.......x.", "x...x.x.x...x.x.", "x.....x.........", BEATS),
        harmony=((2, 5, 9, 12), (-5, -1, 2, 5), (0, 4, 7, 11), (-3, 1, 4, 7)),
        **dict(chord_timbre=REED, bass_timbre=BASS, chord_steps=6, bass_steps=4, drums=0.4, swing=0.6, noise=0.01),
    ),
    "metal": Style(
        *(165, EIGHTHS, BACKBEAT, BEATS, "x.xxx.xxx.xxx.xx", EIGHTHS),
        harmony=(FIFTH, FIFTH, above(FIFTH, 1), above(FIFTH, 3)),
        **dict(chord_timbre=LOUD_GUITAR, bass_timbre=BASS, chord_steps=2, bass_steps=2, drive=5.0),
    ),
    "pop": Style(
        *(108, HALVES, BACKBEAT, EIGHTHS, BEATS, "x..x..x.x..x..x."),
        harmony=(MAJOR, above(MAJOR, -5), above(MINOR, -3), above(MAJOR, 5)),
        **dict(chord_timbre=VOICES, bass_timbre=SUB_BASS, chord_steps=4, bass_steps=2),
    ),
    "reggae": Style(
        *(74, "........x.......", "........x.......", EIGHTHS, BACKBEAT, "x..x....x.x....."),
        harmony=(MINOR, MINOR, above(MINOR, 5), above(MAJOR, -2)),
        **dict(chord_timbre=ORGAN, bass_timbre=SUB_BASS, chord_steps=1, bass_steps=3, drums=0.6),
    ),
    "rock": Style(
        *(126, "x.......x.x.....", BACKBEAT, EIGHTHS, EIGHTHS, EIGHTHS),
        harmony=(above(FIFTH, 12), above(FIFTH, 17), above(FIFTH, 10), above(FIFTH, 12)),
        **dict(chord_timbre=LOUD_GUITAR, bass_timbre=BASS, chord_steps=2, bass_steps=2, drive=1.5),
    ),
}

with tfds.core.registered.skip_registration():

    class Builder(AudioBuilder):
        """GTZAN tracks with their genre. Each track is a group."""

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
            tree = [*list_files(self.raw_dir)]
            archive = find_part(self.raw_dir, *ARCHIVES)
            if archive and not any(genre_of(file.path) and is_audio(file.path.name) for file in tree):
                return {"all": read_tracks(list_files(archive))}
            if items := [*read_tracks(tree)]:
                return {"all": items}
            raise DataError(
                f"{self.raw_dir} has neither {ARCHIVES[0]} nor folders named {GENRES[0]} to {GENRES[-1]} with audio;"
                " put the release there."
            )

        def stand_in(self):
            names = [f"{genre}.{number:05d}" for genre in GENRES for number in range(10)]
            return {"all": [(name, functools.partial(synthesise_track, name)) for name in names]}


def read_tracks(files: Iterable[File]) -> Iterator[Item]:
    """The tracks among the files of a folder or archive: audio below a folder with the name of a genre.

    Other files in a folder with tracks are listed as unreadable. Files elsewhere are ignored, for copies of GTZAN have
    folders of images too.
    """
    others, folders = [], set()
    for file in files:
        if file.fault:
            yield file.what, file.read
        elif (genre := genre_of(file.path)) is None:
            continue
        elif is_audio(file.path.name):
            folders.add(file.path.parent)
            yield file.what, functools.partial(parse_track, file.path.stem, genre, file.read)
        else:
            others.append((file.what, file.path.parent))
    yield from (unreadable(what, "not an audio file") for what, folder in others if folder in folders)


def genre_of(path: pathlib.PurePosixPath) -> str | None:
    """The innermost folder of a path that has the name of a genre, or None."""
    return next((part.lower() for part in reversed(path.parts[:-1]) if part.lower() in GENRES), None)


def parse_track(name: str, genre: str, read: Callable[[], bytes]) -> Example:
    """Decodes a track. Raises ValueError where it cannot be read or decoded."""
    audio, changes = decode(read(), SAMPLE_RATE_HZ)
    return Example(name, name, GENRES.index(genre), audio, changes=changes)


def synthesise_track(name: str) -> Example:
    """The piece of a name such as blues.00000, in the style of its genre, about 30 s long."""
    genre, number = name.split(".")
    label = GENRES.index(genre)
    rng = np.random.default_rng((label, int(number)))
    return Example(name, name, label, perform(STYLES[genre], SAMPLE_RATE_HZ, int(rng.integers(660_000, 676_000)), rng))
