"""Front ends: from what a data set stores to what a network reads, on the device. Functions of (input, length).

Front ends compute in float32, whatever the network's type. Audio is int16, taken as audio / 32768, or floating.
`length_B`, the valid steps of each clip, is read only where a docstring says so.

Spectra follow librosa: periodic Hann window, zeros around the clip, Slaney's mel scale and norm. T samples have

    1 + T // hop_samples              frames where `centred` (n_fft even): frame i is centred at sample i * hop_samples
    1 + (T - n_fft) // hop_samples    frames where not: frame i starts at sample i * hop_samples

Functions of spectra raise ConfigError where a clip is shorter than a frame that is not centred, where a hop is longer
than a frame, and for values out of range. Their common arguments:

  audio_BT: int16 or floating [B, T]. sample_rate_hz: of the audio. n_fft, hop_samples: samples of a frame, and between
    the starts of two frames. mels: number of mel bands up to half the sampling rate.
  reference: power of 0 dB, or "max" for the greatest power of each clip. top_db: levels further below a clip's greatest
    level are raised to that limit; None: no limit.
  normalise: whether each feature of a clip is scaled to zero mean and unit variance over time.
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import librosa
import numpy as np
import scipy.fft
import scipy.signal
from jax.experimental.custom_partitioning import custom_partitioning
from jax.sharding import NamedSharding, PartitionSpec

from audiojax.errors import ConfigError

MEL_GROUPS = 4
BLOCK_BYTES = {True: 2**21, False: 2**28}  # frames that are transformed at a time, on a CPU and on accelerators
EXACT = jax.lax.Precision.HIGHEST  # By default accelerators round the factors of a product to 10 bits or fewer.


def identity(audio_BT: jax.Array, length_B: jax.Array, divisor: float = 1.0) -> jax.Array:
    """Stored values divided by `divisor`, which is 32768 for int16 in -1 … 1: float32 [B, T, 1]."""
    return (audio_BT.astype(jnp.float32) / divisor)[..., None]


def dequantise(embedding_BTF: jax.Array, length_B: jax.Array, low: float, high: float) -> jax.Array:
    """Embeddings uint8 [B, T, F] as float32: 0 becomes `low`, 255 `high`. Steps from length_B on become zeros."""
    values_BTF = low + (high - low) / 255 * embedding_BTF.astype(jnp.float32)
    valid_BT = jnp.arange(embedding_BTF.shape[1]) < length_B[:, None]
    return jnp.where(valid_BT[..., None], values_BTF, 0)


def waveform(audio_BT: jax.Array, length_B: jax.Array, samples: int, compression: float) -> jax.Array:
    """Audio resampled to `samples` values a clip, at a root mean square of 1: float32 [B, samples, 1].

    Args:
      compression: c of asinh(c x), which raises quiet samples. 0: none.
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
    """Log-mel spectrogram as one sequence, band after band: float32 [B, mels * frames, 1].

    Takes the first `frames` centred frames. Levels of 0 to -range_db below the clip's greatest become 1 to -1.
    """
    mel_BFM = _mel(audio_BT, sample_rate_hz, n_fft, hop_samples, True, mels)[:, :frames]
    level_BFM = 2 * _decibels(mel_BFM, "max", range_db) / range_db + 1
    return level_BFM.swapaxes(1, 2).reshape(len(audio_BT), -1, 1)


def log_mel(
    audio_BT: jax.Array,
    length_B: jax.Array,
    sample_rate_hz: int,
    n_fft: int,
    hop_samples: int,
    centred: bool,
    mels: int,
    reference: float | str,
    top_db: float | None,
    normalise: bool = False,
    divisor: float = 1.0,
) -> jax.Array:
    """Decibels in mel bands, divided by `divisor`: float32 [B, frames, mels]."""
    mel_BFM = _mel(audio_BT, sample_rate_hz, n_fft, hop_samples, centred, mels)
    return _normalised(_decibels(mel_BFM, reference, top_db) / divisor, normalise)


