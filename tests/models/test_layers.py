"""Layers that several networks share: against flax's, in half precision, over devices and replicas."""

import subprocess
import sys

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from audiojax.models import cgan, gcnn, layers
from tests.conftest import ROOT, run_on_eight_devices


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


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (lambda dtype: layers.Dense(8, dtype=dtype), (4, 10_000, 3)),
        (lambda dtype: layers.Conv(8, (3,), dtype=dtype), (4, 10_000, 3)),
        (lambda dtype: layers.Conv(8, (3, 3), dtype=dtype), (4, 100, 100, 3)),
        (lambda dtype: cgan.TransposedConv(dtype, "glorot_uniform", 8, 3, 4), (4, 2500, 3)),
    ],
    ids=["dense", "conv1d", "conv2d", "transposed"],
)
def test_gradients_of_many_places_in_half_precision_are_those_in_float32(layer, shape):
    """A sum in bfloat16 stops growing after some hundred addends."""
    x = jax.random.normal(jax.random.key(1), shape)
    params = jax.jit(layer(jnp.float32).init)(jax.random.key(0), x)
    out = jax.eval_shape(layer(jnp.bfloat16).apply, params, x)
    assert out.dtype == jnp.bfloat16
    weight = 1 + jax.random.normal(jax.random.key(2), out.shape)

    def gradients(dtype):
        loss = lambda params, x, weight: (weight * layer(dtype).apply(params, x).astype(jnp.float32)).sum()
        return jax.jit(jax.grad(loss))(params, x, weight)

    close = lambda a, b: np.testing.assert_allclose(np.linalg.norm(a - b), 0, atol=0.005 * np.linalg.norm(b))
    jax.tree.map(close, gradients(jnp.bfloat16), gradients(jnp.float32))


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_both_directions_in_one_loop_are_both_directions(cell, monkeypatch):
    layer = gcnn.Bidirectional(jnp.float32, "lecun_normal", cell, 4)
    x = jax.random.normal(jax.random.key(1), (3, 6, 5))
    params = jax.jit(layer.init)(jax.random.key(0), x)
    expected = jax.jit(layer.apply)(params, x)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    np.testing.assert_allclose(jax.jit(lambda *args: layer.apply(*args))(params, x), expected, atol=1e-6)


@pytest.mark.slow
def test_gradients_of_a_batch_over_devices_gather_no_clips():
    """Devices sum the gradients of the kernels, and never gather the factors of these."""
    code = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from audiojax.models import gcnn, layers
from audiojax.ops import convolution
vars(convolution).update(WINOGRAD_BYTES=1, IM2COL_BYTES=1)  # A chunk has one clip of each device.
mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
init = layers.initialiser("lecun_normal")
recurrent = lambda cell: {"lstm": layers.LSTM, "gru": layers.GRU}[cell](4, init, jnp.float32)
for layer, shape in (
    (recurrent("lstm"), (8, 6, 5)),
    (recurrent("gru"), (8, 6, 5)),
    (layers.Conv(4, (3,)), (8, 6, 5)),
    (layers.Conv(4, (3, 3)), (8, 6, 6, 5)),
    (layers.Conv(64, (3,)), (8, 6, 64)),
    (layers.Conv(16, (3, 3)), (8, 6, 6, 16)),
    (layers.Conv(4, (3, 3), 2), (8, 6, 6, 5)),
    (layers.Conv(4, (3, 3)), (16, 6, 6, 5)),
    (layers.Conv(64, (3,)), (16, 6, 64)),
    (layers.Conv(4, (3, 3), 2), (16, 6, 6, 5)),
):
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    params = layer.init(jax.random.key(0), x)
    def loss(params, x):
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            return (layer.apply(params, x) ** 2).sum()
    gradient = jax.jit(jax.grad(loss))
    spread = jax.device_put(x, NamedSharding(mesh, PartitionSpec("data")))
    text = gradient.lower(params, spread).compile().as_text()
    same = jax.tree.map(lambda a, b: np.allclose(a, b, atol=1e-4), gradient(params, spread), gradient(params, x))
    print("all-gather" in text or "all-to-all" in text, all(jax.tree.leaves(same)))
"""
    done = run_on_eight_devices(code)
    assert done.stdout.split() == ["False", "True"] * 10, done.stdout + done.stderr


@pytest.mark.slow
def test_loops_of_lstms_copy_no_more_than_a_step():
    """They write over their inputs, for one network and for replicas, on one device and on several."""
    code = """
import re
import jax, jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from audiojax.models import gcnn, layers
STEPS = 37
layer = gcnn.Bidirectional(jnp.float32, "lecun_normal", "lstm", 8)
mesh = jax.make_mesh((2, 4), ("replica", "data"), axis_types=(AxisType.Auto,) * 2)
def loss(params, x):
    return (layer.apply(params[1], layer.apply(params[0], x)) ** 2).sum()
x = jnp.zeros((4, 8, STEPS, 16))
params = [jax.vmap(layer.init, (0, None))(jax.random.split(jax.random.key(0), 4), x[0])] * 2
first = lambda tree: jax.tree.map(lambda leaf: leaf[0], tree)
put = lambda tree, *axes: jax.device_put(tree, NamedSharding(mesh, PartitionSpec(*axes)))
gradient, gradients = jax.grad(loss), jax.vmap(jax.grad(loss))
spread = put(params, "replica"), put(x, "replica", "data")
for function, args in ((gradient, first((params, x))), (gradients, (params, x)), (gradients, spread)):
    text = jax.jit(function).lower(*args).compile().as_text()
    bodies = set(re.findall(r"body=%([\\w.]+)", text))
    loops = [part for part in text.split("\\n\\n") if part.split(" ")[0].strip("%\\n") in bodies]
    print(len(loops), len(re.findall(rf"= f32.[^ ]*\\b{STEPS}\\b[^ ]* copy", "".join(loops))))
"""
    done = run_on_eight_devices(code)
    # Forward and backward passes of two layers in two directions.
    assert done.stdout.split() == ["8", "0"] * 3, done.stdout + done.stderr


REPLICAS_OF_AN_LSTM = """
import os
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
import jax
import jax.numpy as jnp
from audiojax.models import cnn

stages = (("recurrent", 128), ("recurrent", 128), ("last",))
options = dict(classes=9, output_bias=(0.0,) * 9, kernel_init="glorot_uniform", stages=stages, cell="lstm")
init = lambda key: cnn.Model(dtype=jnp.float32, **options).init(key, jnp.zeros((2, 4, 20)), train=False)
key_R = jax.random.split(jax.random.key(0), 3)
together = jax.jit(jax.vmap(init))(key_R)
for number, key in enumerate(key_R):
    jax.tree.map(lambda a, b: print(jnp.allclose(a[number], b, atol=1e-6)), together, jax.jit(init)(key))
"""


def test_replicas_begin_with_the_weights_of_single_networks_without_a_deadlock():
    """On two threads, where JAX's factorisation of several matrices at once deadlocks."""
    command = [sys.executable, "-c", REPLICAS_OF_AN_LSTM]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.split() == ["True"] * 3 * 8  # replicas, parameters
