"""Convolutional networks, 1D or 2D, also with recurrent layers between, each a list of stages."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from audiojax.models import convolution_layers, layers, recurrent_layers


class Model(nn.Module):
    """x_BTF (1D: convolutions over time) or x_BTFC (2D: over time and frequency) to logits [B, classes].

    stages: in order, each a tuple of its name and its numbers:
      ("standardise",): each feature of the last axis to mean 0 and variance 1, by batch statistics.
      ("image",): x_BTF becomes x_BTF1, for 2D convolutions.
      ("sequence",): x_BTFC becomes x_BTF with the channels of all frequencies side by side.
      ("conv", filters, kernel, stride): convolution padded to ceil(T / stride), batch normalisation, ReLU, or a last
        entry that names another of `layers.ACTIVATIONS`, such as "leaky_relu".
      ("pool", width): maximum over windows of `width` that do not overlap; a remainder is dropped.
      ("recurrent", units): over time, from every step to every step.
      ("dropout", rate): of single values.
      ("last",): the last time step.
      ("average",): mean over time (and frequency). Followed by the logits it is what the mean of 1 × 1 convolutions
        down to the classes is.
      ("dense", units): flattens, then a dense layer, batch normalisation, ReLU or the activation named last.
    cell: of the recurrent stages, where there are some: "lstm" or "gru".
    """

    classes: int
    dtype: jnp.dtype
    output_bias: tuple[float, ...]
    kernel_init: str
    stages: tuple[tuple, ...]
    cell: str = ""

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        init = layers.initialiser(self.kernel_init)

        def activate(x, name="relu"):
            norm = layers.BatchNorm(use_running_average=not train, momentum=0.9, dtype=self.dtype)
            return layers.activation(name)(norm(x))

        x = x.astype(self.dtype)
        for name, *numbers in self.stages:
            axes = x.ndim - 2
            match name, numbers:
                case "standardise", []:
                    x = layers.standardise(x, train, momentum=0.9)
                case "image", []:
                    x = x[..., None]
                case "sequence", []:
                    x = x.reshape(*x.shape[:2], -1)
                case "conv", [filters, kernel, stride, *activation]:
                    convolution = convolution_layers.Conv(
                        filters, (kernel,) * axes, stride, use_bias=False, kernel_init=init, dtype=self.dtype
                    )
                    x = activate(convolution(x), *activation)
                case "pool", [width]:
                    x = layers.max_pool(x, width)
                case "recurrent", [units]:
                    x = recurrent_layers.recurrent(self.cell, units, init, self.dtype)(x)
                case "dropout", [rate]:
                    x = layers.Dropout(rate)(x, train)
                case "last", []:
                    x = x[:, -1]
                case "average", []:
                    x = x.mean(range(1, x.ndim - 1))
                case "dense", [units, *activation]:
                    dense = layers.Dense(units, use_bias=False, kernel_init=init, dtype=self.dtype)
                    x = activate(dense(x.reshape(x.shape[0], -1)), *activation)
                case _:
                    raise TypeError(f"there is no stage {(name, *numbers)}")
        x = x.reshape(x.shape[0], -1)
        return layers.Logits(self.classes, init, self.output_bias, self.dtype)(x)
