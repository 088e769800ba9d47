"""1D convolutions on the waveform: `simple` and `optimised` of the RIT study."""

import flax.linen as nn
import jax

from audiojax.models import layers
from audiojax.ops.pool import max_pool


class Model(layers.Classifier):
    """x_BTF to logits [B, classes].

    filters: of the convolutions of width `kernel`, without padding. A leaky ReLU of `negative_slope` follows each
    convolution and dense layer. pool: width of the max-pooling after the convolutions, 1 for none. dropout: rate after
    the pooling. head: "average" over time, or "flatten". dense: units of the layers between the head and the logits.
    """

    filters: tuple[int, ...]
    kernel: int
    negative_slope: float
    pool: int
    dropout: float
    head: str
    dense: tuple[int, ...]

    @nn.compact
    def __call__(self, x_BTF: jax.Array, train: bool) -> jax.Array:
        x = x_BTF.astype(self.dtype)
        for filters in self.filters:
            x = nn.leaky_relu(self.conv(filters, (self.kernel,), padding="VALID")(x), self.negative_slope)
        x = layers.Dropout(self.dropout)(max_pool(x, self.pool), train)
        x = x.mean(1) if self.head == "average" else x.reshape(x.shape[0], -1)
        for units in self.dense:
            x = nn.leaky_relu(self.linear(units)(x), self.negative_slope)
        return self.logits(x)
