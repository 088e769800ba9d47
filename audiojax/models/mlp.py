"""Dense layers on the flattened input: `fc1` and `fc2` of Li's study."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from audiojax.models import layers


class Model(nn.Module):
    """x [B, ...] to logits [B, classes] through hidden layers of `hidden` units with ReLU.

    standardise: each feature of the last axis to mean 0, variance 1. input_dropout, dropout: rates on the input and
    after each hidden layer.
    """

    classes: int
    dtype: jnp.dtype
    output_bias: tuple[float, ...]
    kernel_init: str
    hidden: tuple[int, ...]
    standardise: bool
    input_dropout: float
    dropout: float

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        init = layers.initialiser(self.kernel_init)
        x = layers.standardise(x, train) if self.standardise else x
        x = x.reshape(x.shape[0], -1).astype(self.dtype)
        x = layers.Dropout(self.input_dropout)(x, train)
        for units in self.hidden:
            x = nn.relu(layers.Dense(units, kernel_init=init, dtype=self.dtype)(x))
            x = layers.Dropout(self.dropout)(x, train)
        return layers.Logits(self.classes, init, self.output_bias, self.dtype)(x)
