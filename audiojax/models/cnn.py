"""Convolutional and recurrent networks, 1D or 2D, as lists of stages."""

import flax.linen as nn
import jax

from audiojax.models import layers
from audiojax.ops.pool import max_pool


class Model(layers.Classifier):
    """x_BTF (1D: convolutions over time) or x_BTFC (2D: over time and frequency) to logits [B, classes].

    stages: in order, each a tuple of a name and its numbers:
      ("standardise",): scales each feature of the last axis to mean 0 and variance 1.
      ("image",), ("sequence",): reshape x_BTF to x_BTF1, for 2D convolutions, and x_BTFC to [B, T, F * C].
      ("conv", filters, kernel, stride): a convolution padded to ceil(T / stride), batch normalisation and ReLU, or the
        activation of `layers.ACTIVATIONS` that a last entry names.
      ("pool", width): the maximum over windows that do not overlap; a remainder is dropped.
      ("recurrent", units): a recurrent layer over time, with the outputs of all steps.
      ("dropout", rate).
      ("last",), ("average",): the last time step; the mean over time, and frequency in 2D.
      ("dense", units): flattens; a dense layer, batch normalisation and ReLU, or a last entry's activation.
    cell: of the recurrent stages, "lstm" or "gru".
    """

    stages: tuple[tuple, ...]
    cell: str = ""

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:

        activate = lambda x, name="relu": layers.activation(name)(self.batch_norm(x, train, momentum=0.9))
        x = x.astype(self.dtype)
        for name, *numbers in self.stages:
            match name, numbers:
                case "standardise", []:
                    x = layers.standardise(x, train, momentum=0.9)
                case "image", []:
                    x = x[..., None]
                case "sequence", []:
                    x = x.reshape(*x.shape[:2], -1)
                case "conv", [filters, kernel, stride, *activation]:
                    x = self.conv(filters, (kernel,) * (x.ndim - 2), strides=stride, use_bias=False)(x)
                    x = activate(x, *activation)
                case "pool", [width]:
                    x = max_pool(x, width)
                case "recurrent", [units]:
                    x = self.recurrent_layer(self.cell, units)(x)
                case "dropout", [rate]:
                    x = layers.Dropout(rate)(x, train)
                case "last", []:
                    x = x[:, -1]
                case "average", []:
                    x = x.mean(range(1, x.ndim - 1))
                case "dense", [units, *activation]:
                    x = activate(self.linear(units, use_bias=False)(x.reshape(len(x), -1)), *activation)
                case _:
                    raise TypeError(f"there is no stage {(name, *numbers)}")
        return self.logits(x.reshape(len(x), -1))
