"""Stacked LSTM layers, then dense layers on the outputs of all steps: `lstm` of Li's study."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from audiojax.models import layers, recurrent_layers


class Model(nn.Module):
    """x_BTF to logits [B, classes]: LSTM layers, every output of the last one flattened, dense layers with ReLU.

    standardise: each feature to mean 0, variance 1. lstm, dense: units of each layer. input_dropout, lstm_dropout,
    dense_dropout: rates on the input and after each LSTM and dense layer.
    """

    classes: int
    dtype: jnp.dtype
    output_bias: tuple[float, ...]
    kernel_init: str
    lstm: tuple[int, ...]
    dense: tuple[int, ...]
    standardise: bool
    input_dropout: float
    lstm_dropout: float
    dense_dropout: float

    @nn.compact
    def __call__(self, x_BTF: jax.Array, train: bool) -> jax.Array:
        init = layers.initialiser(self.kernel_init)
        x = layers.standardise(x_BTF, train) if self.standardise else x_BTF
        x = layers.Dropout(self.input_dropout)(x.astype(self.dtype), train)
        for units in self.lstm:
            x = recurrent_layers.LSTM(units, init, self.dtype)(x)
            x = layers.Dropout(self.lstm_dropout)(x, train)
        x = x.reshape(x.shape[0], -1)
        for units in self.dense:
            x = nn.relu(layers.Dense(units, kernel_init=init, dtype=self.dtype)(x))
            x = layers.Dropout(self.dense_dropout)(x, train)
        return layers.Logits(self.classes, init, self.output_bias, self.dtype)(x)
