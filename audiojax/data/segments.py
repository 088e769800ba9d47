"""Windows of clips: which stretches of a clip are examples, and how a short one is filled up."""

import jax
import jax.numpy as jnp
import numpy as np

from audiojax.errors import ConfigError, DataError


def windows(
    length_N: np.ndarray, steps: int, hop_steps: int, shortest_steps: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cuts clips into windows that begin every `hop_steps`; what reaches past a clip's end is cut there.

    A window is kept where at least `shortest_steps` of it lie in the clip; the first one always, so that no clip is
    lost.

    Returns:
      clip int64 [M], which of the clips; offset int64 [M], the window's first step in it; length int32 [M], steps.
    """
    count_N = count_windows(length_N, steps, hop_steps, shortest_steps)
    clip = np.repeat(np.arange(len(length_N)), count_N)
    first_N = np.cumsum(count_N) - count_N
    offset = (np.arange(len(clip)) - first_N[clip]) * hop_steps
    return clip, offset, np.minimum(length_N[clip] - offset, steps).astype(np.int32)


def count_windows(length_N: np.ndarray, steps: int, hop_steps: int, shortest_steps: int) -> np.ndarray:
    """How many windows each clip is cut into: int64 [N]; see `windows`."""
    shortest = min(max(shortest_steps, 1), steps)
    return 1 + np.maximum(length_N.astype(np.int64) - shortest, 0) // hop_steps


def steps_of(seconds: float, steps_hz: int, name: str) -> int:
    """A duration in whole steps. Raises ConfigError where it is negative or falls below one step."""
    steps = round(seconds * steps_hz)
    if seconds < 0 or (seconds > 0 and steps < 1):
        raise ConfigError(f"data.segment.{name}={seconds} must be 0 or at least a step of 1/{steps_hz} s.")
    return steps


def read_steps(part, inputs_steps: int) -> int:
    """How many steps are read of every window of a part: as many as its longest has of its clip.

    A split's inputs have its longest clip's length of zeros behind them, so that no read passes their end.

    Args:
      part: a `splits.Part`. inputs_steps: steps of its split's inputs.

    Raises:
      DataError: a read would pass the end of the inputs.
    """
    steps = int(part.length.max(initial=0))
    if len(part.start) and (end := int(part.start.max()) + steps) > inputs_steps:
        raise DataError(f"the inputs of {part.split} have {inputs_steps:,} steps, and its windows end at {end:,}.")
    return steps


def fill(x: jax.Array, length: jax.Array, steps: int, pad: str) -> jax.Array:
    """Windows of `steps` steps [..., steps, *step] from reads [..., T, *step], T at most `steps`.

    Args:
      length: int [...], how many of the first steps are the clip's own.
      pad: what follows them, "zeros" or "repeat" (the clip again, from its start); "none" where all are long enough.
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
