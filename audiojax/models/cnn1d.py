"""Plain 1D convolutions on the waveform: `simple` and `optimised` of the RIT study."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from audiojax.models import convolution_layers, layers


class Model(nn.Module):
    """x_BTF to logits [B, classes].

    filters: of each convolution of width `kernel`, without padding, each followed by a leaky ReLU of
    `negative_slope` (0: ReLU). pool: width of the max-pooling after them, 1 for none. dropout: rate after it.
    head: "average" over time, or "flatten". dense: units of the layers before the last, with the same activation.
    """

    classes: int
    dtype: jnp.dtype
    output_bias: tuple[float, ...]
    kernel_init: str
    filters: tuple[int, ...]
    kernel: int
    negative_slope: float
    pool: int
    dropout: float
    head: str
    dense: tuple[int, ...]

    @nn.compact
    def __call__(self, x_BTF: jax.Array, train: bool) -> jax.Array:
        init = layers.initialiser(self.kernel_init)
        x = x_BTF.astype(self.dtype)
        for filters in self.filters:
            x = convolution_layers.Conv(filters, (self.kernel,), padding="VALID", kernel_init=init, dtype=self.dtype)(x)
            x = nn.leaky_relu(x, self.negative_slope)
        x = layers.Dropout(self.dropout)(layers.max_pool(x, self.pool), train)
        x = x.mean(1) if self.head == "average" else x.reshape(x.shape[0], -1)
        for units in self.dense:
            x = nn.leaky_relu(layers.Dense(units, kernel_init=init, dtype=self.dtype)(x), self.negative_slope)
        return layers.Logits(self.classes, init, self.output_bias, self.dtype)(x)
