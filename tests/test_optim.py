import jax.numpy as jnp
import numpy as np
import optax
import pytest

from audiojax import optim
from audiojax.errors import ConfigError
from configs import common


def config(**values):
    section = common.base().optim
    section.update(values)
    return section


def run(optimiser, gradients, start=1.0):
    params = {"kernel": jnp.full((2, 2), start), "bias": jnp.full(2, start)}
    state, path = optimiser.init(params), []
    for gradient in gradients:
        grads = optax.tree.full_like(params, gradient)
        updates, state = optimiser.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        path.append(params)
    return params, state, path


def test_average_is_the_weighted_mean_of_the_visited_parameters():
    optimiser = optim.make(config(name="sgd", lr=0.1, average_decay=0.5), total_steps=3)
    params, state, path = run(optimiser, [1.0, 2.0, 3.0])
    weights = np.array([0.25, 0.5, 1.0]) / 1.75
    expected = sum(w * float(p["bias"][0]) for w, p in zip(weights, path))
    np.testing.assert_allclose(optim.evaluated_params(params, state)["bias"], expected, rtol=1e-6)


def test_without_average_the_parameters_themselves_are_evaluated():
    params, state, _ = run(optim.make(config(name="adam", lr=0.1), 3), [1.0])
    assert optim.evaluated_params(params, state) is params


def test_weight_decay_spares_biases():
    params, *_ = run(optim.make(config(name="sgd", lr=0.1, weight_decay=0.5), 1), [0.0])
    np.testing.assert_allclose(params["kernel"], 0.95)
    np.testing.assert_allclose(params["bias"], 1.0)


def test_warmup_rises_and_cosine_falls_to_zero():
    optimiser = optim.make(config(name="sgd", lr=1.0, schedule="cosine", warmup=0.2), total_steps=10)
    *_, path = run(optimiser, [1.0] * 10, start=0.0)
    steps = -np.diff([0.0] + [float(p["bias"][0]) for p in path])
    assert steps[0] == pytest.approx(0.5) and steps[1] == pytest.approx(np.cos(np.pi * 0.1) / 2 + 0.5)
    assert (np.diff(steps[2:]) < 0).all() and steps[-1] < 0.03


def test_clipping_bounds_the_whole_gradient():
    params, *_ = run(optim.make(config(name="sgd", lr=1.0, clip_norm=0.6), 1), [100.0], start=0.0)
    assert float(optax.tree.norm(params)) == pytest.approx(0.6, rel=1e-5)


@pytest.mark.parametrize("wrong", [{"name": "adamm"}, {"schedule": "cosin"}])
def test_unknown_names_are_refused(wrong):
    with pytest.raises(ConfigError, match="is unknown"):
        optim.make(config(lr=1.0, **wrong), 1)