def log_spectrogram(
    audio_BT: jax.Array,
    length_B: jax.Array,
    n_fft: int,
    hop_samples: int,
    centred: bool,
    reference: float | str,
    top_db: float | None,
    normalise: bool = False,
) -> jax.Array:
    """Decibels of magnitudes: float32 [B, frames, 1 + n_fft // 2]."""
    power_BFK = _framewise(_power, audio_BT, n_fft, hop_samples, centred)
    return _normalised(_decibels(power_BFK, reference, top_db), normalise)


def mfcc(
    audio_BT: jax.Array,
    length_B: jax.Array,
    sample_rate_hz: int,
    n_fft: int,
    hop_samples: int,
    centred: bool,
    mels: int,
    coefficients: int,
    reference: float | str,
    top_db: float | None,
    normalise: bool = False,
) -> jax.Array:
    """Mel-frequency cepstral coefficients, the orthonormal DCT-II of `log_mel`: float32 [B, frames, coefficients]."""
    if not 1 <= coefficients <= mels:
        raise ConfigError(f"frontend.coefficients={coefficients} must be 1 … frontend.mels={mels}.")
    level_BFM = log_mel(audio_BT, length_B, sample_rate_hz, n_fft, hop_samples, centred, mels, reference, top_db)
    return _normalised(jnp.matmul(level_BFM, _dct(mels, coefficients), precision=EXACT), normalise)


