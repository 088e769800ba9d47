"""Recurrent layers: against Flax's cells and their own scans, by kernels, both ways, over devices and replicas."""

import subprocess
import sys
import types

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from audiojax.models import layers, recurrent_kernels, recurrent_layers
from tests.conftest import ROOT, run_on_eight_devices


def assert_same_function(ours, theirs, x):
    """In values and gradients."""
    ours, theirs = jax.jit(ours), jax.jit(theirs)
    np.testing.assert_allclose(ours(x), theirs(x), rtol=1e-5, atol=1e-6)
    gradient = lambda f: jax.jit(jax.grad(lambda x: (f(x) ** 2).sum()))(x)
    np.testing.assert_allclose(gradient(ours), gradient(theirs), rtol=1e-4, atol=1e-6)


def test_gru_equals_flax_gru_cell_in_values_and_gradients():
    x = jax.random.normal(jax.random.key(1), (3, 7, 5))
    layer = recurrent_layers.GRU(4, layers.initialiser("lecun_normal"), jnp.float32)
    params = layer.init(jax.random.key(0), x)["params"]
    params = jax.tree.map(lambda p: p + 0.1 * jax.random.normal(jax.random.key(p.size), p.shape), params)
    hidden = params["recurrent"]["hidden"]["kernel"]
    cell_params = {}
    gates = (jnp.split(w, 3, -1) for w in (params["input"]["kernel"], hidden, params["input"]["bias"]))
    for gate, (wi, wh, b) in zip("rzn", zip(*gates)):
        cell_params[f"i{gate}"] = {"kernel": wi, "bias": b}
        cell_params[f"h{gate}"] = {"kernel": wh}
    cell_params["hn"]["bias"] = params["recurrent"]["new_bias"]
    reference = flax.linen.RNN(flax.linen.GRUCell(4))

    assert_same_function(
        lambda x: layer.apply({"params": params}, x), lambda x: reference.apply({"params": {"cell": cell_params}}, x), x
    )


def test_lstm_equals_flax_lstm_cell_in_values_and_gradients():
    x = jax.random.normal(jax.random.key(1), (3, 7, 5))
    layer = recurrent_layers.LSTM(4, layers.initialiser("lecun_normal"), jnp.float32)
    params = layer.init(jax.random.key(0), x)["params"]
    input_kernel, bias = params["input"]["kernel"], params["input"]["bias"]
    hidden = params["recurrent"]["hidden"]["kernel"]
    cell_params = {}
    for gate, (wi, wh, b) in zip("ifgo", zip(*(jnp.split(w, 4, -1) for w in (input_kernel, hidden, bias)))):
        cell_params[f"i{gate}"] = {"kernel": wi}
        cell_params[f"h{gate}"] = {"kernel": wh, "bias": b}
    reference = flax.linen.RNN(flax.linen.LSTMCell(4))

    assert_same_function(
        lambda x: layer.apply({"params": params}, x), lambda x: reference.apply({"params": {"cell": cell_params}}, x), x
    )


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
@pytest.mark.parametrize(("dtype", "steps"), [("float32", 3), ("float64", 20)])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_recurrent_layers_compute_what_their_scans_define(cell, dtype, steps, backend, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)  # The loops for others can be run on a CPU too.
    with jax.enable_x64(dtype == "float64"):
        layer = recurrent_layers.recurrent(cell, 4, layers.initialiser("lecun_normal"), jnp.dtype(dtype))
        x = jax.random.normal(jax.random.key(1), (3, steps, 5), dtype)
        params = jax.jit(layer.init)(jax.random.key(0), x)["params"]
        params = jax.tree.map(
            lambda p: (p + 0.1 * jax.random.normal(jax.random.key(p.size), p.shape)).astype(dtype), params
        )
        scan = recurrent_layers.over_time({"lstm": recurrent_layers.LSTMStep, "gru": recurrent_layers.GRUStep}[cell])(
            4, jnp.dtype(dtype)
        )

        def defined(params, x):
            projected_TBG = x.swapaxes(0, 1) @ params["input"]["kernel"] + params["input"]["bias"]
            zeros = jnp.zeros((3, 4), dtype)
            start = (zeros, zeros) if cell == "lstm" else zeros
            return scan.apply({"params": params["recurrent"]}, start, projected_TBG)[1].swapaxes(0, 1)

        ours, defined = jax.jit(lambda params, x: layer.apply({"params": params}, x)), jax.jit(defined)
        gradient = lambda f: jax.jit(jax.grad(lambda *args: jnp.sin(3 * f(*args)).sum(), argnums=(0, 1)))(params, x)
        tolerance = dict(rtol=1e-4, atol=1e-5) if dtype == "float32" else dict(rtol=1e-10, atol=1e-12)
        close = lambda a, b: np.testing.assert_allclose(a, b, **tolerance)
        close(ours(params, x), defined(params, x))
        jax.tree.map(close, gradient(ours), gradient(defined))


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_gradients_of_many_steps_in_half_precision_are_those_in_float32(cell, backend, monkeypatch):
    """Sums in bfloat16 stop growing after some hundred addends."""
    x, weight = (jax.random.normal(jax.random.key(n), (4, 1300, size)) for n, size in ((1, 5), (2, 16)))

    def gradients(dtype, params=None):
        layer = recurrent_layers.Bidirectional(cell, 8, layers.initialiser("lecun_normal"), dtype)
        params = params or jax.jit(layer.init)(jax.random.key(0), x)
        loss = lambda params, x, weight: ((1 + weight) * layer.apply(params, x).astype(jnp.float32)).sum()
        return params, jax.jit(jax.grad(loss))(params, x, weight)

    params, exact = gradients(jnp.float32)
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    close = lambda a, b: np.testing.assert_allclose(np.linalg.norm(a - b), 0, atol=0.01 * np.linalg.norm(b))
    jax.tree.map(close, gradients(jnp.bfloat16, params)[1], exact)


