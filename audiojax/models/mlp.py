"""Dense layers on the flattened input: `fc1` and `fc2` of Li's study."""

import flax.linen as nn
import jax

from audiojax.models import layers


class Model(layers.Classifier):
    """x [B, ...] to logits [B, classes] by dense layers of `hidden` units with ReLU.

    standardise: whether each feature of the last axis is scaled to mean 0 and variance 1. input_dropout, dropout: rates
    on the input and after each hidden layer.
    """

    hidden: tuple[int, ...]
    standardise: bool
    input_dropout: float
    dropout: float

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        x = layers.standardise(x, train) if self.standardise else x
        x = x.reshape(x.shape[0], -1).astype(self.dtype)
        x = layers.Dropout(self.input_dropout)(x, train)
        for units in self.hidden:
            x = nn.relu(self.linear(units)(x))
            x = layers.Dropout(self.dropout)(x, train)
        return self.logits(x)