def spectrogram_image(
    audio_BT: jax.Array,
    length_B: jax.Array,
    n_fft: int,
    hop_samples: int,
    centred: bool,
    height: int,
    width: int,
    range_db: float,
    divisor: float,
) -> jax.Array:
    """Spectrogram of the valid steps of each clip as an image: float32 [B, height, width, 1].

    Row 0 is at 0 Hz, time runs from left to right. Values are decibels below the clip's greatest magnitude, 0 to
    -range_db, divided by `divisor`. Both axes are resized linearly, with antialiasing where they shrink.

    Args:
      length_B: int [B], valid steps, on which the frames that are shown depend.
    """
    power_BFK = _framewise(_power, audio_BT, n_fft, hop_samples, centred)
    margin = 0 if centred else n_fft
    frames_B = jnp.clip(1 + (length_B - margin) // hop_samples, 1, power_BFK.shape[1])
    inside_BF1 = jnp.arange(power_BFK.shape[1])[:, None] < frames_B[:, None, None]
    level_BFK = _decibels(jnp.where(inside_BF1, power_BFK, 0), "max", range_db)
    image_BWK = _resize_time(level_BFK, frames_B, width)
    image_BWH = jax.image.resize(image_BWK, (*image_BWK.shape[:2], height), "linear")
    return (image_BWH.swapaxes(1, 2) / divisor)[..., None]


def stft(x_BT: jax.Array, n_fft: int, hop_samples: int, centred: bool = True) -> jax.Array:
    """Short-time Fourier transform: complex64 [B, frames, 1 + n_fft // 2]."""
    return _framewise(lambda spectrum_BFK: spectrum_BFK, x_BT, n_fft, hop_samples, centred)


def to_float(audio_BT: jax.Array) -> jax.Array:
    """int16 as float32 in -1 … 1; floating values as float32."""
    x_BT = audio_BT.astype(jnp.float32)
    return x_BT if jnp.issubdtype(audio_BT.dtype, jnp.floating) else x_BT / 32768


def fft_resample(x_BT: jax.Array, samples: int) -> jax.Array:
    """Resamples real signals [B, T] to [B, samples], as `scipy.signal.resample` does.

    It cuts or pads the spectrum. Where the shorter length is even, its Nyquist bin is doubled by cutting, for both
    frequencies fold onto it, and halved by padding.
    """
    source = x_BT.shape[-1]
    if samples == source:
        return x_BT
    shorter = min(samples, source)
    spectrum = _in_place(lambda x: jnp.fft.rfft(x))(x_BT)[..., : shorter // 2 + 1]
    if shorter % 2 == 0:
        spectrum = spectrum.at[..., shorter // 2].multiply(2 if samples < source else 0.5)
    return _in_place(lambda x: jnp.fft.irfft(x, samples))(spectrum) * (samples / source)


def _framewise(feature, audio_BT: jax.Array, n_fft: int, hop_samples: int, centred: bool) -> jax.Array:
    """Applies `feature`, a function of spectra [B, F, 1 + n_fft // 2], to all frames: [B, frames, ...].

    Frames overlap, so all of them take several times the memory of the audio. They are computed in blocks of time that
    fit a CPU's cache, which makes log-mel three times as fast. The batch is not cut: it may be spread over devices.
    """
    if not 1 <= hop_samples <= n_fft:
        raise ConfigError(f"frontend.hop_samples={hop_samples} must be 1 … frontend.n_fft={n_fft}.")
    batch, samples = audio_BT.shape
    margin = n_fft // 2 if centred else 0
    frames = 1 + (samples + 2 * margin - n_fft) // hop_samples
    if frames < 1:
        raise ConfigError(f"a clip of {samples} samples is shorter than one frame, frontend.n_fft={n_fft} samples.")
    blocks = math.ceil(4 * batch * frames * n_fft / BLOCK_BYTES[jax.default_backend() == "cpu"])
    block_frames = math.ceil(frames / blocks)
    blocks = math.ceil(frames / block_frames)
    index_FN = hop_samples * np.arange(block_frames)[:, None] + np.arange(n_fft) - margin
    window_N = scipy.signal.get_window("hann", n_fft).astype(np.float32)

    def features_of(block):
        index = block * block_frames * hop_samples + index_FN
        # Samples outside of the clip read as zeros, without a padded copy of the audio.
        frames_BFN = jnp.asarray(audio_BT).at[:, index].get(mode="fill", fill_value=0, wrap_negative_indices=False)
        return feature(_in_place(lambda x: jnp.fft.rfft(x))(to_float(frames_BFN) * window_N))

    if blocks == 1:
        return features_of(0)
    features_NBF = jax.lax.map(features_of, jnp.arange(blocks)).swapaxes(0, 1)
    return features_NBF.reshape(batch, blocks * block_frames, *features_NBF.shape[3:])[:, :frames]


def _in_place(transform: Callable[[jax.Array], jax.Array]) -> Callable[[jax.Array], jax.Array]:
    """An FFT along the last axis that each device applies to its part of the batch.

    Without this, XLA gathers the whole batch on every device first.
    """
    partitioned = custom_partitioning(transform)

    def partition(mesh, arguments, result):
        (x,) = arguments
        leading = (*x.sharding.spec, *[None] * x.ndim)[: x.ndim - 1]
        sharding = NamedSharding(x.sharding.mesh, PartitionSpec(*leading, None))
        return mesh, transform, sharding, (sharding,)

    partitioned.def_partition(partition, sharding_rule="... i -> ... j", need_replication_factors=("i", "j"))
    mapped = jax.custom_batching.custom_vmap(partitioned)
    mapped.def_vmap(lambda size, batched, x: (mapped(x), True))
    differentiable = jax.custom_jvp(mapped)
    differentiable.defjvp(lambda x, tangent: (differentiable(*x), transform(*tangent)))
    return differentiable


def _power(spectrum: jax.Array) -> jax.Array:
    """Squared magnitude, without the square root of `abs`."""
    return spectrum.real**2 + spectrum.imag**2


def _mel(audio_BT: jax.Array, sample_rate_hz: int, n_fft: int, hop_samples: int, centred: bool, mels: int) -> jax.Array:
    """Power in mel bands: float32 [B, frames, mels]."""
    groups = _mel_groups(sample_rate_hz, n_fft, mels)

    def bands(spectrum_BFK):
        power_BFK = _power(spectrum_BFK)
        products = [jnp.matmul(power_BFK[..., bins], bank_KM, precision=EXACT) for bins, bank_KM in groups]
        return jnp.concatenate(products, axis=-1)

    return _framewise(bands, audio_BT, n_fft, hop_samples, centred)


@functools.lru_cache
def _mel_groups(sample_rate_hz: int, n_fft: int, mels: int):
    """The mel filter bank as groups of neighbouring bands, each (slice of its bins, weights [K, M]).

    Most weights of the bank are zero. Four groups need a quarter of its products, and log-mel is 1.3 times as fast on a
    CPU.
    """
    groups = []
    for group_MK in np.array_split(
        librosa.filters.mel(sr=sample_rate_hz, n_fft=n_fft, n_mels=mels), min(MEL_GROUPS, mels)
    ):
        read = np.flatnonzero(group_MK.any(axis=0))
        bins = slice(read[0], read[-1] + 1) if len(read) else slice(0, 1)
        groups.append((bins, np.ascontiguousarray(group_MK[:, bins].T)))
    return groups


def _decibels(power_BFK: jax.Array, reference: float | str, top_db: float | None) -> jax.Array:
    """10 log10(power / reference), both at least 1e-10, as librosa.power_to_db of each clip."""
    if reference != "max" and (isinstance(reference, str) or reference <= 0):
        raise ConfigError(f'frontend.reference={reference!r} must be "max" or a power above 0.')
    if top_db is not None and top_db < 0:
        raise ConfigError(f"frontend.top_db={top_db} must not be negative.")
    greatest_B11 = power_BFK.max(axis=(1, 2), keepdims=True)
    decibels = lambda power: 10 * jnp.log10(jnp.maximum(power, 1e-10))
    offset = decibels(greatest_B11 if reference == "max" else jnp.float32(reference))
    level_BFK = decibels(power_BFK) - offset
    return level_BFK if top_db is None else jnp.maximum(level_BFK, decibels(greatest_B11) - offset - top_db)


def _resize_time(x_BFK: jax.Array, frames_B: jax.Array, width: int) -> jax.Array:
    """Resizes the first frames_B frames of each clip to [B, width, K], as `jax.image.resize` does with "linear".

    It adds the frames under each column one by one, for the matrix of a clip is mostly zeros.
    """
    scale_B1 = frames_B[:, None] / width
    reach_B1 = jnp.maximum(scale_B1, 1)
    centre_BW = (jnp.arange(width) + 0.5) * scale_B1 - 0.5
    first_BW = jnp.ceil(centre_BW - reach_B1).astype(int)
    columns_BWK, total_BW = 0, 0
    for nth in range(2 * math.ceil(max(x_BFK.shape[1] / width, 1)) + 1):
        frame_BW = first_BW + nth
        weight_BW = jnp.maximum(0, 1 - jnp.abs(frame_BW - centre_BW) / reach_B1)
        weight_BW = jnp.where((frame_BW >= 0) & (frame_BW < frames_B[:, None]), weight_BW, 0)
        frame_BW = jnp.clip(frame_BW, 0, x_BFK.shape[1] - 1)
        columns_BWK += weight_BW[..., None] * jnp.take_along_axis(x_BFK, frame_BW[..., None], axis=1)
        total_BW += weight_BW
    return columns_BWK / total_BW[..., None]


@functools.lru_cache
def _dct(mels: int, coefficients: int) -> np.ndarray:
    """The first coefficients of the orthonormal DCT-II as a matrix [mels, coefficients]."""
    return scipy.fft.dct(np.eye(mels), axis=1, norm="ortho")[:, :coefficients].astype(np.float32)


def _normalised(x_BFK: jax.Array, normalise: bool) -> jax.Array:
    """Scales each feature to zero mean and unit variance over time. A constant feature becomes zeros."""
    if not normalise:
        return x_BFK
    mean_B1K = x_BFK.mean(axis=1, keepdims=True)
    centred_BFK = x_BFK - mean_B1K
    deviation_B1K = jnp.sqrt(jnp.mean(centred_BFK**2, axis=1, keepdims=True))
    constant_B1K = deviation_B1K <= 1e-6 * jnp.abs(mean_B1K)
    return jnp.where(constant_B1K, 0, centred_BFK / jnp.where(constant_B1K, 1, deviation_B1K))
