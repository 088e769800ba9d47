"""Conditional GANs of sequences, fully connected or of 1D convolutions: the Wang study's, and newer ones."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from audiojax.models import layers


class Model(layers.Network):
    """`generate`: noise and labels to features x_BTF; `discriminate`: x_BTF and labels to logits [B], real above 0.

    A label joins the noise and the discriminator's input as a vector. The generator has batch normalisation where
    `normalise`, then ReLU; the discriminator a leaky ReLU of slope 0.2.

    Attributes:
      latent: numbers of the noise. label: "one_hot", or "embedding" for a learned vector of `embedding` numbers.
      generator_stages, discriminator_stages: in order, each a tuple of a name and its numbers:
        ("dense", units): flattens where there are steps.
        ("steps", filters): generator alone, a dense layer to as many steps as the following convolutions lengthen to T.
        ("conv", filters, width, stride): generator: a transposed convolution to `stride` times as many steps, each of
          which sees `width` old ones; discriminator: a convolution padded to ceil(T / stride).
        ("average",): discriminator alone, the mean over the steps.
        The generator ends in a dense layer to all of x, or in a last stage ("conv", width, stride) to F channels. The
        discriminator ends in a dense layer to one logit.
      projection: whether a linear map of the discriminator's last layer, one for each class, is added to the logit
        (Miyato and Koyama 2018).
      spectral: whether the discriminator's kernels are divided by their largest singular value (Miyato et al. 2018).
      sigmoid: whether both end in a sigmoid, as the Wang study first tried.
    """

    classes: int
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
        shared = (self.dtype, self.kernel_init, self.classes, embedding)
        self.generator = Generator(*shared, self.generator_stages, self.normalise)
        self.discriminator = Discriminator(*shared, self.discriminator_stages, self.spectral, self.projection)

    def __call__(self, x_BTF: jax.Array, label_B: jax.Array, train: bool) -> jax.Array:
        """Runs both on noise of zeros, to initialise them."""
        noise_BL = jnp.zeros((len(x_BTF), self.latent))
        return self.discriminate(self.generate(noise_BL, label_B, x_BTF.shape[1:], train), label_B, train)

    def generate(self, noise_BL: jax.Array, label_B: jax.Array, shape: tuple[int, int], train: bool) -> jax.Array:
        """Returns float32 features x_BTF of `shape` (T, F)."""
        x_BTF = self.generator(noise_BL, label_B, shape, train)
        return (nn.sigmoid(x_BTF) if self.sigmoid else x_BTF).astype(jnp.float32)

    def discriminate(self, x_BTF: jax.Array, label_B: jax.Array, train: bool) -> jax.Array:
        """Returns float32 logits [B]."""
        logit_B = self.discriminator(x_BTF.astype(self.dtype), label_B, train)
        return (nn.sigmoid(logit_B) if self.sigmoid else logit_B).astype(jnp.float32)


class Side(layers.Network):
    """What both sides share. embedding: numbers of a label's vector, 0 for one-hot labels."""

    classes: int
    embedding: int
    stages: tuple[tuple, ...]

    def label_vectors(self, label_B: jax.Array) -> jax.Array:
        if not self.embedding:
            return jax.nn.one_hot(label_B, self.classes)
        return nn.Embed(self.classes, self.embedding, name="label")(label_B)


class Generator(Side):
    """Noise [B, L] and labels to x_BTF: see `Model`."""

    normalise: bool

    @nn.compact
    def __call__(self, noise_BL: jax.Array, label_B: jax.Array, shape: tuple[int, int], train: bool) -> jax.Array:
        activate = lambda x: nn.relu(self.batch_norm(x, train, momentum=0.9) if self.normalise else x)
        steps = [shape[0]]  # before the first convolution and after each; the last is cut to T
        for stride in reversed([stage[-1] for stage in self.stages if stage[0] == "conv"]):
            steps.insert(0, -(-steps[0] // stride))
        x = jnp.concatenate([noise_BL, self.label_vectors(label_B)], axis=-1).astype(self.dtype)
        for name, *numbers in self.stages:
            match name, numbers:
                case "dense", [units]:
                    x = activate(self.linear(units)(x))
                case "steps", [filters]:
                    x = activate(self.linear(steps[0] * filters)(x).reshape(len(x), steps.pop(0), filters))
                case "conv", [*filters, width, stride]:
                    [channels] = filters or [shape[1]]
                    x = TransposedConv(self.dtype, self.kernel_init, channels, width, stride)(x)[:, : steps.pop(0)]
                    x = activate(x) if filters else x
                case _:
                    raise TypeError(f"there is no stage {(name, *numbers)} of a generator")
        if x.ndim == 2 or x.shape[1:] != shape:
            x = self.linear(math.prod(shape))(x.reshape(len(x), -1)).reshape(len(x), *shape)
        return x


class TransposedConv(layers.Network):
    """Transposed convolution, by a convolution of odd width to stride * features channels that are reshaped to steps:
    x_BTF to [B, T * stride, features] (Shi et al. 2016)."""

    features: int
    width: int
    stride: int

    @nn.compact
    def __call__(self, x_BTF: jax.Array) -> jax.Array:
        x = self.conv(self.stride * self.features, (self.width,), use_bias=False)(x_BTF)
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return (x.reshape(len(x), -1, self.features) + bias).astype(self.dtype)


class Discriminator(Side):
    """x_BTF and labels to logits [B]: see `Model`."""

    spectral: bool
    projection: bool

    @nn.compact
    def __call__(self, x: jax.Array, label_B: jax.Array, train: bool) -> jax.Array:
        def linear(layer, x):
            return nn.SpectralNorm(layer)(x, update_stats=train) if self.spectral else layer(x)

        label_BK = self.label_vectors(label_B).astype(self.dtype)
        # A label that joins a linear layer's input adds a linear map of itself to the output.
        label_map = lambda units: self.linear(units, use_bias=False)(label_BK)
        for number, (name, *numbers) in enumerate(self.stages):
            match name, numbers:
                case "dense", [units]:
                    x = linear(self.linear(units), x.reshape(len(x), -1))
                    x = nn.leaky_relu(x + label_map(units) if number == 0 else x, 0.2)
                case "conv", [filters, width, stride]:
                    x = linear(self.conv(filters, (width,), strides=stride), x)
                    x = nn.leaky_relu(x + label_map(filters)[:, None] if number == 0 else x, 0.2)
                case "average", []:
                    x = x.mean(1)
                case _:
                    raise TypeError(f"there is no stage {(name, *numbers)} of a discriminator")
        x = x.reshape(len(x), -1)
        logit_B = linear(self.linear(1), x)[:, 0]
        if self.projection:
            logit_B += (x * label_map(x.shape[-1])).sum(-1)
        return logit_B
