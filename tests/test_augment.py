import jax
import jax.numpy as jnp
import numpy as np

from audiojax import augment

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
