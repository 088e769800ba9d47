"""Windows of clips: the examples of a part of the data, where each begins, and how a short one is filled up."""

import hashlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from audiojax import host
from audiojax.data.prepared import Prepared
from audiojax.errors import ConfigError, DataError


class Part(NamedTuple):
    """The windows of one part, such as train. All of them are cut from one released split.

    split: name of the released split. steps: length of a window.
    id, group, subset: str [N], those of the clip.
    label: int32 [N] class numbers, or multi-hot uint8 [N, classes].
    start: int64 [N], first step of the window in the split's inputs. offset: int64 [N], first step in its clip.
    length: int32 [N], steps of the window that lie in the clip.
    weight: float32 [N], factor of its training loss.
    digest: uint8 [N, 16], of all steps of the clip.
    """

    split: str
    steps: int
    id: np.ndarray
    group: np.ndarray
    subset: np.ndarray
    label: np.ndarray
    start: np.ndarray
    offset: np.ndarray
    length: np.ndarray
    weight: np.ndarray
    digest: np.ndarray

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """The fields that have one row a window, by name."""
        return {name: field for name, field in self._asdict().items() if isinstance(field, np.ndarray)}

    @property
    def segment(self) -> np.ndarray:
        """Names of the windows, unique in the split: str [N]."""
        return np.char.add(np.char.add(self.id, "@"), self.offset.astype(str))


def select(part: Part, chosen: np.ndarray) -> Part:
    """The windows of a part at `chosen`, a mask or indices."""
    return part._replace(**{name: array[chosen] for name, array in part.arrays.items()})


def join(one: Part, other: Part) -> Part:
    """The windows of two parts of one split."""
    return one._replace(**{name: np.concatenate([array, getattr(other, name)]) for name, array in one.arrays.items()})


def checksum(part: Part) -> str:
    """SHA-256 of all fields of a part. Runs store it, so it must keep its value."""
    digest = hashlib.sha256(f"{part.split} {part.steps}".encode())
    for array in part.arrays.values():
        digest.update(f"{array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def class_shares(part: Part, classes: int) -> np.ndarray:
    """Share of the windows that carry each class: float [classes]."""
    if part.label.ndim == 2:
        return part.label.mean(0)
    return np.bincount(part.label, minlength=classes) / len(part.label)


def whole_clips(prepared: Prepared, split: str) -> Part:
    """All clips of a released split, one window each."""
    index = prepared.index(split)
    offset, weight = np.zeros(len(index.id), np.int64), np.ones(len(index.id), np.float32)
    before = index.id, index.group, index.subset, index.label, index.start
    return Part(split, prepared.longest, *before, offset, index.length, weight, index.digest)


def cut_windows(clips: Part, prepared: Prepared, segment) -> Part:
    """Cuts whole clips into windows of segment.seconds, one every segment.hop_s, by the section data.segment.

    seconds=0 keeps whole clips, hop_s=0 places windows end to end. At least shortest_s of a window lie in the clip.

    Raises:
      ConfigError: a duration or `pad` that is not possible, or more windows than memory holds.
    """
    if segment.pad not in ("zeros", "repeat"):
        raise ConfigError(f"data.segment.pad={segment.pad!r} is unknown; it must be 'zeros' or 'repeat'.")
    steps, hop_steps, shortest_steps = (
        steps_of(segment[name], prepared.sample_rate_hz, name) for name in ("seconds", "hop_s", "shortest_s")
    )
    if not steps:
        return clips
    hop_steps = hop_steps or steps
    count = int(count_windows(clips.length, steps, hop_steps, shortest_steps).sum())
    needed_bytes = count * sum(array.nbytes // max(len(array), 1) for array in clips.arrays.values())
    if needed_bytes > host.memory_bytes():
        raise ConfigError(
            f"data.segment.seconds={segment.seconds} and hop_s={segment.hop_s} cut {clips.split} into {count:,}"
            f" windows, whose index needs {needed_bytes / 1e9:,.0f} GB of memory; make them longer."
        )
    row, offset, length = place_windows(clips.length, steps, hop_steps, shortest_steps)
    windows = select(clips, row)
    return windows._replace(steps=steps, start=windows.start + offset, offset=offset, length=length)


def place_windows(
    length_N: np.ndarray, steps: int, hop_steps: int, shortest_steps: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Places windows of `steps` in clips, one every `hop_steps`.

    A window is kept where at least `shortest_steps` of it lie in the clip. The first window of a clip is always kept.

    Returns:
      row int64 [M], the window's clip; offset int64 [M], its first step in the clip; length int32 [M], its steps there.
    """
    count_N = count_windows(length_N, steps, hop_steps, shortest_steps)
    row = np.repeat(np.arange(len(length_N)), count_N)
    first_N = np.cumsum(count_N) - count_N
    offset = (np.arange(len(row)) - first_N[row]) * hop_steps
    return row, offset, np.minimum(length_N[row] - offset, steps).astype(np.int32)


def count_windows(length_N: np.ndarray, steps: int, hop_steps: int, shortest_steps: int) -> np.ndarray:
    """Number of windows that `place_windows` places in each clip: int64 [N]."""
    shortest_steps = min(max(shortest_steps, 1), steps)
    return 1 + np.maximum(length_N.astype(np.int64) - shortest_steps, 0) // hop_steps


def steps_of(seconds: float, steps_hz: int, name: str) -> int:
    """The duration data.segment.NAME in steps. Raises ConfigError where it is negative or shorter than one step."""
    steps = round(seconds * steps_hz)
    if seconds < 0 or (seconds > 0 and steps < 1):
        raise ConfigError(f"data.segment.{name}={seconds} must be 0 or at least a step of 1/{steps_hz} s.")
    return steps


def read_steps(part: Part, inputs_steps: int) -> int:
    """Number of steps to read for every window of a part, which is the length of the longest one.

    Raises DataError where a read would pass the end of the inputs, in spite of the zeros behind the last clip.
    """
    steps = int(part.length.max(initial=0))
    if len(part.start) and (end := int(part.start.max()) + steps) > inputs_steps:
        raise DataError(f"the inputs of {part.split} have {inputs_steps:,} steps, and its windows end at {end:,}.")
    return steps


def fill(x: jax.Array, length: jax.Array, steps: int, pad: str) -> jax.Array:
    """Fills reads [..., T, *step] up to windows [..., steps, *step].

    Args:
      length: int [...], steps at the beginning of each read that belong to the clip.
      pad: what follows them: "zeros", or "repeat" for the clip again from its start. "none": every read is long enough.
    """
    if pad == "none":
        return x
    axis, step_axes = length.ndim, [1] * (x.ndim - length.ndim - 1)
    position = jnp.arange(steps)
    if pad == "repeat":
        position = position % length[..., None]
        return jnp.take_along_axis(x, position.reshape(*position.shape, *step_axes), axis)
    missing = steps - x.shape[axis]
    x = jnp.pad(x, [(0, missing if i == axis else 0) for i in range(x.ndim)])
    valid = position < length[..., None]
    return jnp.where(valid.reshape(*valid.shape, *step_axes), x, 0)
