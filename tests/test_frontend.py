import inspect

import jax
import jax.numpy as jnp
import librosa
import numpy as np
import pytest
import scipy.signal
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from audiojax import frontend, names
from audiojax.errors import ConfigError
from tests.conftest import SHARED_DATA, run_on_eight_devices

RATE_HZ = 22_050
MEL = dict(sample_rate_hz=RATE_HZ, mels=64)


@pytest.fixture(scope="module", params=["chirps", "real"])
def audio_BT(request) -> np.ndarray:
    """int16 clips of 1.5 s, loud and quiet: rising and falling chirps in a little noise, or recordings."""
    samples = 33_075
    if request.param == "chirps":
        t = np.arange(samples) / RATE_HZ
        chirps = [scipy.signal.chirp(t, low, t[-1], high) for low, high in ((50, 10_000), (8_000, 100), (300, 400))]
        chirps = np.stack(chirps) * np.exp(-t) + 1e-3 * np.random.default_rng(0).normal(size=(3, samples))
        return (np.array([[30_000], [3_000], [300]]) * chirps).astype(np.int16)
    files = sorted((SHARED_DATA / "gtzan").rglob("*.flac"))[::25]
    if not files:
        pytest.skip("the real data is not on this machine")
    return np.stack([soundfile.read(file, frames=samples, dtype="int16")[0] for file in files])


@pytest.fixture(params=[(1024, True), (1000, False)], ids=["centred", "uncentred"])
def frames(request) -> dict:
    return dict(n_fft=request.param[0], hop_samples=512, centred=request.param[1])


def features(name: str, audio_BT, **config) -> jax.Array:
    """A front end chosen and compiled as a task does it."""
    function = jax.jit(names.function("frontend", "frontend", {"name": name} | config))
    return function(jnp.asarray(audio_BT), jnp.full(len(audio_BT), audio_BT.shape[1]))  # whole clips


def floats(audio_BT: np.ndarray) -> np.ndarray:
    return audio_BT.astype(np.float32) / 32768


def of_librosa(frames: dict) -> dict:
    return dict(n_fft=frames["n_fft"], hop_length=frames["hop_samples"], center=frames["centred"], pad_mode="constant")


def level_by_librosa(x_T, frames, mels=MEL["mels"], **settings):
    bands = librosa.feature.melspectrogram(y=x_T, sr=RATE_HZ, n_mels=mels, **of_librosa(frames))
    return librosa.power_to_db(bands, **settings)


def assert_close(ours_BFK, theirs_BKF, rtol=1e-4):
    """Equal within 1e-4 of each value, or within what float32 resolves beside the clip's greatest."""
    for ours_FK, theirs_KF in zip(ours_BFK, theirs_BKF, strict=True):
        np.testing.assert_allclose(ours_FK.T, theirs_KF, rtol=rtol, atol=1e-6 * np.abs(theirs_KF).max())


def test_stft_equals_librosa(audio_BT, frames):
    ours = jax.jit(lambda x: frontend.stft(x, *frames.values()))(audio_BT)
    assert_close(np.abs(ours), np.abs(librosa.stft(floats(audio_BT), **of_librosa(frames))))


