"""Conditional GANs of sequences: the Wang study's, fully connected or of 1D convolutions, and what is done since."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from audiojax.models import convolution_layers, layers


class Model(nn.Module):
    """`generate`: noise and labels to features x_BTF; `discriminate`: x_BTF and labels to logits [B], real above 0.

    generator_stages, discriminator_stages: in order, each a tuple of its name and its numbers:
      ("dense", units): flattens what has steps.
      ("steps", filters): generator alone, a dense layer to as many steps as the convolutions after it lengthen to T.
      ("conv", filters, width, stride): generator: transposed, `stride` times as many steps, each of which sees `width`
        of those before; discriminator: a convolution padded to ceil(T / stride).
      ("average",): discriminator alone, the mean over the steps.
    Each is followed by an activation: leaky ReLU of slope 0.2 in the discriminator, ReLU in the generator, there after
    batch normalisation where `normalise`. The generator ends in a dense layer to all of x, or, where its last stage is
    ("conv", width, stride), in that convolution to F channels; the discriminator in a dense layer to one logit.
    label: how it is joined to the noise and to the discriminator's input: "one_hot", or "embedding" of `embedding`
    numbers. projection: whether a linear map of the discriminator's last layer, another one a class, is added to its
    logit (Miyato and Koyama 2018). spectral: whether its layers are divided by their greatest singular value (Miyato et
    al. 2018). latent: numbers of the noise. sigmoid: whether both end in one, as the Wang study first tried.
    """

    classes: int
    dtype: jnp.dtype
    kernel_init: str
    latent: int
    label: str
    embedding: int
    generator_stages: tuple[tuple, ...]
    discriminator_stages: tuple[tuple, ...]
    normalise: bool
    spectral: bool
    projection: bool
    sigmoid: bool

    def setup(self):
        if self.label not in ("one_hot", "embedding"):
            raise ValueError(f"label={self.label!r} must be 'one_hot' or 'embedding'")
        embedding = self.embedding if self.label == "embedding" else 0
        shared = dict(
            classes=self.classes,
            embedding=embedding,
            last_sigmoid=self.sigmoid,
            kernel_init=self.kernel_init,
            dtype=self.dtype,
        )
        self.generator = Generator(stages=self.generator_stages, normalise=self.normalise, **shared)
        self.discriminator = Discriminator(
            stages=self.discriminator_stages, spectral=self.spectral, projection=self.projection, **shared
        )

    def __call__(self, x_BTF: jax.Array, label_B: jax.Array, train: bool) -> jax.Array:
        """Both in turn, on noise of zeros: what initialises them."""
        noise_BL = jnp.zeros((len(x_BTF), self.latent))
        return self.discriminate(self.generate(noise_BL, label_B, x_BTF.shape[1:], train), label_B, train)

    def generate(self, noise_BL: jax.Array, label_B: jax.Array, shape: tuple[int, int], train: bool) -> jax.Array:
        """Features x_BTF, float32, of `shape` (T, F)."""
        return self.generator(noise_BL, label_B, shape, train).astype(jnp.float32)

    def discriminate(self, x_BTF: jax.Array, label_B: jax.Array, train: bool) -> jax.Array:
        """Logits [B], float32."""
        return self.discriminator(x_BTF.astype(self.dtype), label_B, train).astype(jnp.float32)


class Generator(nn.Module):
    """Noise [B, L] and labels to x_BTF: see `Model`. embedding: its numbers, 0 for one-hot labels."""

    classes: int
    embedding: int
    stages: tuple[tuple, ...]
    normalise: bool
    last_sigmoid: bool
    kernel_init: str
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, noise_BL: jax.Array, label_B: jax.Array, shape: tuple[int, int], train: bool) -> jax.Array:
        init = layers.initialiser(self.kernel_init)
        dense = lambda units: layers.Dense(units, kernel_init=init, dtype=self.dtype)

        def activate(x):
            norm = layers.BatchNorm(use_running_average=not train, momentum=0.9, dtype=self.dtype)
            return nn.relu(norm(x) if self.normalise else x)

        steps = lengths(shape[0], [stage[-1] for stage in self.stages if stage[0] == "conv"])
        label_BK = joinable(label_B, self.classes, self.embedding)
        x = jnp.concatenate([noise_BL, label_BK], axis=-1).astype(self.dtype)
        for name, *numbers in self.stages:
            match name, numbers:
                case "dense", [units]:
                    x = activate(dense(units)(x))
                case "steps", [filters]:
                    x = activate(dense(steps[0] * filters)(x).reshape(len(x), steps.pop(0), filters))
                case "conv", [*filters, width, stride]:
                    last = not filters
                    convolution = convolution_layers.TransposedConv(
                        shape[1] if last else filters[0], width, stride, init, self.dtype
                    )
                    x = convolution(x)[:, : steps.pop(0)]
                    x = x if last else activate(x)
                case _:
                    raise TypeError(f"there is no stage {(name, *numbers)} of a generator")
        if x.ndim == 2 or x.shape[1:] != shape:
            x = dense(math.prod(shape))(x.reshape(len(x), -1)).reshape(len(x), *shape)
        return nn.sigmoid(x) if self.last_sigmoid else x


class Discriminator(nn.Module):
    """x_BTF and labels to logits [B]: see `Model`. embedding: its numbers, 0 for one-hot labels."""

    classes: int
    embedding: int
    stages: tuple[tuple, ...]
    spectral: bool
    projection: bool
    last_sigmoid: bool
    kernel_init: str
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, label_B: jax.Array, train: bool) -> jax.Array:
        init = layers.initialiser(self.kernel_init)

        def linear(layer, x):
            return nn.SpectralNorm(layer)(x, update_stats=train) if self.spectral else layer(x)

        def dense(units, x, **options):
            return linear(layers.Dense(units, kernel_init=init, dtype=self.dtype, **options), x)

        label_BK = joinable(label_B, self.classes, self.embedding).astype(self.dtype)
        # Joined to the input of a linear layer, a label adds a linear map of itself to the layer's output.
        joined = lambda units: layers.Dense(units, use_bias=False, kernel_init=init, dtype=self.dtype)(label_BK)
        for number, (name, *numbers) in enumerate(self.stages):
            match name, numbers:
                case "dense", [units]:
                    x = dense(units, x.reshape(len(x), -1))
                    x = nn.leaky_relu(x + joined(units) if number == 0 else x, 0.2)
                case "conv", [filters, width, stride]:
                    convolution = convolution_layers.Conv(filters, (width,), stride, kernel_init=init, dtype=self.dtype)
                    x = linear(convolution, x)
                    x = nn.leaky_relu(x + joined(filters)[:, None] if number == 0 else x, 0.2)
                case "average", []:
                    x = x.mean(1)
                case _:
                    raise TypeError(f"there is no stage {(name, *numbers)} of a discriminator")
        x = x.reshape(len(x), -1)
        logit_B = dense(1, x)[:, 0]
        if self.projection:
            logit_B += (x * joined(x.shape[-1])).sum(-1)
        return nn.sigmoid(logit_B) if self.last_sigmoid else logit_B


def joinable(label_B: jax.Array, classes: int, embedding: int) -> jax.Array:
    """Labels as vectors, one-hot where `embedding` is 0; in a module that may make parameters."""
    return nn.Embed(classes, embedding, name="label")(label_B) if embedding else jax.nn.one_hot(label_B, classes)


def lengths(steps: int, strides: list[int]) -> list[int]:
    """Steps before the first of several lengthening layers and after each, of which the last leaves `steps`."""
    found = [steps]
    for stride in reversed(strides):
        found.insert(0, -(-found[0] // stride))
    return found
