"""LSTM layers, then dense layers on the outputs of all steps: `lstm` of Li's study."""

import flax.linen as nn
import jax

from audiojax.models import layers


class Model(layers.Classifier):
    """x_BTF to logits [B, classes]: LSTM layers, the last one's outputs flattened, dense layers with ReLU.

    standardise: whether each feature is scaled to mean 0 and variance 1. lstm, dense: units of each layer.
    input_dropout, lstm_dropout, dense_dropout: rates on the input, after each LSTM layer and after each dense layer.
    """

    lstm: tuple[int, ...]
    dense: tuple[int, ...]
    standardise: bool
    input_dropout: float
    lstm_dropout: float
    dense_dropout: float

    @nn.compact
    def __call__(self, x_BTF: jax.Array, train: bool) -> jax.Array:
        x = layers.standardise(x_BTF, train) if self.standardise else x_BTF
        x = layers.Dropout(self.input_dropout)(x.astype(self.dtype), train)
        for units in self.lstm:
            x = self.recurrent_layer("lstm", units)(x)
            x = layers.Dropout(self.lstm_dropout)(x, train)
        x = x.reshape(x.shape[0], -1)
        for units in self.dense:
            x = nn.relu(self.linear(units)(x))
            x = layers.Dropout(self.dense_dropout)(x, train)
        return self.logits(x)