@pytest.mark.parametrize("replicas", [False, True])
@pytest.mark.parametrize(("clips", "steps"), [(3, 5), (32, 1)])
def test_lstm_by_kernels_is_that_of_its_scan(clips, steps, replicas, monkeypatch):
    layer = recurrent_layers.LSTM(16, layers.initialiser("lecun_normal"), jnp.float32)
    x = jax.random.normal(jax.random.key(1), (2, clips, steps, 5))
    params = jax.jit(jax.vmap(layer.init))(jax.random.split(jax.random.key(0)), x)
    if not replicas:
        params, x = jax.tree.map(lambda leaf: leaf[0], (params, x))

    def both():
        apply = jax.vmap(layer.apply) if replicas else layer.apply
        # Gradients of 1e-6 are lost in half precision unless they are scaled.
        loss = lambda params, x: 1e-6 * jnp.sin(3 * apply(params, x)).sum()
        return jax.jit(lambda *own: (apply(*own), jax.grad(loss, argnums=(0, 1))(*own)))(params, x)

    expected = both()
    monkeypatch.setattr(recurrent_kernels, "serves", lambda features, dtype: True)
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=2e-3 * np.abs(b).max())  # As of 11 bits.
    jax.tree.map(close, both(), expected)


@pytest.mark.parametrize("size", [0.0, 1e-44, 1e-39, 1e-36, 1e30])
def test_gradients_by_kernels_vanish_and_grow_but_are_numbers(size):
    kernel, factors = jnp.ones((16, 64)) / 64, jnp.ones((3, 16, 96))
    grads = recurrent_kernels.backward(kernel, factors, jnp.full((3, 16, 16), size))
    assert jnp.isfinite(grads).all()
    np.testing.assert_allclose(grads[-1, 0, -16:], size, rtol=1e-6, atol=1e-37)


