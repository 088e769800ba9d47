import jax.numpy as jnp
import librosa
import numpy as np
import pytest
import scipy.signal

from audiojax import frontend


@pytest.mark.parametrize(
    ("source", "target"), [(64_000, 8_000), (640, 80), (641, 80), (640, 81), (641, 81), (80, 640), (81, 641), (80, 80)]
)
def test_fft_resample_equals_scipy(source, target):
    x = np.random.default_rng(0).normal(size=(3, source)).astype(np.float32)
    expected = scipy.signal.resample(x.astype(np.float64), target, axis=-1)
    np.testing.assert_allclose(frontend.fft_resample(jnp.asarray(x), target), expected, rtol=1e-4, atol=2e-5)


def test_waveform_has_unit_root_mean_square_whatever_its_level():
    audio = np.array([[-300, 0, 150, 299], [-30_000, 0, 15_000, 29_900]], np.int16)
    x = frontend.waveform(jnp.asarray(audio), jnp.array([4, 4]), samples=4, compression=0.0)
    assert x.shape == (2, 4, 1) and x.dtype == jnp.float32
    np.testing.assert_allclose(np.sqrt(np.mean(np.square(x[..., 0]), axis=1)), 1, rtol=0.02)
    np.testing.assert_allclose(x[1, :, 0] / x[1, 0, 0], [1, 0, -0.5, -0.9966667], atol=1e-5)
    compressed = frontend.waveform(jnp.asarray(audio), jnp.array([4, 4]), samples=4, compression=5.0)
    np.testing.assert_allclose(compressed, np.arcsinh(5 * np.asarray(x)), rtol=1e-5)


@pytest.mark.parametrize(("samples", "hop"), [(16_000, 640), (16_001, 640), (15_999, 512)])
def test_stft_equals_librosa(samples, hop):
    x = np.random.default_rng(0).normal(size=(2, samples)).astype(np.float32)
    ours = frontend.stft(jnp.asarray(x), n_fft=1024, hop_samples=hop)
    assert ours.shape[1] == 1 + samples // hop
    theirs = librosa.stft(x, n_fft=1024, hop_length=hop).swapaxes(1, 2)
    np.testing.assert_allclose(ours, theirs, atol=1e-4 * np.abs(theirs).max())


def test_flat_log_mel_equals_librosa():
    audio = (3000 * np.random.default_rng(0).normal(size=(2, 64_000))).astype(np.int16)
    settings = dict(n_fft=1024, hop_samples=640, mels=80, frames=100, range_db=80.0)
    ours = frontend.flat_log_mel(jnp.asarray(audio), jnp.array([64_000] * 2), sample_rate_hz=16_000, **settings)
    for x, clip in zip(audio.astype(np.float32) / 32768, ours):
        mel = librosa.feature.melspectrogram(y=x, sr=16_000, n_fft=1024, hop_length=640, n_mels=80)[:, :100]
        expected = librosa.power_to_db(mel, ref=np.max, top_db=80) / 40 + 1
        np.testing.assert_allclose(clip.reshape(80, 100), expected, atol=1e-4)


def test_dequantise_spans_the_range_and_zeroes_the_padding():
    embedding = np.zeros((2, 3, 2), np.uint8)
    embedding[0] = 255
    x = frontend.dequantise(jnp.asarray(embedding), jnp.array([2, 1]), low=-2.0, high=2.0)
    np.testing.assert_allclose(x[0], [[2, 2], [2, 2], [0, 0]], atol=1e-6)
    np.testing.assert_allclose(x[1], [[-2, -2], [0, 0], [0, 0]], atol=1e-6)
