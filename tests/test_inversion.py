"""Features made audible again."""

import jax
import jax.numpy as jnp
import librosa
import numpy as np
import pytest

from audiojax import frontend, inversion
from audiojax.errors import ConfigError

RATE_HZ, SAMPLES = 22_050, 11_025
LEVELS = dict(sample_rate_hz=RATE_HZ, n_fft=1024, hop_samples=256, centred=True, mels=64, reference=1.0, top_db=80.0)


def sounds() -> np.ndarray:
    """int16 [2, T]: noise that fades, and noise that comes and goes."""
    time_s, noise = np.arange(SAMPLES) / RATE_HZ, np.random.default_rng(0).standard_normal((2, SAMPLES))
    return np.round(4000 * noise * np.stack([np.exp(-3 * time_s), np.sin(9 * time_s)])).astype(np.int16)


@pytest.mark.parametrize("divisor", [1.0, 32768.0])
def test_a_waveform_comes_back_as_it_was(divisor):
    audio = sounds()
    x = frontend.identity(audio, None, divisor)
    np.testing.assert_allclose(inversion.identity(x, SAMPLES, divisor), audio / 32768, atol=1e-6)


@pytest.mark.parametrize("divisor", [1.0, 40.0])
def test_levels_come_back_nearly_as_they_were(divisor):
    audio, lengths = jnp.asarray(sounds()), jnp.full(2, SAMPLES)
    level = frontend.log_mel(audio, lengths, **LEVELS, divisor=divisor)
    again = jax.jit(lambda level: inversion.log_mel(level, SAMPLES, **LEVELS, divisor=divisor))(level)
    assert again.shape == (2, SAMPLES) and np.isfinite(again).all()
    rebuilt = divisor * frontend.log_mel(again, lengths, **LEVELS, divisor=divisor)
    loud = divisor * level > (divisor * level).max(axis=(1, 2), keepdims=True) - 30
    assert np.abs(rebuilt - divisor * level)[loud].mean() < 2  # dB
    # Not far from what librosa makes of the same bands, whose pseudo-inverse has no negative powers either.
    mel = 10 ** (divisor * np.asarray(level).swapaxes(1, 2) / 10)
    theirs = librosa.feature.inverse.mel_to_audio(
        mel, sr=RATE_HZ, n_fft=1024, hop_length=256, length=SAMPLES, pad_mode="constant"
    )
    of_theirs = divisor * frontend.log_mel(jnp.asarray(theirs), lengths, **LEVELS, divisor=divisor)
    assert np.abs(rebuilt - divisor * level)[loud].mean() < np.abs(of_theirs - divisor * level)[loud].mean() + 1


def test_silence_stays_silent():
    level = jnp.full((1, 44, 64), -100.0)
    assert np.abs(inversion.log_mel(level, SAMPLES, **LEVELS)).max() < 1e-3


@pytest.mark.parametrize(
    "wrong", [dict(normalise=True), dict(reference="max"), dict(centred=False), dict(hop_samples=300)], ids=str
)
def test_levels_that_do_not_say_how_loud_it_was_are_refused(wrong):
    with pytest.raises(ConfigError, match="can be made audible again only where normalise=False"):
        inversion.log_mel(jnp.zeros((1, 44, 64)), SAMPLES, **LEVELS | wrong)