@pytest.mark.parametrize(
    ("kind", "capability", "served"),
    [
        ("cpu", "", ()),
        ("NVIDIA T4", "7.5", ()),
        ("NVIDIA A100", "8.0", (64, 128)),
        ("NVIDIA A10", "8.6", (64,)),
        ("NVIDIA H200", "9.0", (64, 128)),
        ("AMD Instinct MI300X", "9.4", ()),
    ],
)
def test_kernels_are_for_gpus_whose_multiprocessors_hold_the_weights(kind, capability, served, monkeypatch):
    device = types.SimpleNamespace(device_kind=kind, compute_capability=capability)
    monkeypatch.setattr(jax, "devices", lambda: [device])
    of = lambda dtype: tuple(n for n in (48, 64, 128, 256) if recurrent_kernels.serves(n, jnp.dtype(dtype)))
    assert of("float32") == served and of("bfloat16") == ()
    with jax.default_matmul_precision("highest"):
        assert of("float32") == ()
    two = jax.sharding.AbstractMesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    with jax.sharding.use_abstract_mesh(two):
        assert of("float32") == ()


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_both_ways_at_once_are_both_ways(cell, monkeypatch):
    layer = recurrent_layers.Bidirectional(cell, 4, layers.initialiser("lecun_normal"), jnp.float32)
    x = jax.random.normal(jax.random.key(1), (3, 6, 5))
    params = jax.jit(layer.init)(jax.random.key(0), x)
    expected = jax.jit(layer.apply)(params, x)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    np.testing.assert_allclose(jax.jit(lambda *own: layer.apply(*own))(params, x), expected, atol=1e-6)


def test_gradients_of_a_batch_over_devices_are_computed_where_it_lies():
    """No device gathers another's clips: kernels' gradients are summed over devices, never their factors."""
    code = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from audiojax.models import convolution_layers, layers, recurrent_layers
vars(convolution_layers).update(POINTS_BYTES=1, PATCHES_BYTES=1)  # A clip of each device takes a turn.
mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
init = layers.initialiser("lecun_normal")
recurrent = lambda cell: recurrent_layers.recurrent(cell, 4, init, jnp.float32)
for layer, shape in (
    (recurrent("lstm"), (8, 6, 5)),
    (recurrent("gru"), (8, 6, 5)),
    (convolution_layers.Conv(4, (3,)), (8, 6, 5)),
    (convolution_layers.Conv(4, (3, 3)), (8, 6, 6, 5)),
    (convolution_layers.Conv(64, (3,)), (8, 6, 64)),
    (convolution_layers.Conv(16, (3, 3)), (8, 6, 6, 16)),
    (convolution_layers.Conv(4, (3, 3), 2), (8, 6, 6, 5)),
    (convolution_layers.Conv(4, (3, 3)), (16, 6, 6, 5)),
    (convolution_layers.Conv(64, (3,)), (16, 6, 64)),
    (convolution_layers.Conv(4, (3, 3), 2), (16, 6, 6, 5)),
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


def test_loops_of_recurrent_layers_copy_no_more_than_a_step():
    """They write over their inputs, of one network as of replicas, on one device as on several."""
    code = """
import re
import jax, jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from audiojax.models import layers, recurrent_layers
STEPS = 37
layer = lambda cell: recurrent_layers.Bidirectional(cell, 8, layers.initialiser("lecun_normal"), jnp.float32)
mesh = jax.make_mesh((2, 4), ("replica", "data"), axis_types=(AxisType.Auto,) * 2)
for cell in ("lstm", "gru"):
    def loss(params, x):
        return (layer(cell).apply(params[1], layer(cell).apply(params[0], x)) ** 2).sum()
    x = jnp.zeros((4, 8, STEPS, 16))
    params = [jax.vmap(layer(cell).init, (0, None))(jax.random.split(jax.random.key(0), 4), x[0])] * 2
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
    assert done.stdout.split() == ["8", "0"] * 6, done.stdout + done.stderr  # There and back, of two layers each way.


REPLICAS_OF_AN_LSTM = """
import os
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
import jax
import jax.numpy as jnp
from audiojax.models import cnn

stages = (("recurrent", 128), ("recurrent", 128), ("last",))
own = dict(classes=9, output_bias=(0.0,) * 9, kernel_init="glorot_uniform", stages=stages, cell="lstm")
init = lambda key: cnn.Model(dtype=jnp.float32, **own).init(key, jnp.zeros((2, 4, 20)), train=False)
key_R = jax.random.split(jax.random.key(0), 3)
together = jax.jit(jax.vmap(init))(key_R)
for number, key in enumerate(key_R):
    jax.tree.map(lambda a, b: print(jnp.allclose(a[number], b, atol=1e-6)), together, jax.jit(init)(key))
"""


def test_weights_of_replicas_begin_as_those_of_single_networks_without_waiting_for_each_other():
    """With two threads, where JAX's factorisation of several matrices at once waits for itself forever."""
    command = [sys.executable, "-c", REPLICAS_OF_AN_LSTM]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.split() == ["True"] * 3 * 8  # replicas, parameters
