"""From what a data set stores to what a network reads, on the device: functions of (input, length)."""

import jax
import jax.numpy as jnp
import librosa
import scipy.signal


def dequantise(embedding_BTF: jax.Array, length_B: jax.Array, low: float, high: float) -> jax.Array:
    """uint8 embeddings to float32 in low…high; steps from `length` on become zeros.

    Args:
      embedding_BTF: uint8 [B, T, F]. length_B: int [B], valid steps. low, high: values of 0 and 255.
    """
    values_BTF = low + (high - low) / 255 * embedding_BTF.astype(jnp.float32)
    valid_BT = jnp.arange(embedding_BTF.shape[1]) < length_B[:, None]
    return jnp.where(valid_BT[..., None], values_BTF, 0)


def waveform(audio_BT: jax.Array, length_B: jax.Array, samples: int, compression: float) -> jax.Array:
    """int16 audio, resampled by FFT to `samples` values a clip at unit root mean square: float32 [B, samples, 1].

    compression: c of asinh(c x), which lifts what is quiet; 0 for none.
    """
    x_BT = fft_resample(to_float(audio_BT), samples)
    x_BT = x_BT / (jnp.sqrt(jnp.mean(x_BT**2, axis=-1, keepdims=True)) + 1e-4)
    return (jnp.arcsinh(compression * x_BT) if compression else x_BT)[..., None]


def flat_log_mel(
    audio_BT: jax.Array,
    length_B: jax.Array,
    sample_rate_hz: int,
    n_fft: int,
    hop_samples: int,
    mels: int,
    frames: int,
    range_db: float,
) -> jax.Array:
    """Log-mel spectrogram of int16 audio laid out as one sequence, band after band: float32 [B, mels * frames, 1].

    The first `frames` of 1 + T // hop_samples centred frames; decibels below the clip's loudest value, of which
    0 to -range_db become 1 to -1.
    """
    power_BTF = jnp.abs(stft(to_float(audio_BT), n_fft, hop_samples)[:, :frames]) ** 2
    mel_BTM = power_BTF @ librosa.filters.mel(sr=sample_rate_hz, n_fft=n_fft, n_mels=mels).T
    loudest = jnp.maximum(mel_BTM.max(axis=(1, 2), keepdims=True), 1e-10)
    level_db = 10 * jnp.log10(jnp.maximum(mel_BTM / loudest, 10 ** (-range_db / 10)))
    return (2 * level_db / range_db + 1).swapaxes(1, 2).reshape(len(audio_BT), -1, 1)


def stft(x_BT: jax.Array, n_fft: int, hop_samples: int) -> jax.Array:
    """Short-time Fourier transform as librosa's default: periodic Hann window, centred, padded with zeros.

    Returns:
      complex64 [B, 1 + T // hop_samples, 1 + n_fft // 2].
    """
    frames = 1 + x_BT.shape[-1] // hop_samples
    padded_BT = jnp.pad(x_BT, ((0, 0), (n_fft // 2, n_fft // 2)))
    samples = hop_samples * jnp.arange(frames)[:, None] + jnp.arange(n_fft)
    window = scipy.signal.get_window("hann", n_fft).astype("float32")
    return jnp.fft.rfft(padded_BT[:, samples] * window)


def to_float(audio_BT: jax.Array) -> jax.Array:
    """int16 to float32 in -1 … 1."""
    return audio_BT.astype(jnp.float32) / 32768


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
