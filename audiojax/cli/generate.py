"""Writes clips of a trained GAN as wav files.

A file is called LABEL.NUMBER.wav. Its clip depends on the run, the label and the number alone.

Example:
  audiojax generate runs/gan_cnn --label=blues --count=8 --out=clips
"""

import argparse
import pathlib
import re
import unicodedata
from collections import Counter

import numpy as np

from audiojax import config_file
from audiojax.errors import ConfigError, RunError

PLAIN = re.compile(r"\w[\w .,()&'+-]*")
DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d) *(\..*)?", re.IGNORECASE)  # names that Windows reserves
LONGEST = 100  # bytes of a label in a file's name


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the subcommand."""
    parser.add_argument("run", metavar="RUN", help="folder of a finished run of a GAN")
    parser.add_argument("--label", help="class of the clips; default: every class")
    parser.add_argument("--count", type=int, default=1, help="number of clips of each class; default: 1")
    parser.add_argument("--first", type=int, default=0, help="number of the first clip; default: 0")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder of the wav files")


def run(arguments: argparse.Namespace) -> None:
    """Writes the clips and prints the names of their files."""
    from audiojax import mesh  # imports JAX, which takes seconds

    folder, out = (pathlib.Path(config_file.expand_home(path)) for path in (arguments.run, arguments.out))
    mesh.start()
    for path in write(folder, arguments.label, arguments.first, arguments.count, out):
        print(path)


def write(run: pathlib.Path, label: str | None, first: int, count: int, out: pathlib.Path) -> list[pathlib.Path]:
    """Writes the clips first … first+count-1 of a class, or of every class. Returns the files.

    Raises:
      RunError: `run` is no finished run of a GAN, or `out` cannot be written. ConfigError: an unknown label, or a
        number out of range.
    """
    import scipy.io.wavfile

    from audiojax import trained
    from audiojax.recipes import gan

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
    """File names for labels, different from each other on every file system.

    A label names its files itself, unless it has characters other than letters, digits and those of PLAIN, is longer
    than LONGEST, is reserved by Windows, or differs from another label only in case or in the composition of its
    characters. Then its letters, % and the number of its class take its place.
    """
    folded = [unicodedata.normalize("NFKC", label).casefold() for label in labels]
    count = Counter(folded)

    def name(number: int, label: str) -> str:
        fits = PLAIN.fullmatch(label) and not DEVICES.fullmatch(folded[number]) and len(label.encode()) <= LONGEST
        if fits and count[folded[number]] == 1:
            return label
        return f"{re.sub('[^A-Za-z0-9_]+', '_', label)[:40]}%{number}"  # PLAIN has no %

    return [name(number, label) for number, label in enumerate(labels)]
