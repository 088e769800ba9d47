"""LSTM and GRU against flax's cells, the fast LSTM against its plain definition, the GPU kernels."""

import types
import warnings

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from audiojax import ops
from audiojax.ops import kernels, recurrent

CELLS = {"lstm": (recurrent.lstm, 4), "gru": (recurrent.gru, 3)}  # with their numbers of gates


def arguments(cell, shape=(7, 3, 5), features=4, dtype=jnp.float32):
    """Inputs [T, B, F] and weights of a cell."""
    gates = CELLS[cell][1]
    shapes = [shape, (shape[-1], gates * features), (gates * features,), (features, gates * features), (features,)]
    scales = [1, *[features**-0.5] * 4]
    args = [s * jax.random.normal(jax.random.key(n), shape, dtype) for n, (s, shape) in enumerate(zip(scales, shapes))]
    return args[: 4 if cell == "lstm" else 5]


def results(function, args):
    """Outputs and gradients of all arguments."""
    gradient = jax.grad(lambda *args: jnp.sin(3 * function(*args).astype(jnp.float32)).sum(), range(len(args)))
    return jax.jit(lambda *args: (function(*args), gradient(*args)))(*args)


def assert_close(ours, theirs, **tolerance):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerance), ours, theirs)


@pytest.mark.parametrize("cell", CELLS)
def test_cells_are_those_of_flax_in_values_and_gradients(cell):
    args = arguments(cell)

    def by_flax(x_TBF, input_kernel, bias, kernel, new_bias=None):
        params = {}
        for gate, *weights in zip(
            "ifgo" if cell == "lstm" else "rzn",
            *(jnp.split(w, CELLS[cell][1], -1) for w in (input_kernel, bias, kernel)),
        ):
            on_input, bias, on_hidden = weights
            params[f"i{gate}"], params[f"h{gate}"] = {"kernel": on_input}, {"kernel": on_hidden}
            params[f"{'h' if cell == 'lstm' else 'i'}{gate}"]["bias"] = bias
        if cell == "gru":
            params["hn"]["bias"] = new_bias
        reference = flax.linen.RNN({"lstm": flax.linen.LSTMCell, "gru": flax.linen.GRUCell}[cell](4), time_major=True)
        return reference.apply({"params": {"cell": params}}, x_TBF)

    assert_close(results(CELLS[cell][0], args), results(by_flax, args), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
@pytest.mark.parametrize(("dtype", "steps"), [("float32", 3), ("float64", 20)])
def test_the_fast_lstm_computes_its_plain_definition(dtype, steps, backend, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)  # The loops of other back ends run on CPU too.
    with jax.enable_x64(dtype == "float64"):
        args = arguments("lstm", (steps, 3, 5), dtype=jnp.dtype(dtype))
        fast = results(recurrent.lstm, args)
        with ops.plain():
            plain = results(recurrent.lstm, args)
        exact = dtype == "float64"
        assert_close(fast, plain, rtol=1e-10 if exact else 1e-4, atol=1e-12 if exact else 1e-5)


@pytest.mark.parametrize("way", ["cpu", "gpu", "plain"])
@pytest.mark.parametrize("cell", CELLS)
def test_gradients_of_many_steps_in_half_precision_are_those_in_float32(cell, way, monkeypatch):
    """A sum in bfloat16 stops growing after some hundred addends."""
    args = arguments(cell, (1300, 4, 5), features=8)
    weight = 1 + jax.random.normal(jax.random.key(9), (1300, 4, 8))

    def gradients(dtype):
        loss = lambda *args: (weight * CELLS[cell][0](*args).astype(jnp.float32)).sum()
        cast = lambda *args: loss(*(x.astype(dtype) for x in args))
        return jax.jit(jax.grad(cast, range(len(args))))(*args)

    exact = gradients(jnp.float32)
    if way == "plain":
        monkeypatch.setenv("AUDIOJAX_OPS", "plain")
    else:
        monkeypatch.setattr(jax, "default_backend", lambda: way)
    for ours, true in zip(gradients(jnp.bfloat16), exact):
        assert np.linalg.norm(ours - true) <= 0.01 * np.linalg.norm(true)


@pytest.fixture
def with_kernels(monkeypatch):
    """Interprets the GPU kernels on CPU."""
    monkeypatch.setattr(kernels, "serves", lambda features, dtype: True)
    recurrent.kernels_agree.cache_clear()
    yield
    recurrent.kernels_agree.cache_clear()


@pytest.mark.parametrize("replicas", [False, True])
@pytest.mark.parametrize(("clips", "steps"), [(3, 5), (32, 1)])
def test_the_lstm_by_kernels_is_the_plain_one(clips, steps, replicas, with_kernels):
    args = arguments("lstm", (steps, clips, 5), features=16)
    function = recurrent.lstm
    if replicas:
        args, function = [jnp.stack([x, 1.1 * x]) for x in args], jax.vmap(recurrent.lstm)
    # Gradients of 1e-6 would vanish in half precision if they were not scaled.
    small = lambda *args: 1e-6 * function(*args)
    with warnings.catch_warnings(action="error"):
        ours = results(small, args)
    assert recurrent.kernels_agree.cache_info().misses == 1
    with ops.plain():
        plain = results(small, args)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(plain)):
        np.testing.assert_allclose(a, b, rtol=0, atol=2e-3 * np.abs(b).max())  # of products with 11 bits
    assert any((a != b).any() for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(plain)))


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        (lambda gates, kernel: 1 / 0, "they do not compile: ZeroDivisionError: division by zero"),
        (lambda gates, kernel: (gates[..., :16], gates[..., :16]), "they differ from the plain LSTM by"),
        (lambda gates, kernel: (jnp.nan * gates[..., :16],) * 2, "they differ from the plain LSTM by nan"),
    ],
    ids=["raises", "wrong", "nan"],
)
def test_kernels_that_fail_or_disagree_are_not_used_and_a_warning_says_so_once(
    broken, sentence, with_kernels, monkeypatch
):
    args = arguments("lstm", features=16)
    with ops.plain():
        expected = results(recurrent.lstm, args)
    monkeypatch.setattr(kernels, "forward", broken)
    with pytest.warns(UserWarning, match=f"LSTM layers of 16 units run without their GPU kernels: {sentence}"):
        ours = results(recurrent.lstm, args)
    assert_close(ours, expected, rtol=1e-4, atol=1e-5)
    with warnings.catch_warnings(action="error"):
        jax.jit(lambda *args: recurrent.lstm(*args))(*args)


@pytest.mark.parametrize("size", [0.0, 1e-44, 1e-39, 1e-36, 1e30])
def test_gradients_by_kernels_vanish_and_grow_but_are_numbers(size):
    kernel, slopes = jnp.ones((16, 64)) / 64, jnp.ones((3, 16, 96))
    grads = kernels.backward(kernel, slopes, jnp.full((3, 16, 16), size))
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
    sizes = lambda dtype: tuple(n for n in (48, 64, 128, 256) if kernels.serves(n, jnp.dtype(dtype)))
    assert sizes("float32") == served and sizes("bfloat16") == ()
    with jax.default_matmul_precision("highest"):
        assert sizes("float32") == ()
    two = jax.sharding.AbstractMesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    with jax.sharding.use_abstract_mesh(two):
        assert sizes("float32") == ()
