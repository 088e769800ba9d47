import jax
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


def test_average_weighs_trees_by_age():
    average, decay = optim.start_average({"mean": jnp.zeros(2)}), 0.5
    for value in (1.0, 2.0, 3.0):
        average = optim.add_to_average(average, {"mean": jnp.full(2, value)}, decay)
    mean = optim.averaged(average, {"mean": jnp.full(2, np.nan)})["mean"]
    np.testing.assert_allclose(mean, np.average([1, 2, 3], weights=[0.25, 0.5, 1]), rtol=1e-6)


def test_an_empty_average_is_replaced():
    np.testing.assert_array_equal(optim.averaged(optim.start_average(jnp.zeros(2)), jnp.arange(2.0)), [0, 1])


def test_average_forgets_over_its_share_of_the_steps():
    decay = optim.average_decay(config(average_share=0.1), total_steps=200)
    assert decay**20 == pytest.approx(np.exp(-1))


def random_tree(key, scale):
    kernel_key, bias_key = jax.random.split(key)
    return {"kernel": scale * jax.random.normal(kernel_key, (5, 3)), "bias": scale * jax.random.normal(bias_key, (3,))}


def test_clipping_is_that_of_optax():
    ours, theirs = optim.clip(0.7), optax.clip_by_global_norm(0.7)
    keys = jax.random.split(jax.random.key(0), (4, 2))  # steps, replicas
    scales = [1e-4, 1.0, 30.0, 0.0]
    states = [jax.vmap(each.init)(jax.vmap(random_tree, (0, None))(keys[0], 1.0)) for each in (ours, theirs)]
    for key, scale in zip(keys, scales):
        grads = jax.vmap(random_tree, (0, None))(key, scale)
        (updates, states[0]), (expected, states[1]) = (
            jax.jit(jax.vmap(each.update))(grads, state) for each, state in zip((ours, theirs), states)
        )
        for leaf, as_theirs in zip(jax.tree.leaves(updates), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(leaf, as_theirs, rtol=2e-5, atol=1e-9)


def test_norm_is_of_all_leaves_together():
    tree = random_tree(jax.random.key(1), 3.0)
    leaves = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])
    assert float(optim.norm(tree)) == pytest.approx(np.linalg.norm(leaves), rel=1e-6)


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