def test_stft_equals_scipy():
    x = np.random.default_rng(0).normal(size=(2, 4096))
    ours = frontend.stft(x.astype(np.float32), n_fft=512, hop_samples=160, centred=False)
    transform = scipy.signal.ShortTimeFFT(scipy.signal.get_window("hann", 512), hop=160, fs=1)
    assert_close(np.abs(ours), np.abs(transform.stft(x, p0=0, p1=1 + (4096 - 512) // 160, k_offset=256)))


@pytest.mark.parametrize(("mels", "reference", "top_db"), [(64, "max", 80.0), (3, 0.02, 30.0), (64, 1.0, None)])
def test_log_mel_equals_librosa_on_each_clip(audio_BT, frames, mels, reference, top_db):
    ours = features("log_mel", audio_BT, reference=reference, top_db=top_db, **MEL | {"mels": mels}, **frames)
    ref = np.max if reference == "max" else reference
    for ours_FM, x in zip(ours, floats(audio_BT)):
        theirs = level_by_librosa(x, frames, mels, ref=ref, top_db=top_db)
        np.testing.assert_allclose(ours_FM.T, theirs, rtol=1e-4, atol=1e-3)


def test_mfcc_equals_librosa(audio_BT, frames):
    ours = features("mfcc", audio_BT, coefficients=13, reference=1.0, top_db=80.0, **MEL, **frames)
    for ours_FC, x in zip(ours, floats(audio_BT)):
        theirs = librosa.feature.mfcc(S=level_by_librosa(x, frames), n_mfcc=13)
        np.testing.assert_allclose(ours_FC.T, theirs, rtol=1e-4, atol=2e-3)


def test_spectrogram_image_spans_the_range_and_keeps_the_picture(audio_BT):
    frames = dict(n_fft=1024, hop_samples=512, centred=True)
    image = dict(range_db=80.0, divisor=-80.0)
    same = features("spectrogram_image", audio_BT, height=513, width=65, **image, **frames)
    for ours, x in zip(same, floats(audio_BT)):
        magnitude = np.abs(librosa.stft(x, **of_librosa(frames)))
        np.testing.assert_allclose(ours[..., 0], librosa.amplitude_to_db(magnitude, ref=np.max) / -80, atol=1e-4)
    wide = features("spectrogram_image", audio_BT, height=513, width=195, **image, **frames)
    assert wide.shape == (3, 513, 195, 1) and wide.min() > -1e-6 and wide.max() < 1 + 1e-6
    np.testing.assert_allclose(wide[:, :, 1::3], same, atol=1e-5)  # the centre of each column's three
    np.testing.assert_allclose(wide[:, :, 2:-1:3], (2 * same[:, :, :-1] + same[:, :, 1:]) / 3, atol=1e-5)


@pytest.mark.parametrize("width", [7, 40])
@pytest.mark.parametrize("centred", [True, False])
def test_spectrogram_image_is_of_the_clip_alone_and_as_jax_resizes_it(audio_BT, width, centred):
    frames = dict(n_fft=256, hop_samples=100, centred=centred)
    image = dict(height=20, width=width, range_db=60.0, divisor=-80.0)
    length_B = np.array([500, 3000, audio_BT.shape[1]])[: len(audio_BT)]
    padded = np.where(np.arange(audio_BT.shape[1]) < length_B[:, None], audio_BT, 0)
    found = frontend.spectrogram_image(padded, length_B, **frames, **image)
    for ours, x, length in zip(found, audio_BT, length_B):
        stft = librosa.stft(x[:length] / np.float32(32768), **of_librosa(frames))
        level = librosa.amplitude_to_db(np.abs(stft), ref=np.max, top_db=60.0)
        np.testing.assert_allclose(ours[..., 0], jax.image.resize(level, (20, width), "linear") / -80, atol=2e-4)


def test_normalised_features_have_no_mean_and_unit_variance_over_time():
    audio = np.random.default_rng(0).normal(size=(3, 8000)).astype(np.float32) * [[1e-4], [1], [0]]
    settings = dict(n_fft=256, hop_samples=100, centred=True, reference="max", top_db=80.0, normalise=True, **MEL)
    settings["mels"] = 20
    x = np.asarray(features("log_mel", audio.astype(np.float32), **settings))
    np.testing.assert_allclose(x.mean(1), 0, atol=1e-5)
    np.testing.assert_allclose(x[:2].std(1), 1, rtol=1e-4)
    assert (x[2] == 0).all()


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 3000), st.integers(1, 300).map(lambda half: 2 * half), st.integers(1, 700), st.booleans())
def test_frames_are_as_many_as_promised_and_as_librosa_cuts(samples, n_fft, hop, centred):
    shape = lambda: (
        jax.eval_shape(
            lambda x: frontend.stft(x, n_fft, hop, centred), jax.ShapeDtypeStruct((2, samples), jnp.float32)
        ).shape
    )
    if hop > n_fft or (samples < n_fft and not centred):
        with pytest.raises(ConfigError):
            shape()
        return
    padded = np.zeros(samples + n_fft * centred)
    frames = librosa.util.frame(padded, frame_length=n_fft, hop_length=hop).shape[-1]
    assert shape() == (2, frames, 1 + n_fft // 2)
    assert frames == (1 + samples // hop if centred else 1 + (samples - n_fft) // hop)


@pytest.mark.parametrize("block_bytes", [1, 50_000, 10**9])
@pytest.mark.parametrize(("samples", "centred"), [(5000, True), (5001, False), (300, True)])
def test_frames_do_not_depend_on_the_blocks_that_they_are_computed_in(monkeypatch, block_bytes, samples, centred):
    monkeypatch.setitem(frontend.BLOCK_BYTES, True, block_bytes)
    x = np.random.default_rng(0).normal(size=(2, samples)).astype(np.float32)
    ours = jax.jit(lambda x: frontend.stft(x, 256, 100, centred))(x)
    theirs = librosa.stft(x, n_fft=256, hop_length=100, center=centred)
    np.testing.assert_allclose(ours.swapaxes(1, 2), theirs, atol=1e-5 * np.abs(theirs).max())


def test_to_float_scales_int16_and_keeps_floats():
    np.testing.assert_array_equal(frontend.to_float(jnp.array([-32768, 0, 16384], jnp.int16)), [-1, 0, 0.5])
    np.testing.assert_array_equal(frontend.to_float(jnp.array([-2.5, 0.1], jnp.float32)), np.float32([-2.5, 0.1]))


def test_identity_divides_what_is_stored():
    x = features("identity", np.array([[-32768, 16384]], np.int16), divisor=32768.0)
    np.testing.assert_array_equal(x, np.float32([[[-1], [0.5]]]))


STFT = dict(n_fft=256, hop_samples=128, centred=True)
LOG_MEL = dict(sample_rate_hz=8000, mels=20, reference="max", top_db=80.0) | STFT
SETTINGS = {
    "identity": {},
    "log_mel": LOG_MEL,
    "log_spectrogram": dict(reference="max", top_db=80.0) | STFT,
    "mfcc": dict(coefficients=13) | LOG_MEL,
    "spectrogram_image": dict(height=33, width=20, range_db=80.0, divisor=-80.0) | STFT,
}


@pytest.mark.parametrize("name", SETTINGS)
def test_lower_precision_does_not_leak_in(name):
    """Audio in bfloat16, as a half-precision augmentation might leave it, counts as the same values in float32."""
    audio = jnp.asarray(np.random.default_rng(0).normal(size=(2, 2000)), jnp.bfloat16)
    ours, expected = (features(name, x, **SETTINGS[name]) for x in (audio, audio.astype(jnp.float32)))
    assert ours.dtype == jnp.float32
    np.testing.assert_allclose(ours, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("log_spectrogram", dict(hop_samples=257)),
        ("log_spectrogram", dict(hop_samples=0)),
        ("log_spectrogram", dict(n_fft=4096, centred=False)),
        ("log_mel", dict(reference="min")),
        ("log_mel", dict(reference=0.0)),
        ("log_mel", dict(top_db=-1.0)),
        ("mfcc", dict(coefficients=21)),
    ],
)
def test_what_cannot_be_computed_is_an_error(name, wrong):
    feature = names.function("frontend", "frontend", {"name": name} | SETTINGS[name] | wrong)
    with pytest.raises(ConfigError, match=next(reversed(wrong)) if "centred" not in wrong else "n_fft"):
        jax.eval_shape(lambda audio: feature(audio, jnp.array([2000])), jax.ShapeDtypeStruct((1, 2000), jnp.int16))


def test_every_scientific_value_is_asked_for():
    neutral = {"divisor", "normalise"}
    for name in SETTINGS:
        parameters = inspect.signature(getattr(frontend, name)).parameters.values()
        assert {p.name for p in parameters if p.default is not p.empty} <= neutral, name


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


def test_spectra_of_a_batch_over_devices_are_computed_where_it_lies():
    """No device gathers another's clips, with or without a replica axis, and the values stay."""
    code = """
import jax, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from audiojax import frontend, names
mesh = jax.make_mesh((2, 4), ("replica", "data"), axis_types=(AxisType.Auto,) * 2)
x = np.random.default_rng(0).normal(size=(2, 8, 3000)).astype(np.float32)
settings = dict(sample_rate_hz=8000, n_fft=256, hop_samples=100, centred=True, mels=20, reference=1.0, top_db=80.0)
for spec, x in ((PartitionSpec("data"), x[0]), (PartitionSpec("replica", "data"), x)):
    for feature in (lambda x: frontend.log_mel(x, None, **settings), lambda x: frontend.fft_resample(x, 1000)):
        function = jax.jit(feature if x.ndim == 2 else jax.vmap(feature))
        spread = jax.device_put(x, NamedSharding(mesh, spec))
        text = function.lower(spread).compile().as_text()
        print("all-gather" in text or "all-to-all" in text, np.abs(function(spread) - function(x)).max() < 1e-3)
"""
    done = run_on_eight_devices(code)
    assert done.stdout.split() == ["False", "True"] * 4, done.stdout + done.stderr


def test_spectra_have_gradients():
    x = jax.random.normal(jax.random.key(0), (2, 600))
    energy = lambda x: frontend._power(frontend.stft(x, n_fft=64, hop_samples=40)).sum()
    direction = jax.random.normal(jax.random.key(1), x.shape)
    slope = (energy(x + 1e-2 * direction) - energy(x - 1e-2 * direction)) / 2e-2
    np.testing.assert_allclose(jnp.vdot(jax.grad(energy)(x), direction), slope, rtol=1e-3)
