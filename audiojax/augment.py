"""Random changes of a training batch, on the device: functions (key, x, label) -> (x, label).

x is a batch of waveforms [B, T], features [B, T, F] or images [B, H, W, C]. Every example is changed by random numbers
that no other example shares.
"""

import jax
import jax.numpy as jnp

from audiojax.errors import ConfigError


def roll(key: jax.Array, x: jax.Array, label: jax.Array, steps: int, stride: int):
    """Rolls the first axis of an example by `stride` times a random whole number from -steps to steps."""
    shift_B = stride * jax.random.randint(key, x.shape[:1], -steps, steps + 1)
    return jax.vmap(lambda example, shift: jnp.roll(example, shift, axis=0))(x, shift_B), label


def flip_polarity(key: jax.Array, x: jax.Array, label: jax.Array, probability: float):
    """Changes the sign of an example with a probability."""
    flipped_B = jax.random.bernoulli(key, probability, x.shape[:1])
    return jnp.where(_expand(flipped_B, x), -x, x), label


def permute_steps(key: jax.Array, x_BTF: jax.Array, label: jax.Array):
    """Puts the time steps of an example in a random order."""
    return jax.vmap(jax.random.permutation)(jax.random.split(key, len(x_BTF)), x_BTF), label


def mixup(key: jax.Array, x: jax.Array, label_BK: jax.Array, alpha: float):
    """Mixes inputs and labels of each example with those of another one of the batch (Zhang et al. 2018).

    The weight is drawn from Beta(alpha, alpha); the example itself has the larger share.

    Args:
      label_BK: multi-hot, or probabilities. They become float32.

    Raises:
      ConfigError: labels are class numbers.
    """
    if label_BK.ndim == 1 and not jnp.issubdtype(label_BK.dtype, jnp.floating):
        raise ConfigError("augment.name='mixup' cannot mix class numbers; give it one-hot labels.")
    weight_key, order_key = jax.random.split(key)
    weight_B = jax.random.beta(weight_key, alpha, alpha, x.shape[:1])
    weight_B = jnp.maximum(weight_B, 1 - weight_B)
    order_B = jax.random.permutation(order_key, len(x))

    def mix(values):
        weight = _expand(weight_B, values)
        return weight * values + (1 - weight) * values[order_B]

    return mix(x), mix(label_BK.astype(jnp.float32))


def spec_augment(
    key: jax.Array,
    x: jax.Array,
    label: jax.Array,
    time_masks: int,
    time_width: int,
    frequency_masks: int,
    frequency_width: int,
):
    """Replaces spans of time steps and of features by the example's mean (SpecAugment, Park et al. 2019).

    The width of a mask is drawn uniformly from 0 to time_width or frequency_width, then its place.

    Args:
      x: [B, T, F], or images [B, F, T, C].

    Raises:
      ConfigError: a width exceeds the size of x.
    """
    time_key, frequency_key = jax.random.split(key)
    time_axis, frequency_axis = (1, 2) if x.ndim == 3 else (2, 1)
    masked_BT = _spans(time_key, x.shape[0], x.shape[time_axis], time_masks, time_width)
    masked_BF = _spans(frequency_key, x.shape[0], x.shape[frequency_axis], frequency_masks, frequency_width)
    masked = jnp.expand_dims(masked_BT, frequency_axis) | jnp.expand_dims(masked_BF, time_axis)
    masked = masked.reshape(*masked.shape, *[1] * (x.ndim - 3))
    return jnp.where(masked, x.mean(axis=(1, 2), keepdims=True), x), label


def _expand(values_B: jax.Array, x: jax.Array) -> jax.Array:
    """One value an example, shaped to broadcast against x."""
    return values_B.reshape(-1, *[1] * (x.ndim - 1))


def _spans(key: jax.Array, batch: int, size: int, masks: int, width: int) -> jax.Array:
    """Which of `size` steps random spans of 0 to `width` steps cover: bool [batch, size]."""
    if not 0 <= width <= size:
        raise ConfigError(f"a mask of augment.name='spec_augment' up to {width} wide must be 0 … {size}.")
    width_key, start_key = jax.random.split(key)
    width_BM1 = jax.random.randint(width_key, (batch, masks, 1), 0, width + 1)
    start_BM1 = jax.random.randint(start_key, (batch, masks, 1), 0, size - width_BM1 + 1)
    step = jnp.arange(size)
    return ((start_BM1 <= step) & (step < start_BM1 + width_BM1)).any(axis=1)
