"""From what a data set stores to what a network reads, on the device: functions of (input, length)."""

import jax
import jax.numpy as jnp


def dequantise(embedding_BTF: jax.Array, length_B: jax.Array, low: float, high: float) -> jax.Array:
    """uint8 embeddings to float32 in low…high; steps from `length` on become zeros.

    Args:
      embedding_BTF: uint8 [B, T, F]. length_B: int [B], valid steps. low, high: values of 0 and 255.
    """
    values_BTF = low + (high - low) / 255 * embedding_BTF.astype(jnp.float32)
    valid_BT = jnp.arange(embedding_BTF.shape[1]) < length_B[:, None]
    return jnp.where(valid_BT[..., None], values_BTF, 0)


def waveform(audio_BT: jax.Array, length_B: jax.Array, samples: int) -> jax.Array:
    """int16 audio to float32 in -1…1, resampled by FFT to `samples` values a clip: float32 [B, samples, 1]."""
    return fft_resample(audio_BT.astype(jnp.float32) / 32768, samples)[..., None]


def fft_resample(x_BT: jax.Array, samples: int) -> jax.Array:
    """Resamples real signals along the last axis as `scipy.signal.resample` does: [B, T] to [B, samples].

    The spectrum is cut or zero-padded. At an even target length, cutting folds the new Nyquist bin onto itself
    (twice its value), padding shares the old one between both frequencies (half of it).
    """
    source = x_BT.shape[-1]
    if samples == source:
        return x_BT
    shorter = min(samples, source)
    spectrum = jnp.fft.rfft(x_BT)[..., : shorter // 2 + 1]
    if shorter % 2 == 0:
        spectrum = spectrum.at[..., shorter // 2].multiply(2 if samples < source else 0.5)
    return jnp.fft.irfft(spectrum, samples) * (samples / source)
