"""Layers that several networks share: what is computed apart, batch normalisation."""

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from audiojax.models import layers


def test_what_is_computed_apart_is_computed_once():
    def four_times(compute):
        used = lambda x: jnp.repeat(compute(x), 4)
        return jax.jit(used).lower(jnp.ones(1000)).compile().as_text()

    summed = lambda x: x[1:] + x[:-1]
    assert "f32[999]{0} call(" in four_times(layers.apart(summed)) and "call(" not in four_times(summed)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("shape", [(8, 3), (4, 5, 3), (4, 5, 6, 3)])
def test_batch_normalisation_is_that_of_flax_with_its_gradients(shape, dtype):
    x = 3 + 2 * jax.random.normal(jax.random.key(0), shape)
    variables = {
        "params": {"scale": jnp.array([1.0, -2, 3]), "bias": jnp.array([0.0, 1, -1])},
        "batch_stats": {"mean": jnp.array([0.0, 1, 2]), "var": jnp.array([1.0, 2, 3])},
    }

    def results(norm):
        def loss(params, x, average):
            layer = norm(use_running_average=average, momentum=0.9, dtype=jnp.dtype(dtype))
            y, changed = layer.apply(variables | {"params": params}, x, mutable=["batch_stats"])
            return jnp.sin(y.astype(jnp.float32)).sum(), (y, changed)

        gradient = jax.grad(loss, argnums=(0, 1), has_aux=True)
        return [gradient(variables["params"], x, average) for average in (False, True)]

    tolerance = dict(rtol=1e-5, atol=1e-5) if dtype == "float32" else dict(rtol=0.02, atol=0.02)
    close = lambda a, b: np.testing.assert_allclose(a, b, **tolerance)
    jax.tree.map(close, results(layers.BatchNorm), results(flax.linen.BatchNorm))


def test_activations_are_those_of_flax_and_others_are_named():
    x = jnp.linspace(-2, 2, 12).reshape(3, 4)
    for name in layers.ACTIVATIONS:
        assert layers.activation(name)(x).shape == x.shape
    for name in ("rleu", "Dense", "one_hot", "", 5):
        with pytest.raises(ValueError, match=f"no activation {name!r}; activations: celu, elu"):
            layers.activation(name)
