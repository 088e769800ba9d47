"""Writes clips of a trained GAN as wav files: python -m audiojax.generate RUN --label=blues --count=8 --out=DIR.

A file is called LABEL.NUMBER.wav, and its clip is a function of the run, its label and its number alone. A label that
cannot name a file everywhere is shortened to its letters, with % and the number of its class.
"""

import argparse
import pathlib
import re
import unicodedata
from collections import Counter

import numpy as np
import scipy.io.wavfile

from audiojax import config_file, mesh, process, trained
from audiojax.errors import ConfigError, RunError
from audiojax.recipes import gan

PLAIN = re.compile(r"\w[\w .,()&'+-]*")
DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d) *(\..*)?", re.IGNORECASE)  # which Windows opens in place of files
LONGEST = 100  # bytes of a label in a file's name


def main() -> None:
    """Reads the command line and writes the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="folder of a finished run of a GAN")
    parser.add_argument("--label", help="one of its classes; all of them without it")
    parser.add_argument("--count", type=int, default=1, help="clips of each class")
    parser.add_argument("--first", type=int, default=0, help="number of the first one")
    parser.add_argument("--out", required=True, help="folder of the wav files")
    arguments = parser.parse_args()

    def program() -> None:
        run, out = (pathlib.Path(config_file.expand_home(path)) for path in (arguments.run, arguments.out))
        mesh.start()
        for path in write(run, arguments.label, arguments.first, arguments.count, out):
            print(path)

    process.run(program, lambda: None)


def write(run: pathlib.Path, label: str | None, first: int, count: int, out: pathlib.Path) -> list[pathlib.Path]:
    """Writes clips first … first+count-1 of a label, or of each; returns the files.

    Raises:
      RunError: no finished run of a GAN, or a folder that cannot be written. ConfigError: no such label or number.
    """
    model = trained.load(run)
    form, classes = model.result.get("generates"), model.result["classes"]
    if form is None:
        raise RunError(f"{run} is the run of a {model.config.task.name} task; only GANs generate.")
    if label is not None and label not in classes:
        raise ConfigError(f"--label={label}: the run has no such class; it has {', '.join(classes)}.")
    if first < 0 or count < 1:
        raise ConfigError(f"--first={first} must be at least 0 and --count={count} at least 1.")
    labels = np.repeat(np.arange(len(classes)) if label is None else classes.index(label), count)
    numbers = np.tile(np.arange(first, first + count), len(labels) // count)
    weights = model.best.params, model.best.model_state
    audio_NT = gan.generate(model.task, *weights, numbers, labels, form["samples"])
    names = file_names(classes)
    paths = [out / f"{names[k]}.{number:05d}.wav" for k, number in zip(labels, numbers)]
    try:
        out.mkdir(parents=True, exist_ok=True)
        for path, audio_T in zip(paths, audio_NT):
            scipy.io.wavfile.write(path, form["sample_rate_hz"], audio_T)
    except OSError as error:
        raise RunError(f"--out={out} cannot be written ({error}); choose another folder.") from error
    return paths


def file_names(labels: list[str]) -> list[str]:
    """A name for the files of each label, all different on every file system and without a folder among them.

    A label is its own name, unless it has another character than letters, digits and PLAIN ones, is longer than
    `LONGEST`, is a device of Windows, or differs from another label by case or composition of characters alone.
    """
    folded = [unicodedata.normalize("NFKC", label).casefold() for label in labels]
    count = Counter(folded)

    def name(number: int, label: str) -> str:
        fits = PLAIN.fullmatch(label) and not DEVICES.fullmatch(folded[number]) and len(label.encode()) <= LONGEST
        if fits and count[folded[number]] == 1:
            return label
        return f"{re.sub('[^A-Za-z0-9_]+', '_', label)[:40]}%{number}"  # No label of its own name has a %.

    return [name(number, label) for number, label in enumerate(labels)]


if __name__ == "__main__":
    main()
