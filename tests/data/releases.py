"""Files of releases, written as these lay them out, and what is prepared from them."""

import io

import numpy as np
import soundfile

from audiojax.data import prepared
from audiojax.data.prepare import prepare


def samples_of(seed, samples=2_000):
    """Noise: int16 [samples]."""
    return np.random.default_rng(seed).integers(-3000, 3000, samples).astype(np.int16)


def encode(audio, rate, form="WAV", subtype="PCM_16"):
    """The bytes of an audio file."""
    file = io.BytesIO()
    soundfile.write(file, audio, rate, format=form, subtype=subtype)
    return file.getvalue()


def prepared_after(name, raw_dir, tmp_path, strict=False):
    prepare(name, "released", raw_dir, tmp_path / "data", strict)
    return prepared.find(name, "released", tmp_path / "data")


def inputs_by_id(data, split):
    """Example's id -> its steps, as they are stored."""
    index, inputs = data.index(split), data.inputs(split)
    return {i: inputs[start : start + length] for i, start, length in zip(index.id, index.start, index.length)}


def assert_same(one, two, split):
    """Two prepared data sets hold the same of a split."""
    for field, other in zip(one.index(split), two.index(split)):
        np.testing.assert_array_equal(field, other)
    np.testing.assert_array_equal(one.inputs(split), two.inputs(split))


def write_files(root, files):
    """Files by name, such as blues/blues.00000.wav, under `root`."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def track(seed=0, form="WAV", subtype="PCM_16"):
    return encode(samples_of(seed), 22_050, form, subtype)
