"""Random changes of a training batch, on the device: functions of (key, x, label), each example its own.

x is a batch of waveforms [B, T], of features [B, T, F] or of images [B, H, W, C]; a name such as x_BTF says where only
one of these will do. Lengths count along the first axis after the batch. Each returns (x, label).
"""

import jax
import jax.numpy as jnp

from audiojax.errors import ConfigError


def roll(key: jax.Array, x: jax.Array, label: jax.Array, steps: int, stride: int):
    """Rolls time by `stride` times a whole number in -steps … steps."""
    shift_B = stride * jax.random.randint(key, x.shape[:1], -steps, steps + 1)
    return jax.vmap(lambda example, shift: jnp.roll(example, shift, axis=0))(x, shift_B), label


def flip_polarity(key: jax.Array, x: jax.Array, label: jax.Array, probability: float):
    """Changes the sign of an example with the given probability."""
    flipped_B = jax.random.bernoulli(key, probability, x.shape[:1])
    return jnp.where(_beside(x, flipped_B), -x, x), label


def permute_steps(key: jax.Array, x_BTF: jax.Array, label: jax.Array):
    """Puts the time steps in a random order."""
    return jax.vmap(jax.random.permutation)(jax.random.split(key, len(x_BTF)), x_BTF), label


def mixup(key: jax.Array, x: jax.Array, label_BK: jax.Array, alpha: float):
    """Mixes each example with another one of the batch, labels too, by a weight of at least a half drawn from
    Beta(alpha, alpha) (Zhang et al. 2018). label_BK: multi-hot or probabilities; becomes float32.

    Raises:
      ConfigError: labels are class numbers, of which there is no mixture.
    """
    if label_BK.ndim == 1 and not jnp.issubdtype(label_BK.dtype, jnp.floating):
        raise ConfigError("augment.name='mixup' mixes labels, which class numbers cannot be: give it one-hot labels.")
    weight_key, order_key = jax.random.split(key)
    weight_B = jax.random.beta(weight_key, alpha, alpha, x.shape[:1])
    weight_B = jnp.maximum(weight_B, 1 - weight_B)
    order_B = jax.random.permutation(order_key, len(x))

    def mix(values):
        weight = _beside(values, weight_B)
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
    """Puts an example's mean in place of spans of time steps and of features (SpecAugment, Park et al. 2019).

    Masks are as many as told, each of 0 … its greatest width, all widths and then all places equally likely.
    x: [B, T, F], or images [B, F, T, C].

    Raises:
      ConfigError: a width exceeds the features.
    """
    time_key, frequency_key = jax.random.split(key)
    time_axis, frequency_axis = (1, 2) if x.ndim == 3 else (2, 1)
    masked_BT = _spans(time_key, x.shape[0], x.shape[time_axis], time_masks, time_width)
    masked_BF = _spans(frequency_key, x.shape[0], x.shape[frequency_axis], frequency_masks, frequency_width)
    masked = jnp.expand_dims(masked_BT, frequency_axis) | jnp.expand_dims(masked_BF, time_axis)
    masked = masked.reshape(*masked.shape, *[1] * (x.ndim - 3))
    return jnp.where(masked, x.mean(axis=(1, 2), keepdims=True), x), label


def gain(key: jax.Array, x: jax.Array, label: jax.Array, low_db: float, high_db: float):
    """Changes an example's level by a number of decibels drawn uniformly from low_db … high_db."""
    gain_db_B = jax.random.uniform(key, x.shape[:1], minval=low_db, maxval=high_db)
    return x * _beside(x, 10 ** (gain_db_B / 20)), label


def noise(key: jax.Array, x_BT: jax.Array, label: jax.Array, low_db: float, high_db: float):
    """Adds white noise at a signal-to-noise ratio drawn uniformly from low_db … high_db; to silence it adds none."""
    ratio_key, noise_key = jax.random.split(key)
    ratio_db_B = jax.random.uniform(ratio_key, x_BT.shape[:1], minval=low_db, maxval=high_db)
    deviation_B = jnp.sqrt(jnp.mean(x_BT**2, axis=1)) * 10 ** (-ratio_db_B / 20)
    return x_BT + deviation_B[:, None] * jax.random.normal(noise_key, x_BT.shape), label


def crop(key: jax.Array, x: jax.Array, label: jax.Array, steps: int):
    """Cuts out `steps` consecutive samples or time steps from anywhere in an example.

    Raises:
      ConfigError: the examples are shorter.
    """
    if not 1 <= steps <= x.shape[1]:
        raise ConfigError(f"augment.steps={steps} of 'crop' must be 1 … {x.shape[1]}, the length of the examples.")
    start_B = jax.random.randint(key, x.shape[:1], 0, x.shape[1] - steps + 1)
    return jax.vmap(lambda example, start: jax.lax.dynamic_slice_in_dim(example, start, steps))(x, start_B), label


def _beside(x: jax.Array, values_B: jax.Array) -> jax.Array:
    """One value an example, shaped to broadcast against x."""
    return values_B.reshape(-1, *[1] * (x.ndim - 1))


def _spans(key: jax.Array, batch: int, size: int, masks: int, width: int) -> jax.Array:
    """What `masks` random spans of 0 … width steps cover of `size` steps: bool [batch, size]."""
    if not 0 <= width <= size:
        raise ConfigError(f"a mask of augment.name='spec_augment' up to {width} wide must be 0 … {size}.")
    width_key, start_key = jax.random.split(key)
    width_BM1 = jax.random.randint(width_key, (batch, masks, 1), 0, width + 1)
    start_BM1 = jax.random.randint(start_key, (batch, masks, 1), 0, size - width_BM1 + 1)
    step = jnp.arange(size)
    return ((start_BM1 <= step) & (step < start_BM1 + width_BM1)).any(axis=1)
