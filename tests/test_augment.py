import jax
import jax.numpy as jnp
import numpy as np
import pytest

from audiojax import augment
from audiojax.errors import ConfigError

KEY = jax.random.key(3)
X = jnp.asarray(np.random.default_rng(0).normal(size=(200, 16, 2)), jnp.float32)
LABEL = jnp.eye(200, dtype=jnp.uint8)


def test_roll_shifts_each_example_by_its_own_multiple_of_the_stride():
    rolled, label = augment.roll(KEY, X, LABEL, steps=2, stride=3)
    shifts = {
        next(s for s in range(-6, 7, 3) if np.array_equal(np.roll(X[i], s, axis=0), rolled[i])) for i in range(len(X))
    }
    assert shifts == {-6, -3, 0, 3, 6} and label is LABEL


def test_flip_polarity_flips_about_the_given_share():
    flipped, _ = augment.flip_polarity(KEY, X, LABEL, probability=0.25)
    signs = np.sign((flipped * X).sum((1, 2)))
    np.testing.assert_allclose(np.abs(flipped), np.abs(X))
    assert 0.15 < (signs < 0).mean() < 0.35


def test_mixup_mixes_inputs_and_labels_by_the_same_weight():
    mixed, label = augment.mixup(KEY, X, LABEL, alpha=1.0)
    np.testing.assert_allclose(label.sum(1), 1, rtol=1e-5)
    np.testing.assert_allclose(jnp.einsum("bk,ktf->btf", label, X), mixed, atol=1e-5)
    assert (jnp.diagonal(label) >= 0.5).all() and len(np.unique(label.max(1))) > 100


def test_permuted_steps_are_the_same_steps():
    permuted, _ = augment.permute_steps(KEY, X, LABEL)
    np.testing.assert_array_equal(np.sort(permuted, axis=1), np.sort(X, axis=1))
    assert not np.array_equal(permuted, X)


@pytest.mark.parametrize("shape", [(200, 64), (200, 16, 2), (200, 8, 4, 1)], ids=["waveform", "features", "image"])
@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("roll", dict(steps=2, stride=1)),
        ("flip_polarity", dict(probability=0.5)),
        ("mixup", dict(alpha=1.0)),
    ],
)
def test_each_example_is_changed_as_one_whatever_its_shape(name, config, shape):
    """Examples that are constant within stay so: no value of one is drawn apart from the rest of it."""
    x = jnp.broadcast_to(1 + jnp.arange(200.0).reshape(-1, *[1] * (len(shape) - 1)), shape)
    changed, label = jax.jit(lambda x: getattr(augment, name)(KEY, x, LABEL, **config))(x)
    assert changed.shape[2:] == shape[2:] and label.shape == LABEL.shape
    flat = changed.reshape(200, -1)
    np.testing.assert_array_equal(flat, np.broadcast_to(flat[:, :1], flat.shape))


def test_mixup_of_class_numbers_is_an_error():
    with pytest.raises(ConfigError, match="one-hot"):
        augment.mixup(KEY, X, jnp.arange(200), alpha=1.0)


def test_spec_augment_puts_the_mean_in_spans_of_every_width_up_to_the_greatest():
    x = jnp.asarray(np.random.default_rng(0).normal(3, 1, size=(2000, 20, 12)), jnp.float32)
    options = dict(time_masks=1, time_width=5, frequency_masks=1, frequency_width=3)
    masked, label = augment.spec_augment(KEY, x, LABEL, **options)
    assert label is LABEL
    hidden = np.asarray(masked != x)
    fill = np.broadcast_to(x.mean((1, 2), keepdims=True), x.shape)
    np.testing.assert_allclose(masked[hidden], fill[hidden], rtol=1e-5)
    for spans, greatest in ((hidden.all(2), 5), (hidden.all(1), 3)):
        widths = spans.sum(1)
        starts = (np.diff(spans.astype(int), axis=1, prepend=0) == 1).sum(1)
        assert (starts == (widths > 0)).all(), "a mask is one span"
        share = np.bincount(widths, minlength=greatest + 1) / len(x)
        np.testing.assert_allclose(share, 1 / (greatest + 1), atol=0.04)
        assert spans[:, 0].any() and spans[:, -1].any()
    np.testing.assert_array_equal(hidden, hidden.all(2)[:, :, None] | hidden.all(1)[:, None, :])


def test_spec_augment_of_an_image_is_that_of_its_transpose():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(50, 20, 12)), jnp.float32)
    options = dict(time_masks=2, time_width=5, frequency_masks=1, frequency_width=3)
    masked, _ = augment.spec_augment(KEY, x, LABEL, **options)
    of_image, _ = augment.spec_augment(KEY, x.swapaxes(1, 2)[..., None], LABEL, **options)
    np.testing.assert_allclose(of_image[..., 0].swapaxes(1, 2), masked, rtol=1e-5, atol=1e-6)


def test_spec_augment_draws_each_mask_of_its_own_and_none_where_none_are_asked_for():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(500, 40, 4)), jnp.float32)
    masked, _ = augment.spec_augment(KEY, x, LABEL, time_masks=3, time_width=4, frequency_masks=0, frequency_width=2)
    spans = np.asarray(masked != x).all(2)
    np.testing.assert_array_equal(spans, np.asarray(masked != x).any(2))
    assert spans.sum(1).max() > 8 and (np.diff(spans.astype(int), axis=1, prepend=0) == 1).sum(1).max() == 3
    with pytest.raises(ConfigError, match="41"):
        augment.spec_augment(KEY, x, LABEL, time_masks=1, time_width=41, frequency_masks=0, frequency_width=0)


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("spec_augment", dict(time_masks=2, time_width=5, frequency_masks=1, frequency_width=1)),
        ("mixup", dict(alpha=0.4)),
    ],
)
def test_replicas_draw_what_each_would_alone(name, config):
    """vmap over keys, as over replicas, equals one call a key."""
    keys = jax.random.split(KEY, 2)
    change = jax.jit(lambda key: getattr(augment, name)(key, X, LABEL, **config)[0])
    together = jax.jit(jax.vmap(change))(keys)
    for i in range(2):
        np.testing.assert_allclose(together[i], change(keys[i]), rtol=1e-6, atol=1e-6)
    assert not np.array_equal(together[0], together[1])
