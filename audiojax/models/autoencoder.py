"""The convolutional autoencoder of images of the NTU study, which spreads labels over its latents."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from audiojax.models import layers


class Model(layers.Network):
    """x_BHWC to (latent [B, latent], reconstruction [B, H, W, C]), both float32.

    The encoder's 3 × 3 convolutions halve height and width, rounded up; a dense layer makes the latent. The decoder is
    the reverse, each doubling a convolution to four times the channels (Shi et al. 2016). Batch normalisation and leaky
    ReLU follow each layer but the latent and the last. filters: of the encoder's convolutions.
    """

    filters: tuple[int, ...]
    latent: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> tuple[jax.Array, jax.Array]:
        activate = lambda x: nn.leaky_relu(self.batch_norm(x, train, momentum=0.9))
        shapes, x = [], x.astype(self.dtype)
        for filters in self.filters:
            shapes.append(x.shape)
            x = activate(self.conv(filters, (3, 3), strides=2, use_bias=False)(x))
        latent_BL = self.linear(self.latent)(x.reshape(len(x), -1))
        x = activate(self.linear(x[0].size, use_bias=False)(latent_BL)).reshape(x.shape)
        for number, (_, height, width, channels) in enumerate(reversed(shapes), 1):
            last = number == len(shapes)
            x = doubled(self.conv(4 * channels, (3, 3), use_bias=last)(x))[:, :height, :width]
            x = x if last else activate(x)
        return latent_BL.astype(jnp.float32), x.astype(jnp.float32)


def doubled(x_BHWC: jax.Array) -> jax.Array:
    """Reshapes each four channels to 2 × 2 pixels: [B, H, W, 4C] to [B, 2H, 2W, C]."""
    batch, height, width, channels = x_BHWC.shape
    x = x_BHWC.reshape(batch, height, width, 2, 2, channels // 4).swapaxes(2, 3)
    return x.reshape(batch, 2 * height, 2 * width, channels // 4)
