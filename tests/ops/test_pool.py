"""Max-pooling against flax's, its derivatives of every order."""

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from audiojax.ops.pool import max_pool


@pytest.mark.parametrize("shape", [(2, 11, 3), (2, 11, 9, 3)])
def test_max_pool_equals_flax_and_drops_the_remainder(shape):
    x = jax.random.normal(jax.random.key(0), shape)
    window = (4,) * (len(shape) - 2)
    np.testing.assert_array_equal(max_pool(x, 4), flax.linen.max_pool(x, window, strides=window))


def test_derivatives_of_every_order_and_mode_are_those_of_the_maximum():
    x = jax.random.normal(jax.random.key(0), (1, 4, 2))
    pooled = lambda x: (max_pool(x, 2) ** 3).sum()
    expected = lambda x: (x.reshape(1, 2, 2, 2).max(2) ** 3).sum()
    for derivative in (jax.grad, jax.jacfwd, jax.hessian):
        np.testing.assert_allclose(derivative(pooled)(x), derivative(expected)(x), rtol=1e-5)


def test_the_gradient_goes_to_the_first_of_equal_values():
    gradient = jax.grad(lambda x: max_pool(x, 3).sum())(jnp.array([[[0.0], [2], [2], [5], [5], [5]]]))
    np.testing.assert_array_equal(gradient[0, :, 0], [0, 1, 0, 1, 0, 0])


def test_an_input_narrower_than_a_window_is_refused():
    with pytest.raises(ValueError, match="2 steps are left for a pool of 3; take longer inputs or fewer pools"):
        max_pool(jnp.zeros((1, 2, 1)), 3)
