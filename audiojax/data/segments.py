"""Windows of clips: which stretches of a clip are examples, and how a short one is filled up."""

import jax
import jax.numpy as jnp
import numpy as np

from audiojax.errors import ConfigError


def windows(
    length_N: np.ndarray, steps: int, hop_steps: int, shortest_steps: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cuts clips into windows that begin every `hop_steps`; what reaches past a clip's end is cut there.

    A window is kept where at least `shortest_steps` of it lie in the clip; the first one always, so that no clip is
    lost.

    Returns:
      clip int64 [M], which of the clips; offset int64 [M], the window's first step in it; length int32 [M], steps.
    """
    shortest = min(max(shortest_steps, 1), steps)
    count_N = 1 + np.maximum(length_N.astype(np.int64) - shortest, 0) // hop_steps
    clip = np.repeat(np.arange(len(length_N)), count_N)
    first_N = np.cumsum(count_N) - count_N
    offset = (np.arange(len(clip)) - first_N[clip]) * hop_steps
    return clip, offset, np.minimum(length_N[clip] - offset, steps).astype(np.int32)


def steps_of(seconds: float, steps_hz: int, name: str) -> int:
    """A duration in whole steps. Raises ConfigError where it is negative or falls below one step."""
    steps = round(seconds * steps_hz)
    if seconds < 0 or (seconds > 0 and steps < 1):
        raise ConfigError(f"data.segment.{name}={seconds} must be 0 or at least a step of 1/{steps_hz} s.")
    return steps


def fill(x_BT: jax.Array, length_B: jax.Array, steps: int, pad: str) -> jax.Array:
    """Windows of `steps` steps [B, steps, ...] from reads whose first `length` steps are the clip's own.

    pad: what follows them, "zeros" or "repeat" (the clip again, from its start).
    """
    position_T = jnp.arange(steps)
    if pad == "repeat":
        return jax.vmap(lambda x, length: x[position_T % length])(x_BT, length_B)
    x_BT = jnp.pad(x_BT, [(0, 0), (0, steps - x_BT.shape[1])] + [(0, 0)] * (x_BT.ndim - 2))
    valid_BT = position_T < length_B[:, None]
    return jnp.where(valid_BT.reshape(*valid_BT.shape, *[1] * (x_BT.ndim - 2)), x_BT, 0)
