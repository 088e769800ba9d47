"""Gated convolutions, then bidirectional recurrent layers: `gcnn` of Li's study, after Xu et al. 2017."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from audiojax.models import convolution_layers, layers, recurrent_layers


class Model(nn.Module):
    """x_BTF to logits [B, classes]: convolutions over time and features, recurrent layers along their filters.

    standardise: each feature to mean 0, variance 1. gated: filters of the gated blocks, half of them linear, half
    their gates (GLU, Dauphin et al. 2017). filters, pools: of the convolutions with ReLU after them, and of the
    max-pooling over time behind each, which together leave one step. Every convolution is `kernel` wide both ways and
    batch normalised. recurrent: units of each direction of the recurrent layers, cell: "lstm" or "gru"; each of their
    steps is what one filter makes of all features, the study's [N, 256, 128] read as its other sequences, [N, T, D].
    At every step a last GLU makes the classes' logits, whose mean counts. dropout: rate after each block and layer.

    Raises:
      ValueError: the pools leave more or less than one step.
    """

    classes: int
    dtype: jnp.dtype
    output_bias: tuple[float, ...]
    kernel_init: str
    standardise: bool
    kernel: int
    gated: tuple[int, ...]
    filters: tuple[int, ...]
    pools: tuple[int, ...]
    recurrent: tuple[int, ...]
    cell: str
    dropout: float

    @nn.compact
    def __call__(self, x_BTF: jax.Array, train: bool) -> jax.Array:
        init = layers.initialiser(self.kernel_init)
        drop = lambda x: layers.Dropout(self.dropout)(x, train)

        def convolution(x, filters):
            kernel = (self.kernel, self.kernel)
            x = convolution_layers.Conv(filters, kernel, use_bias=False, kernel_init=init, dtype=self.dtype)(x)
            return layers.BatchNorm(use_running_average=not train, dtype=self.dtype)(x)

        x = layers.standardise(x_BTF, train) if self.standardise else x_BTF
        x = x[..., None].astype(self.dtype)
        for filters in self.gated:
            x = drop(nn.glu(convolution(x, filters)))
        for filters, pool in zip(self.filters, self.pools, strict=True):
            x = drop(layers.max_pool(nn.relu(convolution(x, filters)), pool, 1))
        if x.shape[1] != 1:
            raise ValueError(f"pools {self.pools} leave {x.shape[1]} of {x_BTF.shape[1]} steps, not one")
        x = x[:, 0].swapaxes(1, 2)
        for units in self.recurrent:
            x = drop(recurrent_layers.Bidirectional(self.cell, units, init, self.dtype)(x))
        # Gates begin at a half everywhere, so that twice the bias begins at the classes' shares.
        gate = layers.Dense(self.classes, kernel_init=nn.initializers.zeros, dtype=self.dtype)(x)
        twice = tuple(2 * bias for bias in self.output_bias)
        return (layers.Logits(self.classes, init, twice, self.dtype)(x) * nn.sigmoid(gate)).mean(1)
