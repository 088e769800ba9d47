"""FSDKaggle2018: Freesound clips of 41 classes, 0.3 to 30 s at 44,100 Hz, partly verified (Fonseca et al. 2018)."""

import functools
import pathlib
from collections.abc import Callable

import numpy as np
import tensorflow_datasets as tfds

from audiojax.data.audio_file import decode
from audiojax.data.datasets.base import AudioBuilder, Example, Item, unreadable
from audiojax.data.datasets.synthesiser import Sound, Timbre, sound, spread
from audiojax.data.release import find_part, list_files
from audiojax.data.tables import read_rows
from audiojax.errors import DataError

SAMPLE_RATE_HZ = 44_100
CLASSES = [
    *("Acoustic_guitar", "Applause", "Bark", "Bass_drum", "Burping_or_eructation", "Bus", "Cello", "Chime"),
    *("Clarinet", "Computer_keyboard", "Cough", "Cowbell", "Double_bass", "Drawer_open_or_close", "Electric_piano"),
    *("Fart", "Finger_snapping", "Fireworks", "Flute", "Glockenspiel", "Gong", "Gunshot_or_gunfire", "Harmonica"),
    *("Hi-hat", "Keys_jangling", "Knock", "Laughter", "Meow", "Microwave_oven", "Oboe", "Saxophone", "Scissors"),
    *("Shatter", "Snare_drum", "Squeak", "Tambourine", "Tearing", "Telephone", "Trumpet", "Violin_or_fiddle"),
    "Writing",
]
URL = "https://zenodo.org/record/2552860/files/FSDKaggle2018.{part}.zip"

# split -> its csv, the column of the subsets, {value in that column: subset}
METADATA = {
    "train": ("train_post_competition.csv", "manually_verified", {"1": "verified", "0": "unverified"}),
    "test": ("test_post_competition_scoring_clips.csv", "usage", {"Public": "Public", "Private": "Private"}),
}

with tfds.core.registered.skip_registration():

    class Builder(AudioBuilder):
        """FSDKaggle2018 clips with their class. The group of a clip is its Freesound recording.

        The subset of a training clip is "verified" or "unverified", that of a test clip "Public" or "Private".
        """

        name = "fsdkaggle2018"
        input_name = "audio"
        sample_rate_hz = SAMPLE_RATE_HZ
        released_examples = {"train": 9_473, "test": 1_600}

        def classes(self) -> list[str]:
            return CLASSES

        def released(self, downloads):
            if self.raw_dir is None:
                parts = ("meta", *(f"audio_{split}" for split in METADATA))
                urls = {part: URL.format(part=part) for part in parts}
                found = {part: pathlib.Path(path) for part, path in downloads.download(urls).items()}
            else:
                found = find_parts(self.raw_dir)
            return {
                split: read_split(found[f"audio_{split}"], read_metadata(found["meta"], split))
                for split in METADATA
                if f"audio_{split}" in found
            }

        def stand_in(self):
            """Ids end in the true class, such as train-00012-Flute.

            As in the release, about 40 % of the training clips are verified. A quarter of the others has a wrong label.
            """
            return {"train": synthesise_clips("train", clips_each=12), "test": synthesise_clips("test", clips_each=4)}


def find_parts(raw_dir: pathlib.Path) -> dict[str, pathlib.Path]:
    """Folder or archive of each part that is present. Raises DataError without metadata or without any audio."""
    parts = ("meta", *(f"audio_{split}" for split in METADATA))
    sources = {part: find_part(raw_dir, f"FSDKaggle2018.{part}", f"FSDKaggle2018.{part}.zip") for part in parts}
    found = {part: source for part, source in sources.items() if source}
    if "meta" not in found or len(found) < 2:
        raise DataError(
            f"{raw_dir} lacks FSDKaggle2018.meta or any FSDKaggle2018.audio_SPLIT, as folder or .zip; put the release"
            " there."
        )
    return found


