"""Test examples on the page: which ones, their pictures and their sounds."""

import base64
import pathlib
from typing import NamedTuple

import numpy as np

from audiojax.data import prepared as prepared_data
from audiojax.data.store import Index
from audiojax.data.windows import steps_of
from audiojax.errors import DataError
from audiojax.report import plots

try:
    from audiojax.data.audio_file import encode_mp3
except (ImportError, OSError):  # OSError: soundfile without libsndfile
    encode_mp3 = None

SHOWN = 3  # examples of each kind
LONGEST_S = 5.0  # longer examples are cut


class Sound(NamedTuple):
    """The audio of the test examples of a run.

    name: released split. audio: int16 [samples], all clips one after another, with their places in `index`.
    window: samples of an example; 0 if examples are whole clips.
    """

    name: str
    audio: np.ndarray
    index: Index
    sample_rate_hz: int
    window: int


def choose(score_NK: np.ndarray, label: np.ndarray, id_N: np.ndarray) -> dict[str, list[int]]:
    """Chooses the examples to show: rows by kind, at most one of each clip in a kind.

    Args:
      score_NK: probabilities. label: int [N], or multi-hot [N, K]. An example is right if its most probable class is
        one of its labels.
    """
    order_NK = np.argsort(-score_NK, axis=1, kind="stable")[:, :2]
    first_N, second_N = np.take_along_axis(score_NK, order_NK, 1).T
    hot_N = label == order_NK[:, 0] if label.ndim == 1 else np.take_along_axis(label, order_NK[:, :1], 1)[:, 0]
    right_N = hot_N.astype(bool)
    ranks = {
        "Most confident, right": np.where(right_N, -first_N, np.inf),
        "Most confident, wrong": np.where(right_N, np.inf, -first_N),
        "Least decided": first_N - second_N,
    }
    return {kind: first_of_each(rank_N, id_N) for kind, rank_N in ranks.items()}


def first_of_each(rank_N: np.ndarray, id_N: np.ndarray) -> list[int]:
    """The rows of the `SHOWN` smallest finite ranks, one for each id."""
    rows = {}
    for row in np.argsort(rank_N, kind="stable"):
        if len(rows) == SHOWN or not np.isfinite(rank_N[row]):
            break
        rows.setdefault(id_N[row], int(row))
    return list(rows.values())


def open_sound(config: dict, data_dir: pathlib.Path) -> Sound | str:
    """Opens the test split of a run's config, or returns a sentence that says why there is no audio."""
    data, without = config["data"], "The clips below are without picture and sound: "
    try:
        prepared = prepared_data.find(data["name"], data["variant"], data_dir)
    except DataError as error:
        return f"{without}{error}"
    # A split file cuts its test clips from the split that the protocol trains on.
    split = data["protocols"][config["protocol"]]["train" if data["split_file"] else "test"]
    if prepared is None or split not in prepared.examples:
        return f"{without}{data['name']} ({data['variant']}), split {split}, is not in the data folder."
    if prepared.step_shape or prepared.input_dtype != "int16":
        return f"{without}{data['name']} holds no audio."
    if encode_mp3 is None:
        return f"{without}soundfile cannot be imported here."
    window = steps_of(data["segment"]["seconds"], prepared.sample_rate_hz, "seconds")
    try:
        return Sound(split, prepared.inputs(split), prepared.index(split), prepared.sample_rate_hz, window)
    except (DataError, OSError, ValueError, KeyError) as error:
        return f"{without}{prepared.folder} cannot be read ({type(error).__name__}: {error})."


def cut(sound: Sound, clip: str, offset: int) -> np.ndarray | None:
    """Cuts out the example at `offset` of a clip: int16 [samples], or None if the data does not have it."""
    row = np.searchsorted(sound.index.id, clip)
    if row == len(sound.index.id) or sound.index.id[row] != clip or sound.index.length[row] <= offset:
        return None
    start, length = sound.index.start[row] + offset, sound.index.length[row] - offset
    samples = min(length, sound.window or length, round(LONGEST_S * sound.sample_rate_hz))
    return sound.audio[start : start + samples]


def media(audio_T: np.ndarray, sample_rate_hz: int) -> dict[str, str]:
    """The "picture" (SVG) and "audio" (MP3) of a clip, as data URIs."""
    mp3 = base64.b64encode(encode_mp3(audio_T, sample_rate_hz)).decode()
    return {
        "picture": plots.data_uri(plots.clip(audio_T, sample_rate_hz)),
        "audio": f"data:audio/mpeg;base64,{mp3}",
    }
