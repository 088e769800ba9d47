"""NSynth: 4 s notes of single instruments at 16 kHz, eleven instrument families (Engel et al. 2017)."""

import functools
import json
import pathlib
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import tensorflow_datasets as tfds

from audiojax.data.audio_file import read_samples
from audiojax.data.datasets.base import AudioBuilder, Example, Item, ready, unreadable
from audiojax.data.datasets.synthesiser import Timbre, play
from audiojax.data.release import find_part, is_audio, list_files, printable, read_file
from audiojax.errors import DataError

SAMPLE_RATE_HZ, SAMPLES = 16_000, 64_000
FAMILIES = [
    *("bass", "brass", "flute", "guitar", "keyboard", "mallet"),
    *("organ", "reed", "string", "synth_lead", "vocal"),
]
EXAMPLES = "examples.json"
URL = "http://download.magenta.tensorflow.org/datasets/nsynth/nsynth-{split}.jsonwav.tar.gz"

# Timbres of the stand-in.
TIMBRES = {
    "bass": Timbre(rolloff=2.2, even=1.0, attack_s=0.01, decay_s=0.9, low_pitch=28, high_pitch=48),
    "brass": Timbre(rolloff=0.9, even=1.0, attack_s=0.08, decay_s=8.0, vibrato=0.002),
    "flute": Timbre(rolloff=2.6, even=0.5, attack_s=0.12, decay_s=8.0, noise=0.04, low_pitch=60),
    "guitar": Timbre(rolloff=1.4, even=0.9, attack_s=0.003, decay_s=0.7),
    "keyboard": Timbre(rolloff=1.8, even=1.0, attack_s=0.005, decay_s=1.5, stretch=0.0004),
    "mallet": Timbre(rolloff=1.2, even=0.1, attack_s=0.002, decay_s=0.25, stretch=0.01, low_pitch=60),
    "organ": Timbre(rolloff=0.6, even=1.0, attack_s=0.02, decay_s=20.0, octaves=True),
    "reed": Timbre(rolloff=1.0, even=0.05, attack_s=0.05, decay_s=8.0),
    "string": Timbre(rolloff=1.1, even=0.8, attack_s=0.25, decay_s=8.0, vibrato=0.006, noise=0.01),
    "vocal": Timbre(rolloff=1.0, even=1.0, attack_s=0.1, decay_s=8.0, vibrato=0.004, formant_hz=800.0),
}

with tfds.core.registered.skip_registration():

    class Builder(AudioBuilder):
        """NSynth notes with their instrument family. The group of a note is its instrument."""

        name = "nsynth"
        input_name = "audio"
        sample_rate_hz = SAMPLE_RATE_HZ
        released_examples = {"train": 289_205, "valid": 12_678, "test": 4_096}

        def classes(self) -> list[str]:
            return FAMILIES

        def released(self, downloads):
            if self.raw_dir is None:
                urls = {split: URL.format(split=split) for split in self.released_examples}
                sources = {split: pathlib.Path(path) for split, path in downloads.download(urls).items()}
            else:
                sources = find_splits(self.raw_dir, self.released_examples)
            return {split: read_split(source) for split, source in sources.items()}

        def stand_in(self):
            # As in the release, valid and test share instruments, and train has others.
            return {
                "train": synthesise_notes(instruments=range(0, 6), notes_each=10, seed=0),
                "valid": synthesise_notes(instruments=range(6, 9), notes_each=10, seed=1),
                "test": synthesise_notes(instruments=range(6, 9), notes_each=5, seed=2),
            }


def read_split(source: pathlib.Path) -> Iterator[Item]:
    """The notes of a folder or archive. `Prepared.absent` counts the notes without a file."""
    notes, where = read_notes(source)
    for file in list_files(source):
        note_id = file.path.stem
        if file.fault:
            yield file.what, file.read
        elif file.path.name.lower() == EXAMPLES and file.what != where:
            yield unreadable(file.what, f"a second {EXAMPLES}")
        elif is_audio(file.path.name):
            if note_id not in notes:
                yield unreadable(file.what, f"not named in {EXAMPLES}")
            elif notes[note_id] is None:
                yield unreadable(file.what, f"a second file of the note {note_id}")
            else:
                yield f"{source}: {note_id}.wav", functools.partial(parse_note, note_id, notes[note_id], file.read)
                notes[note_id] = None


