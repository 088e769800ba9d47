"""A convolutional autoencoder of images: the NTU study's, whose latents its labels are spread over."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from audiojax.models import convolution_layers, layers


class Model(nn.Module):
    """x_BHWC to (latent [B, latent], reconstruction [B, H, W, C]), both float32.

    filters: of each convolution of 3 × 3 that halves height and width (upwards), and, backwards, of each that doubles
    them; between them two dense layers. All layers but the latent and the last have batch normalisation and a leaky
    ReLU. Doubled are images by a convolution with four times the channels, laid out as 2 × 2 pixels (Shi et al. 2016).
    """

    dtype: jnp.dtype
    kernel_init: str
    filters: tuple[int, ...]
    latent: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> tuple[jax.Array, jax.Array]:
        init = layers.initialiser(self.kernel_init)
        dense = lambda units, **options: layers.Dense(units, kernel_init=init, dtype=self.dtype, **options)
        conv = functools.partial(convolution_layers.Conv, kernel_size=(3, 3), kernel_init=init, dtype=self.dtype)

        def activate(x):
            norm = layers.BatchNorm(use_running_average=not train, momentum=0.9, dtype=self.dtype)
            return nn.leaky_relu(norm(x))

        shapes, x = [], x.astype(self.dtype)
        for filters in self.filters:
            shapes.append(x.shape)
            x = activate(conv(filters, strides=2, use_bias=False)(x))
        latent_BL = dense(self.latent)(x.reshape(x.shape[0], -1))
        small = x.shape
        x = activate(dense(x[0].size, use_bias=False)(latent_BL)).reshape(small)
        for number, (_, height, width, channels) in enumerate(reversed(shapes), 1):
            last = number == len(shapes)
            x = doubled(conv(4 * channels, use_bias=last)(x))[:, :height, :width]
            x = x if last else activate(x)
        return latent_BL.astype(jnp.float32), x.astype(jnp.float32)


def doubled(x_BHWC: jax.Array) -> jax.Array:
    """Four channels as 2 × 2 pixels: [B, H, W, 4 C] to [B, 2 H, 2 W, C]."""
    batch, height, width, channels = x_BHWC.shape
    x = x_BHWC.reshape(batch, height, width, 2, 2, channels // 4).swapaxes(2, 3)
    return x.reshape(batch, 2 * height, 2 * width, channels // 4)
