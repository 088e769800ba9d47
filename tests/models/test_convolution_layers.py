"""Convolutions are those of JAX and flax, in values and gradients, however they are done."""

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from audiojax.models import convolution_layers, layers

TURNS = [(12, 480, 1, 4), (12, 96, 1, 1), (12, 1, 1, 1), (12, 1200, 1, 12), (7, 480, 1, 1)]
TURNS += [(12, 480, 3, 3), (12, 1, 4, 4), (12, 480, 8, 4), (1, 1, 2, 1)]  # Of 8 devices 4 share twelve clips evenly.


@pytest.mark.parametrize(
    ("padding", "in_turns"), [("SAME", False), ("VALID", False), (((2, 1),), False), (((2, 1),), True)]
)
@pytest.mark.parametrize(
    ("steps", "channels", "kernel", "strides"),
    [
        *[((9,), 1, 3, (2,)), ((9,), 3, 2, (1,)), ((9,), 4, 3, (2,)), ((8, 7), 1, 2, (1, 1)), ((8, 7), 3, 1, (2, 1))],
        *[((8, 7), 3, 3, strides) for strides in ((1, 1), (1, 2), (2, 2), (3, 1))],
        *[
            ((7, 9), 2, 2, (1, 1)),
            ((7, 9), 2, 2, (2, 2)),
            ((12, 11), 2, 5, (3, 2)),
            ((12, 11), 2, 5, (1, 1)),
            ((9,), 3, 2, (3,)),
            ((9,), 3, 4, (2,)),
        ],
        *[((9,), 64, 3, (1,)), ((10,), 64, 2, (1,)), ((8, 7), 32, 3, (1, 1)), ((3, 11), 32, 2, (1, 1))],
    ],
)
def test_convolutions_and_their_gradients_are_those_of_jax(
    steps, channels, kernel, strides, padding, in_turns, monkeypatch
):
    if in_turns:
        monkeypatch.setattr(convolution_layers, "POINTS_BYTES", 1)
        monkeypatch.setattr(convolution_layers, "PATCHES_BYTES", 1)
    filters = max(5, channels)
    layer = lambda **options: flax.linen.Conv(filters, (kernel,) * len(steps), strides, padding=padding, **options)
    padding = padding if isinstance(padding, str) else padding * len(steps)
    x = jax.random.normal(jax.random.key(0), (3, *steps, channels))
    params = layer().init(jax.random.key(1), x)

    def gradients(conv):
        return jax.value_and_grad(lambda params, x: jnp.sin(conv.apply(params, x)).sum(), argnums=(0, 1))(params, x)

    atol = 1e-5 if filters == 5 else 1e-4  # of many channels, whose sums are as much larger
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=atol)
    jax.tree.map(close, gradients(layer(conv_general_dilated=convolution_layers.convolve)), gradients(layer()))


@pytest.mark.parametrize(("clips", "most_bytes", "shards", "at_a_time"), TURNS)
def test_as_many_clips_take_a_turn_as_fit_and_divide_the_batch(clips, most_bytes, shards, at_a_time):
    """Each has its own in what is laid out: here 24 numbers of four bytes."""
    seen = []

    def forward(x, kernel):
        seen.append(len(x))
        return x * kernel, x

    x, kernel = jnp.ones((clips, 24, 1)), jnp.full(1, 2.0)
    mesh = jax.sharding.AbstractMesh((shards,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    with jax.sharding.use_abstract_mesh(mesh):
        by_turns, _ = convolution_layers.by_turns(forward, None, x, kernel, most_bytes)
    out, _ = by_turns(x, kernel)
    np.testing.assert_array_equal(out, 2 * x)
    assert {*seen} == {1, at_a_time}  # One clip, to ask for its size, and those of a turn.


@pytest.mark.parametrize("axes", [1, 2])
@pytest.mark.parametrize("width", [2, 3])
def test_convolutions_by_points_lose_a_digit_at_most(axes, width):
    """Of float32: in float64 they are exact, to its last digits, and so are their gradients."""
    rng = np.random.default_rng(0)
    pads = ((1, 0), (2, 3))[:axes]
    with jax.enable_x64(True):
        x, kernel = rng.normal(size=(2, *(11, 6)[:axes], 64)), rng.normal(size=(*[width] * axes, 64, 3))
        layout = ("NWC", "WIO", "NWC") if axes == 1 else ("NHWC", "HWIO", "NHWC")
        plain = lambda x, kernel: jax.lax.conv_general_dilated(x, kernel, (1,) * axes, pads, dimension_numbers=layout)
        expected, pull_back = jax.vjp(plain, x, kernel)
        grad = rng.normal(size=expected.shape)

        @jax.jit
        def by_points(x, kernel, grad):
            out, at_points = convolution_layers.convolve_by_points(x, kernel, pads)
            return out, *convolution_layers.gradients_by_points(at_points, kernel, grad, x.shape[1:-1], pads)

        arrays = x, kernel, grad
        in_32, in_64 = by_points(*(jnp.asarray(array, jnp.float32) for array in arrays)), by_points(*arrays)
        for rounded, exact, true in zip(in_32, in_64, (expected, *pull_back(grad))):
            assert rounded.dtype == jnp.float32
            np.testing.assert_allclose(exact, true, atol=1e-13 * abs(true).max())
            assert np.std(rounded - true) < 2e-6 * np.std(true)


@pytest.mark.parametrize(("channels", "stride"), [(4, 2), (64, 1)])
@pytest.mark.parametrize("kernel_has_replicas", [True, False])
def test_convolutions_of_replicas_are_the_plain_ones_with_their_gradients(kernel_has_replicas, channels, stride):
    keys, filters = jax.random.split(jax.random.key(0), 2), channels + 1
    x_RBTC = jax.random.normal(keys[0], (3, 2, 9, channels))
    kernel = jax.random.normal(keys[1], (3, 3, channels, filters)) / channels**0.5
    layout = ("NWC", "WIO", "NWC")
    axes, kernel = ((0, 0), kernel) if kernel_has_replicas else ((0, None), kernel[0])

    options = dict(dimension_numbers=layout, lhs_dilation=(1,), rhs_dilation=(1,), feature_group_count=1)

    def gradients(convolution):
        loss = lambda x, kernel: jnp.sin(convolution(x, kernel, (stride,), "SAME", **options)).sum()
        return jax.jit(jax.vmap(jax.value_and_grad(loss, argnums=(0, 1)), axes))(x_RBTC, kernel)

    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 if stride == 2 else 1e-4)
    jax.tree.map(close, gradients(convolution_layers.convolve), gradients(jax.lax.conv_general_dilated))


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (lambda dtype: layers.Dense(8, dtype=dtype), (4, 10_000, 3)),
        (lambda dtype: convolution_layers.Conv(8, (3,), dtype=dtype), (4, 10_000, 3)),
        (lambda dtype: convolution_layers.Conv(8, (3, 3), dtype=dtype), (4, 100, 100, 3)),
        (lambda dtype: convolution_layers.TransposedConv(8, 3, 4, flax.linen.initializers.ones, dtype), (4, 2500, 3)),
    ],
    ids=["dense", "conv1d", "conv2d", "transposed"],
)
def test_gradients_of_many_places_in_half_precision_are_those_in_float32(layer, shape):
    """Sums in bfloat16 stop growing after some hundred addends."""
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
