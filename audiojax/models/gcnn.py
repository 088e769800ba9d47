"""Gated convolutions and bidirectional recurrent layers: `gcnn` of Li's study, after Xu et al. 2017."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from audiojax.models import layers
from audiojax.ops import recurrent
from audiojax.ops.pool import max_pool


class Model(layers.Classifier):
    """x_BTF to logits [B, classes]: convolutions over time and features, recurrent layers over the filters.

    A step of the recurrent layers is one filter's output for all features: the study's [N, 256, 128] is read as [N, T,
    D]. The logits are the mean over these steps of a gated dense layer.

    standardise: whether each feature is scaled to mean 0 and variance 1. kernel: width of all convolutions on both
    axes; batch normalisation follows. gated: filters of the gated convolutions, half of them gates (GLU, Dauphin et al.
    2017). filters: of the convolutions with ReLU. pools: widths of the max-pooling over time after each of these, which
    must leave one step. recurrent: units of each direction. cell: "lstm" or "gru". dropout: rate after each block.

    Raises:
      ValueError: the pools do not leave one step.
    """

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
        drop = lambda x: layers.Dropout(self.dropout)(x, train)

        def convolution(x, filters):
            return self.batch_norm(self.conv(filters, (self.kernel, self.kernel), use_bias=False)(x), train)

        x = layers.standardise(x_BTF, train) if self.standardise else x_BTF
        x = x[..., None].astype(self.dtype)
        for filters in self.gated:
            x = drop(nn.glu(convolution(x, filters)))
        for filters, width in zip(self.filters, self.pools, strict=True):
            x = drop(max_pool(nn.relu(convolution(x, filters)), width, 1))
        if x.shape[1] != 1:
            raise ValueError(f"pools {self.pools} leave {x.shape[1]} of {x_BTF.shape[1]} steps, not one")
        x = x[:, 0].swapaxes(1, 2)
        for units in self.recurrent:
            x = drop(Bidirectional(self.dtype, self.kernel_init, self.cell, units)(x))
        # The gates begin at 0.5, so that twice the bias makes the first logits the classes' priors.
        gate = self.linear(self.classes, kernel_init=nn.initializers.zeros)(x)
        return (self.logits(x, bias_scale=2) * nn.sigmoid(gate)).mean(1)


class Bidirectional(layers.Network):
    """Two recurrent layers, one forward and one backward in time: x_BTF to the outputs of both [B, T, 2H]."""

    cell: str
    units: int

    @nn.compact
    def __call__(self, x_BTF: jax.Array) -> jax.Array:
        one, other = (self.recurrent_layer(self.cell, self.units) for _ in range(2))
        weights = [each.weights(x_BTF.shape[-1]) for each in (one, other)]
        h_BTH, reversed_BTH = recurrent.together(one.run, [x_BTF, x_BTF[:, ::-1]], weights)
        return jnp.concatenate([h_BTH, reversed_BTH[:, ::-1]], axis=-1)
