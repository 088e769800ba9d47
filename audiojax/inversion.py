"""From features back to a waveform, on the device. Each function inverts the front end of the same name.

The functions take (features, samples) and the arguments of the front end, and return float32 [B, samples] in -1 … 1.
"""

import jax
import jax.numpy as jnp
import librosa
import numpy as np
import scipy.signal

from audiojax import frontend
from audiojax.errors import ConfigError

ITERATIONS, MOMENTUM = 32, 0.99  # librosa's defaults


def identity(x_BT1: jax.Array, samples: int, divisor: float = 1.0) -> jax.Array:
    """Inverts `frontend.identity`."""
    return x_BT1[:, :samples, 0] * divisor / 32768


def log_mel(
    level_BFM: jax.Array,
    samples: int,
    sample_rate_hz: int,
    n_fft: int,
    hop_samples: int,
    centred: bool,
    mels: int,
    reference: float,
    top_db: float | None,
    normalise: bool = False,
    divisor: float = 1.0,
) -> jax.Array:
    """Inverts `frontend.log_mel`: powers by the pseudo-inverse of the filter bank, phases by Griffin and Lim.

    Raises:
      ConfigError: levels that are relative to the clip, frames that are not centred, or a frame that is not a whole
        number of hops.
    """
    if normalise or reference == "max" or not centred or n_fft % hop_samples:
        raise ConfigError(
            "frontend: a log_mel can be made audible again only where normalise=False, reference is a power,"
            " centred=True and hop_samples divides n_fft."
        )
    bank_MK = librosa.filters.mel(sr=sample_rate_hz, n_fft=n_fft, n_mels=mels)
    power_BFM = reference * 10 ** (divisor * level_BFM / 10)
    power_BFK = jnp.maximum(jnp.matmul(power_BFM, np.linalg.pinv(bank_MK).T, precision=frontend.EXACT), 0)
    return _griffin_lim(jnp.sqrt(power_BFK), samples, n_fft, hop_samples)


def _griffin_lim(magnitude_BFK: jax.Array, samples: int, n_fft: int, hop_samples: int) -> jax.Array:
    """A waveform whose centred STFT has about these magnitudes: float32 [B, samples].

    Fast Griffin-Lim (Perraudin et al. 2013). The first phases are random, with a fixed seed.
    """
    frames = magnitude_BFK.shape[1]
    phase_FK = jax.random.uniform(jax.random.key(0), magnitude_BFK.shape[1:], maxval=2 * np.pi)
    stft = lambda x_BT: frontend.stft(x_BT, n_fft, hop_samples)[:, :frames]
    inverse = lambda spectrum: _istft(spectrum, samples, n_fft, hop_samples)

    def step(_, carry):
        angle_BFK, previous_BFK = carry
        rebuilt_BFK = stft(inverse(magnitude_BFK * angle_BFK))
        angle_BFK = rebuilt_BFK - MOMENTUM / (1 + MOMENTUM) * previous_BFK
        return angle_BFK / jnp.maximum(jnp.abs(angle_BFK), 1e-9), rebuilt_BFK

    angle_BFK = jnp.broadcast_to(jnp.exp(1j * phase_FK), magnitude_BFK.shape)
    angle_BFK, _ = jax.lax.fori_loop(0, ITERATIONS, step, (angle_BFK, jnp.zeros_like(angle_BFK)))
    return inverse(magnitude_BFK * angle_BFK)


def _istft(spectrum_BFK: jax.Array, samples: int, n_fft: int, hop_samples: int) -> jax.Array:
    """Inverts a centred `frontend.stft` whose hop divides its frame: [B, samples], with zeros behind the last frame."""
    window_N = scipy.signal.get_window("hann", n_fft).astype(np.float32)
    frames_BFN = jnp.fft.irfft(spectrum_BFK, n_fft) * window_N
    weight_FN = np.broadcast_to(window_N**2, frames_BFN.shape[1:])
    x_BT = _overlap_add(frames_BFN, hop_samples) / jnp.maximum(_overlap_add(weight_FN[None], hop_samples), 1e-8)
    x_BT = x_BT[:, n_fft // 2 :][:, :samples]
    return jnp.pad(x_BT, ((0, 0), (0, samples - x_BT.shape[1])))


def _overlap_add(frames_BFN: jax.Array, hop_samples: int) -> jax.Array:
    """Overlap-add of frames every `hop_samples`: [B, (F - 1) hop + N]."""
    batch, frames, n_fft = frames_BFN.shape
    parts = n_fft // hop_samples
    pieces = frames_BFN.reshape(batch, frames, parts, hop_samples)
    shifted = [jnp.pad(pieces[:, :, i], ((0, 0), (i, parts - 1 - i), (0, 0))) for i in range(parts)]
    return sum(shifted).reshape(batch, -1)