def read_metadata(meta: pathlib.Path, split: str) -> dict[str, Example]:
    """{file name: example without audio} from the csv of a split.

    Raises:
      DataError: the csv is absent or there twice, or a value is absent, unknown or there twice.
    """
    name, column, subsets = METADATA[split]
    where = f"{meta}: {name}"
    tables = [file for file in list_files(meta) if file.path.name.lower() == name]
    if len(tables) > 1:
        raise DataError(f"{where} is there twice, as {tables[0].what} and {tables[1].what}; keep one of them.")
    if not tables:
        raise DataError(f"{where} is absent; put the whole of FSDKaggle2018.meta there.")
    try:
        examples = {}
        for line, row in read_rows(tables[0].read(), ("fname", "label", column, "freesound_id")):
            fname, label, subset = lower_suffix(row["fname"] or ""), row["label"], row[column]
            for wrong, what in (
                (not fname or fname in examples, f"fname {fname!r} is empty or named a second time"),
                (label not in CLASSES, f"label {label!r} is none of the {len(CLASSES)} classes"),
                (subset not in subsets, f"{column} {subset!r} is none of {', '.join(subsets)}"),
                (not row["freesound_id"], f"freesound_id of {fname} is empty"),
            ):
                if wrong:
                    raise ValueError(f"line {line}: {what}")
            stem, label = pathlib.PurePath(fname).stem, CLASSES.index(label)
            examples[fname] = Example(stem, row["freesound_id"], label, None, subsets[subset])
        return examples
    except ValueError as error:
        raise DataError(f"{where}: {error}; restore the released file.") from error


def read_split(source: pathlib.Path, examples: dict[str, Example]) -> list[Item]:
    """The audio files of a folder or archive. `Prepared.absent` counts the clips without a file."""
    items, found = [], set()
    for file in sorted(list_files(source), key=lambda file: file.path.name):
        fname = lower_suffix(file.path.name)
        if file.fault:
            items.append((file.what, file.read))
        elif fname not in examples:
            items.append(unreadable(file.what, "not named in the metadata"))
        elif fname in found:
            items.append(unreadable(file.what, f"a second file of the clip {fname}"))
        else:
            items.append((f"{source}: {fname}", functools.partial(parse_clip, examples[fname], file.read)))
            found.add(fname)
    return items


def lower_suffix(fname: str) -> str:
    """The name with its suffix in lower case."""
    path = pathlib.PurePath(fname)
    return fname.removesuffix(path.suffix) + path.suffix.lower()


def parse_clip(example: Example, read: Callable[[], bytes]) -> Example:
    """Decodes a clip. Raises ValueError where it cannot be read or decoded."""
    audio, changes = decode(read(), SAMPLE_RATE_HZ)
    return example._replace(input=audio, changes=changes)


def synthesise_clips(split: str, clips_each: int) -> list[Item]:
    """The items of a split of the stand-in, `clips_each` of each class."""
    names = [f"{split}-{number:05d}-{CLASSES[number % len(CLASSES)]}" for number in range(clips_each * len(CLASSES))]
    return [(name, functools.partial(synthesise_clip, name)) for name in names]


def synthesise_clip(name: str) -> Example:
    """The clip of a name such as train-00012-Flute, 0.3 to 6 s long."""
    split, number, sounding = name.split("-", 2)
    label, turn = CLASSES.index(sounding), int(number) // len(CLASSES)
    rng = np.random.default_rng((("train", "test").index(split), int(number)))
    samples = int(rng.uniform(0.3, 6) * SAMPLE_RATE_HZ)
    audio = sound(sound_of(label).vary(rng), SAMPLE_RATE_HZ, samples, rng)
    if split == "test":
        subset = "Public" if turn == 0 else "Private"
    else:
        subset = "verified" if turn % 5 in (0, 2) else "unverified"
    if subset == "unverified" and rng.random() < 0.25:
        label = (label + int(rng.integers(1, len(CLASSES)))) % len(CLASSES)
    return Example(name, name, label, audio, subset)


def sound_of(label: int) -> Sound:
    """The sound of a class, as unlike the others as the synthesiser allows."""
    pitch, rolloff, even, noise, noise_hz, events, decay = spread(label, 7)
    timbre = Timbre(0.5 + 2.0 * rolloff, 0.05 + 0.95 * even, attack_s=0.005, decay_s=0.03 * 15**decay)
    return Sound(timbre, 40 + 50 * pitch, 0.1 + 0.8 * noise, 300 * 30**noise_hz, 1.0 * 12**events)
