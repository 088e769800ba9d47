"""Random changes of a training batch, on the device: functions of (key, x_BTF, label), each example its own."""

import jax
import jax.numpy as jnp


def roll(key: jax.Array, x_BTF: jax.Array, label: jax.Array, steps: int, stride: int):
    """Rolls time by `stride` times a whole number in -steps … steps."""
    shift_B = stride * jax.random.randint(key, x_BTF.shape[:1], -steps, steps + 1)
    return jax.vmap(lambda x, shift: jnp.roll(x, shift, axis=0))(x_BTF, shift_B), label


def flip_polarity(key: jax.Array, x_BTF: jax.Array, label: jax.Array, probability: float):
    """Changes the sign of an example with the given probability."""
    flipped_B = jax.random.bernoulli(key, probability, x_BTF.shape[:1])
    return jnp.where(flipped_B[:, None, None], -x_BTF, x_BTF), label


def permute_steps(key: jax.Array, x_BTF: jax.Array, label: jax.Array):
    """Puts the time steps in a random order."""
    return jax.vmap(jax.random.permutation)(jax.random.split(key, len(x_BTF)), x_BTF), label


def mixup(key: jax.Array, x_BTF: jax.Array, label_BK: jax.Array, alpha: float):
    """Mixes each example with another one of the batch, labels too, by a weight of at least a half drawn from
    Beta(alpha, alpha) (Zhang et al. 2018). label_BK: multi-hot; becomes float32."""
    weight_key, order_key = jax.random.split(key)
    weight_B = jax.random.beta(weight_key, alpha, alpha, x_BTF.shape[:1])
    weight_B = jnp.maximum(weight_B, 1 - weight_B)
    order_B = jax.random.permutation(order_key, len(x_BTF))

    def mix(values):
        weight = weight_B.reshape(-1, *[1] * (values.ndim - 1))
        return weight * values + (1 - weight) * values[order_B]

    return mix(x_BTF), mix(label_BK.astype(jnp.float32))
