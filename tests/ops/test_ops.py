"""The switch to plain definitions, derivatives of fast operations, and what they are built of."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from audiojax import ops
from audiojax.errors import ConfigError
from audiojax.ops import convolution, norm, recurrent

CONV_1D = {"dimension_numbers": ("NWC", "WIO", "NWC"), "lhs_dilation": (1,), "rhs_dilation": (1,)}
CONV_2D = {"dimension_numbers": ("NHWC", "HWIO", "NHWC"), "lhs_dilation": (1, 1), "rhs_dilation": (1, 1)}
CONV_1D["feature_group_count"] = CONV_2D["feature_group_count"] = 1
conv_1d = lambda x, kernel: convolution.convolve(x, kernel, (1,), "SAME", **CONV_1D)
conv_2d = lambda x, kernel: convolution.convolve(x, kernel, (1, 1), "SAME", **CONV_2D)
OPS = {  # an operation and the shapes of its arguments
    "winograd": (conv_1d, ((2, 5, 8), (3, 8, 64))),
    "im2col": (conv_1d, ((2, 5, 1), (3, 1, 4))),
    "by_rows": (conv_2d, ((2, 4, 5, 2), (3, 3, 2, 3))),
    "lstm": (recurrent.lstm, ((4, 2, 3), (3, 8), (8,), (2, 8))),
    "batch_norm": (lambda *args: norm.batch_norm(*args)[0], ((4, 3), (3,), (3,))),
}


def arguments(shapes):
    return [jax.random.normal(jax.random.key(number), shape) for number, shape in enumerate(shapes)]


def results(op, args):
    """Outputs and gradients of all arguments."""
    gradient = jax.grad(lambda *args: jnp.sin(op(*args)).sum(), range(len(args)))
    return jax.jit(lambda *args: (op(*args), gradient(*args)))(*args)


def program(function, *args):
    return jax.jit(function).lower(*args).as_text()


@pytest.mark.parametrize("name", OPS)
def test_fast_operations_have_the_values_and_gradients_of_plain_ones(name):
    op, shapes = OPS[name]
    args = arguments(shapes)
    fast = results(op, args)
    with ops.plain():
        plain = results(op, args)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), fast, plain)


@pytest.mark.slow
@pytest.mark.parametrize("name", OPS)
def test_second_derivatives_are_those_of_plain_definitions(name):
    op, shapes = OPS[name]
    args = arguments(shapes)

    def squared_gradient(*args):
        """A gradient penalty."""
        gradient = jax.grad(lambda *args: jnp.sin(op(*args)).sum(), range(len(args)))(*args)
        return sum((g**2).sum() for g in gradient)

    second = jax.jit(jax.grad(squared_gradient, range(len(args))))
    fast = second(*args)
    with ops.plain():
        plain = second(*args)
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4 * float(jnp.abs(b).max()))
    jax.tree.map(close, fast, plain)


@pytest.mark.parametrize("name", OPS)
def test_plain_definitions_are_traced_where_they_are_asked_for(name, monkeypatch):
    op, shapes = OPS[name]
    args = arguments(shapes)
    gradient = jax.grad(lambda *args: op(*args).sum())
    fast = program(gradient, *args)
    with ops.plain():
        plain = program(gradient, *args)
        assert jnp.isfinite(jax.jvp(op, args, args)[1]).all()  # Fast operations have no forward mode.
    assert fast != plain and program(gradient, *args) == fast
    monkeypatch.setenv("AUDIOJAX_OPS", "plain")
    assert program(lambda *args: gradient(*args), *args) == plain
    monkeypatch.delenv("AUDIOJAX_OPS")
    monkeypatch.setattr(jax, "default_backend", lambda: "neuron")
    assert program(lambda *args: gradient(*args), *args) == plain


def test_plain_convolution_is_one_operation_of_xla():
    with ops.plain():
        assert "stablehlo.convolution" in program(conv_2d, *arguments(OPS["by_rows"][1]))
    assert "stablehlo.convolution" not in program(conv_2d, *arguments(OPS["by_rows"][1]))


def test_another_choice_of_operations_is_refused(monkeypatch):
    monkeypatch.setenv("AUDIOJAX_OPS", "plian")
    with pytest.raises(ConfigError, match="AUDIOJAX_OPS='plian' is unknown; set it to 'plain' or 'fast'"):
        norm.batch_norm(*arguments(OPS["batch_norm"][1]))


def test_a_third_derivative_exists():
    cube = ops.with_gradient(lambda x: x**3, lambda x: (x**3, x), lambda args, x, grad: (3 * x**2 * grad,))
    assert jax.grad(jax.grad(jax.grad(cube)))(2.0) == 6


def test_what_is_compiled_once_is_not_inlined():
    def used_four_times(compute):
        return jax.jit(lambda x: jnp.repeat(compute(x), 4)).lower(jnp.ones(1000)).compile().as_text()

    summed = lambda x: x[1:] + x[:-1]
    assert "f32[999]{0} call(" in used_four_times(ops.compiled_once(summed))
    assert "call(" not in used_four_times(summed)


def test_elements_are_computed_one_by_one():
    shapes = []

    def double(x):
        shapes.append(x.shape)
        return 2 * x

    np.testing.assert_array_equal(
        jax.vmap(ops.one_by_one(double))(jnp.arange(6.0).reshape(3, 2)), [[0, 2], [4, 6], [8, 10]]
    )
    assert {*shapes} == {(2,)}