def parse_note(note_id: str, note: dict, read: Callable[[], bytes]) -> Example:
    """Decodes a note. Raises ValueError: as `read_note`, or its family or instrument is unknown."""
    try:
        family, instrument = note["instrument_family_str"], note["instrument_str"]
    except KeyError as error:
        raise ValueError(f"its entry in {EXAMPLES} has no {error}") from error
    if family not in FAMILIES:
        raise ValueError(f"instrument family {family!r} is unknown")
    if not isinstance(instrument, str):
        raise ValueError(f"instrument {instrument!r} is not a name")
    return Example(note_id, instrument, FAMILIES.index(family), read_note(read()))


def find_splits(raw_dir: pathlib.Path, splits: Iterable[str]) -> dict[str, pathlib.Path]:
    """Folder or archive of each split that is present. Raises DataError where none is."""
    found = {}
    for split in splits:
        names = (f"nsynth-{split}{suffix}" for suffix in ("", ".jsonwav.tar.gz", ".jsonwav.tar"))
        if source := find_part(raw_dir, *names):
            found[split] = source
    if not found:
        raise DataError(f"{raw_dir} has neither nsynth-SPLIT/ nor nsynth-SPLIT.jsonwav.tar.gz; put the release there.")
    return found


def read_notes(source: pathlib.Path) -> tuple[dict[str, dict], str]:
    """examples.json as {note id: properties}, and its name in messages. Raises DataError: it cannot be read."""
    if source.is_dir():
        path = find_part(source, EXAMPLES)
        if path is None:
            raise DataError(f"{source / EXAMPLES} is absent; unpack the whole of nsynth-*.jsonwav.tar.gz.")
        where = printable(str(path))
        return parse_notes(functools.partial(read_file, path), where), where
    for file in list_files(source):
        if file.path.name.lower() == EXAMPLES and not file.fault:
            return parse_notes(file.read, file.what), file.what
        if file.fault and file.what == printable(str(source)):
            raise DataError(f"{source} cannot be read: {file.fault}; download it again.")
    raise DataError(f"{source} holds no {EXAMPLES}; download it again.")


def parse_notes(read: Callable[[], bytes], where: str) -> dict[str, dict]:
    """examples.json as {note id: properties}. Raises DataError where it is anything else."""
    try:
        text = read()
    except ValueError as error:
        raise DataError(f"{where}: {error}; restore the released file.") from error
    try:
        notes = json.loads(text, object_pairs_hook=unique_keys)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} is not JSON ({error}); restore the released file.") from error
    if not isinstance(notes, dict) or not all(isinstance(note, dict) for note in notes.values()):
        raise DataError(f"{where} is not an object of notes; restore the released file.")
    return notes


def unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """The dictionary of a JSON object. Raises ValueError: a key is there twice."""
    keys = dict(pairs)
    if len(keys) < len(pairs):
        seen = set()
        raise ValueError(f"{next(key for key, _ in pairs if key in seen or seen.add(key))!r} is there twice")
    return keys


def read_note(wav: bytes) -> np.ndarray:
    """Decodes a note to int16 [T].

    Raises:
      ValueError: it is not a complete mono 16-bit wav file of 1 to 64,000 samples at 16 kHz.
    """
    audio, rate_hz, subtype, noted = read_samples(wav)
    if noted:
        raise ValueError(f"a file {noted[0]}; restore the released one")
    channels = audio.shape[1]
    if (rate_hz, subtype, channels) != (SAMPLE_RATE_HZ, "PCM_16", 1):
        raise ValueError(f"{rate_hz} Hz, {subtype}, {channels} channel(s) instead of {SAMPLE_RATE_HZ} Hz, PCM_16, 1")
    if not 1 <= len(audio) <= SAMPLES:
        raise ValueError(f"{len(audio)} samples instead of 1 to {SAMPLES}")
    return audio[:, 0]


def synthesise_notes(instruments: range, notes_each: int, seed: int) -> Iterator[Item]:
    """Notes of synthesised instruments. An instrument varies the timbre of its family, a note its pitch and level."""
    for family, timbre in TIMBRES.items():
        for number in instruments:
            label = FAMILIES.index(family)
            instrument = timbre.vary(np.random.default_rng((label, number)))
            rng = np.random.default_rng((seed, label, number))
            pitches = rng.choice(np.arange(timbre.low_pitch, timbre.high_pitch), notes_each, replace=False)
            for pitch in np.sort(pitches):
                name = f"{family}_synthetic_{number:03d}"
                audio = play(instrument, int(pitch), SAMPLE_RATE_HZ, SAMPLES, rng)
                yield ready(Example(f"{name}-{pitch:03d}-{seed}", name, label, audio))
