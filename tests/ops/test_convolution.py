"""Convolutions against JAX's and flax's, in values and gradients, by every method."""

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from audiojax.ops import convolution

CHUNKS = [(12, 480, 1, 4), (12, 96, 1, 1), (12, 1, 1, 1), (12, 1200, 1, 12), (7, 480, 1, 1)]
CHUNKS += [(12, 480, 3, 3), (12, 1, 4, 4), (12, 480, 8, 4), (1, 1, 2, 1)]  # 4 of 8 devices share 12 clips evenly


@pytest.mark.parametrize(
    ("padding", "in_chunks"), [("SAME", False), ("VALID", False), (((2, 1),), False), (((2, 1),), True)]
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
    steps, channels, kernel, strides, padding, in_chunks, monkeypatch
):
    if in_chunks:
        monkeypatch.setattr(convolution, "WINOGRAD_BYTES", 1)
        monkeypatch.setattr(convolution, "IM2COL_BYTES", 1)
    filters = max(5, channels)
    layer = lambda **options: flax.linen.Conv(filters, (kernel,) * len(steps), strides, padding=padding, **options)
    padding = padding if isinstance(padding, str) else padding * len(steps)
    x = jax.random.normal(jax.random.key(0), (3, *steps, channels))
    params = layer().init(jax.random.key(1), x)

    def gradients(conv):
        return jax.value_and_grad(lambda params, x: jnp.sin(conv.apply(params, x)).sum(), argnums=(0, 1))(params, x)

    atol = 1e-5 if filters == 5 else 1e-4  # sums over many channels are larger
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=atol)
    jax.tree.map(close, gradients(layer(conv_general_dilated=convolution.convolve)), gradients(layer()))


@pytest.mark.parametrize(("clips", "most_bytes", "shards", "chunk_clips"), CHUNKS)
def test_chunks_have_as_many_clips_as_fit_and_divide_the_batch(clips, most_bytes, shards, chunk_clips):
    """A clip lays out 24 numbers of four bytes."""
    seen = []

    def forward(x, kernel):
        seen.append(len(x))
        return x * kernel, x

    x, kernel = jnp.ones((clips, 24, 1)), jnp.full(1, 2.0)
    mesh = jax.sharding.AbstractMesh((shards,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    with jax.sharding.use_abstract_mesh(mesh):
        chunked, _ = convolution.in_chunks(forward, None, x, kernel, most_bytes)
    out, _ = chunked(x, kernel)
    np.testing.assert_array_equal(out, 2 * x)
    assert {*seen} == {1, chunk_clips}  # one clip, for its size, and those of a chunk


@pytest.mark.parametrize("axes", [1, 2])
@pytest.mark.parametrize("width", [2, 3])
def test_winograd_loses_a_digit_at_most(axes, width):
    """In float32. In float64 it is exact to the last digits, as are its gradients."""
    rng = np.random.default_rng(0)
    pads = ((1, 0), (2, 3))[:axes]
    with jax.enable_x64(True):
        x, kernel = rng.normal(size=(2, *(11, 6)[:axes], 64)), rng.normal(size=(*[width] * axes, 64, 3))
        layout = ("NWC", "WIO", "NWC") if axes == 1 else ("NHWC", "HWIO", "NHWC")
        plain = lambda x, kernel: jax.lax.conv_general_dilated(x, kernel, (1,) * axes, pads, dimension_numbers=layout)
        expected, pull_back = jax.vjp(plain, x, kernel)
        grad = rng.normal(size=expected.shape)

        @jax.jit
        def by_winograd(x, kernel, grad):
            out, tiles = convolution.winograd(x, kernel, pads)
            return out, *convolution.winograd_backward((x, kernel), tiles, grad, pads)

        arrays = x, kernel, grad
        in_32, in_64 = by_winograd(*(jnp.asarray(array, jnp.float32) for array in arrays)), by_winograd(*arrays)
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
    jax.tree.map(close, gradients(convolution.convolve), gradients(jax.lax.conv_general_dilated))
