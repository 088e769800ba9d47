"""Writes clips of a trained GAN as wav files: python -m audiojax.generate RUN --label=blues --count=8 --out=DIR.

A file is called LABEL.NUMBER.wav, and its clip is a function of the run, its label and its number alone.
"""

import argparse
import pathlib
import sys

import numpy as np
import scipy.io.wavfile

from audiojax import mesh
from audiojax.errors import AudiojaxError, ConfigError, RunError
from audiojax.recipes import gan, single


def main() -> None:
    """Reads the command line and writes the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=pathlib.Path, help="folder of a finished run of a GAN")
    parser.add_argument("--label", help="one of its classes; all of them without it")
    parser.add_argument("--count", type=int, default=1, help="clips of each class")
    parser.add_argument("--first", type=int, default=0, help="number of the first one")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder of the wav files")
    arguments = parser.parse_args()
    mesh.start()
    try:
        for path in write(arguments.run, arguments.label, arguments.first, arguments.count, arguments.out):
            print(path)
    except AudiojaxError as error:
        sys.exit(f"audiojax: {error}")


def write(run: pathlib.Path, label: str | None, first: int, count: int, out: pathlib.Path) -> list[pathlib.Path]:
    """Writes clips first … first+count-1 of a label, or of each; returns the files.

    Raises:
      RunError: no finished run of a GAN, or a folder that cannot be written. ConfigError: no such label or number.
    """
    trained = single.load(run)
    form, classes = trained.result.get("generates"), trained.result["classes"]
    if form is None:
        raise RunError(f"{run} is the run of a {trained.config.task.name} task; only GANs generate.")
    if label is not None and label not in classes:
        raise ConfigError(f"--label={label}: the run has no such class; it has {', '.join(classes)}.")
    if first < 0 or count < 1:
        raise ConfigError(f"--first={first} must be at least 0 and --count={count} at least 1.")
    labels = np.repeat(np.arange(len(classes)) if label is None else classes.index(label), count)
    numbers = np.tile(np.arange(first, first + count), len(labels) // count)
    weights = trained.best.params, trained.best.model_state
    audio_NT = gan.generate(trained.task, *weights, numbers, labels, form["samples"])
    paths = [out / f"{classes[k]}.{number:05d}.wav" for k, number in zip(labels, numbers)]
    try:
        out.mkdir(parents=True, exist_ok=True)
        for path, audio_T in zip(paths, audio_NT):
            scipy.io.wavfile.write(path, form["sample_rate_hz"], audio_T)
    except OSError as error:
        raise RunError(f"--out={out} cannot be written ({error}); choose another folder.") from error
    return paths


if __name__ == "__main__":
    main()
