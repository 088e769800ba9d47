"""The autoencoder's step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from audiojax.errors import ConfigError
from audiojax.tasks.autoencoder import Task
from tests.conftest import config_of

SMALL = dict(frontend__height=33, frontend__width=21, model__filters=(4, 6), model__latent=8, optim__lr=1e-3)

# Loss and gradient norm of two steps from seed 0 on the batch below. Update them when a change to the network, the
# initialisation or the front end is intended; never to make a refactoring pass.
GOLDEN = [1.084646, 2.49488, 1.021069, 2.386878]


def batch():
    rng = np.random.default_rng(0)
    audio = rng.integers(-3000, 3000, (4, 8000)).astype(np.int16)
    return {
        "input": jnp.asarray(audio),
        "length": jnp.array([8000, 3000, 8000, 5000]),
        "label": jnp.zeros(4, jnp.int32),
        "weight": jnp.ones(4),
    }


def task_of(**overrides):
    return Task(config_of("ntu_freesound", "autoencoder", **SMALL | overrides), np.full(41, 1 / 41), total_steps=10)


def test_golden_numbers_of_two_steps():
    task, values = task_of(), []
    state, train_step = jax.jit(task.init)(jax.random.key(0), {}, batch()), jax.jit(task.train_step)
    for step in range(2):
        state, logs = train_step(state, batch(), jax.random.key(step))
        values += [float(logs["loss"]), float(logs["grad_norm"])]
    np.testing.assert_allclose(values, GOLDEN, rtol=2e-4)


def test_loss_is_the_mean_squared_error_of_the_reconstruction():
    task = task_of()
    state = jax.jit(task.init)(jax.random.key(0), {}, batch())
    params, model_state = task.evaluated(state)
    image, latent, output = task.encode(params, model_state, batch())
    assert image.shape == output.shape == (4, 33, 21, 1) and latent.shape == (4, 8)
    found = task.eval_step(params, model_state, batch())
    assert found.keys() == {"loss"}
    np.testing.assert_allclose(found["loss"], np.square(image - output).reshape(4, -1).mean(1), rtol=1e-5)


def test_training_lowers_the_loss():
    task = task_of(optim__lr=1e-2)
    state, train_step = jax.jit(task.init)(jax.random.key(0), {}, batch()), jax.jit(task.train_step)
    losses = []
    for step in range(60):
        state, logs = train_step(state, batch(), jax.random.key(step))
        losses.append(float(logs["loss"]))
    assert losses[-1] < losses[0] / 20


def test_another_loss_is_refused():
    with pytest.raises(ConfigError, match="task.loss='softmax_cross_entropy' of an autoencoder must be mean_squared"):
        task_of(task__loss="softmax_cross_entropy")
