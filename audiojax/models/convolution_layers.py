"""Convolutions, fast on CPU: with few multiplications where channels are many, as products of patches where these are
small, else as XLA has them."""

import functools
import math
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from audiojax.models import layers

POINTS = (0, 3 / 4, -3 / 4, 3 / 2, -3 / 2)  # and infinity: half the rounding error of 0, ±1, ±2, all exact in binary
TILE = len(POINTS) + 1
LEAST_CHANNELS = {1: 2048, 2: 1024}  # by axes: in times out, from which on a convolution by points is faster
LEAST_FILTERS = 8  # of an image: fewer take XLA twice as long, so a kernel is filled up with zeros
LARGEST_PATCHES = 2.75  # times as large as the input, up to which a convolution by patches is faster


def convolve(x: jax.Array, kernel: jax.Array, strides, padding, **options) -> jax.Array:
    """`jax.lax.conv_general_dilated` of `flax.linen.Conv`, channels last, faster on CPU. First derivatives only.

    For replicas it is done there one after the other: `jax.vmap` makes it one convolution in groups, which XLA runs up
    to twice as slowly.
    """
    *widths, channels, filters = kernel.shape
    size = x.shape[1:-1]
    plain = lambda x, kernel: jax.lax.conv_general_dilated(x, kernel, strides, padding, **options)
    forward = lambda x, kernel: (plain(x, kernel), x)
    gradients = lambda x, kernel, grad: jax.vjp(plain, x, kernel)[1](grad)
    spread = max(*options["lhs_dilation"], *options["rhs_dilation"], options["feature_group_count"]) > 1
    if jax.default_backend() == "cpu" and not spread:
        pads = jax.lax.padtype_to_pads(size, widths, strides, padding) if isinstance(padding, str) else padding
        fits = all(n + sum(pad) >= width for n, pad, width in zip(size, pads, widths))
        if fits and len(size) == 1 and strides[0] > 1 and channels > 1 and widths[0] % strides[0] == 0:
            # The places of a stride side by side, as channels of a convolution without it.
            (before, after), (width,), (stride,) = pads[0], widths, strides
            whole = (size[0] + before + after - width) // stride * stride + width
            folded = moved(x, [before], [whole]).reshape(len(x), -1, stride * channels)
            return convolve(folded, kernel.reshape(-1, stride * channels, filters), (1,), ((0, 0),), **options)
        enough = channels * filters >= LEAST_CHANNELS.get(len(size), np.inf)
        exact = x.dtype in (jnp.float32, jnp.float64)
        if fits and enough and exact and max(strides) == 1 and {*widths} <= {2, 3}:
            forward = layers.apart(lambda x, kernel: convolve_by_points(x, kernel, pads))
            gradients = lambda *saved_and_grad: gradients_by_points(*saved_and_grad, size, pads)
        elif fits and (channels == 1 or math.prod(widths) <= LARGEST_PATCHES * math.prod(strides)):
            forward = layers.apart(lambda x, kernel: convolve_by_patches(x, kernel, strides, pads))
            gradients = lambda *saved_and_grad: gradients_by_patches(*saved_and_grad, size, strides, pads)
        elif len(size) == 2 and filters < LEAST_FILTERS:
            filled = lambda kernel: jnp.pad(kernel, [(0, 0)] * 3 + [(0, LEAST_FILTERS - filters)])
            forward = lambda x, kernel: (plain(x, filled(kernel))[..., :filters], x)

    forward, backward = layers.one_by_one(forward), layers.one_by_one(gradients)
    convolution = jax.custom_vjp(lambda x, kernel: forward(x, kernel)[0])

    def saving(x, kernel):
        out, saved = forward(x, kernel)
        return out, (saved, kernel)

    convolution.defvjp(saving, lambda saved, grad: backward(*saved, grad))
    return convolution(x, kernel)


def convolve_by_points(x: jax.Array, kernel: jax.Array, pads) -> tuple[jax.Array, jax.Array]:
    """Convolution with few multiplications (Winograd 1980; Lavin and Gray 2016), and what its gradients need of x.

    Six neighbours hold four places of a kernel of 3, which take three multiplications each. But polynomials of 3 and 4
    coefficients have a product of 6, told by its values at six points, a multiplication each, and a convolution is the
    transpose of that product. Of an image it is 36 in place of 144. What is multiplied at a point is one product of
    matrices over all tiles.

    pads: before and after, for each axis; of stride 1.

    Returns:
      The convolution, and the tiles of x at the points, [points ..., B, tiles ..., C].
    """
    widths = kernel.shape[:-2]
    of_x, of_kernel, of_out = transforms(widths)
    steps = [matrix.shape[1] for matrix in of_out]
    size = [n + sum(pad) - width + 1 for n, pad, width in zip(x.shape[1:], pads, widths)]
    needed = [-(-n // step) * step + width - 1 for n, step, width in zip(size, steps, widths)]
    x = to_points(moved(x, [before for before, _ in pads], needed), of_x, steps, 1)
    out = product("pnc,pcf->pnf", x, to_points(kernel, of_kernel, widths, 0))
    out = from_points(out.reshape(*x.shape[:-1], -1), of_out, steps, 1)
    return moved(out, [0] * len(size), size), x


def gradients_by_points(
    at_points: jax.Array, kernel: jax.Array, grad: jax.Array, size: Sequence[int], pads
) -> tuple[jax.Array, jax.Array]:
    """Gradients of `convolve_by_points` of x, whose axes have these sizes, and of the kernel: its transpose."""
    widths = kernel.shape[:-2]
    of_x, of_kernel, of_out = transforms(widths)
    steps = [matrix.shape[1] for matrix in of_out]
    needed = [-(-n // step) * step for n, step in zip(grad.shape[1:], steps)]
    grad = to_points(moved(grad, [0] * len(size), needed), of_out, steps, 1)
    kernel_at_points = to_points(kernel, of_kernel, widths, 0)
    grad_kernel = product("pnc,pnf->pcf", at_points, grad).reshape(kernel_at_points.shape)
    grad_x = product("pnf,pcf->pnc", grad, kernel_at_points).reshape(at_points.shape)

    @layers.apart
    def places_of_x(grad_x):
        return moved(from_points(grad_x, of_x, steps, 1), [-before for before, _ in pads], size)

    return places_of_x(grad_x), from_points(grad_kernel, of_kernel, widths, 0)


def transforms(widths: Sequence[int]) -> list[tuple[np.ndarray, ...]]:
    """Matrices to the points from x [6, 6], from the kernel [6, width], and from the result [6, 7 - width], whose
    transpose makes the result: each for all axes, on which the kernel has these widths."""
    powers = lambda n: np.vstack([np.vander(POINTS, n, increasing=True), np.eye(n)[-1]])
    others = [POINTS[:place] + POINTS[place + 1 :] for place in range(len(POINTS))]
    # Each row is zero at all points but its own, and the kernel's is divided by what it is there.
    of_x = [*([*np.poly(points)[::-1], 0] for points in others), np.poly(POINTS)[::-1]]
    there = [np.prod(np.subtract(point, points)) for point, points in zip(POINTS, others)] + [1]
    of_width = lambda width: (np.array(of_x), powers(width) / np.vstack(there), powers(TILE - width + 1))
    return list(zip(*map(of_width, widths)))


def to_points(x: jax.Array, matrices: Sequence[np.ndarray], strides: Sequence[int], first: int) -> jax.Array:
    """Along axes from the first on, every `stride` places, a matrix [P, N] times N neighbours: [P ..., tiles ...]."""
    axis = first + len(matrices) - 1  # The last of them comes first, and moves the one before it to its place.
    for matrix, stride in zip(reversed(matrices), reversed(strides)):
        seen = neighbours(x, matrix.shape[1], stride, axis)
        x = jnp.stack([combination(weights, seen) for weights in matrix])
    return x


def from_points(x: jax.Array, matrices: Sequence[np.ndarray], strides: Sequence[int], first: int) -> jax.Array:
    """The transpose of `to_points`: what several tiles have of a place is added. Its axes end with a whole stride."""
    for axis, matrix, stride in zip(range(first + len(matrices) - 1, x.ndim), matrices, strides):
        points = [jax.lax.index_in_dim(x, point, keepdims=False) for point in range(len(matrix))]
        x = laid_out([combination(weights, points) for weights in matrix.T], stride, axis)
    return joined(x, first, len(matrices))


def combination(weights: np.ndarray, arrays: Sequence[jax.Array]) -> jax.Array:
    """The sum of arrays, each times its weight."""
    terms = [x if weight == 1 else float(weight) * x for weight, x in zip(weights, arrays) if weight]
    return functools.reduce(jnp.add, terms)


def product(equation: str, *arrays: jax.Array) -> jax.Array:
    """`jnp.einsum` of arrays [points ..., places ..., channels] with one axis of points and one of places."""
    points = TILE ** (arrays[0].ndim // 2 - 1)
    return jnp.einsum(equation, *(x.reshape(points, -1, x.shape[-1]) for x in arrays))


def convolve_by_patches(x: jax.Array, kernel: jax.Array, strides, pads) -> tuple[jax.Array, jax.Array]:
    """Convolution as a product, and what its gradients need of x: at each place what the kernel meets there."""
    widths = kernel.shape[:-2]
    size = [(n + sum(pad) - width) // stride + 1 for n, pad, width, stride in zip(x.shape[1:], pads, widths, strides)]
    needed = [(n - 1) * stride + width for n, stride, width in zip(size, strides, widths)]
    x = moved(x, [before for before, _ in pads], needed)
    for axis in reversed(range(len(size))):
        x = jnp.concatenate(neighbours(x, widths[axis], strides[axis], axis + 1), -1)
    return x @ kernel.reshape(x.shape[-1], -1), x


def gradients_by_patches(
    patches: jax.Array, kernel: jax.Array, grad: jax.Array, size: Sequence[int], strides, pads
) -> tuple[jax.Array, jax.Array]:
    """Gradients of `convolve_by_patches` of x, whose axes have these sizes, and of the kernel."""
    widths, axes = kernel.shape[:-2], len(size)
    flat = lambda x: x.reshape(-1, x.shape[-1])  # Faster than over several axes.
    grad_kernel = layers.kernel_gradient(flat(patches), flat(grad)).reshape(kernel.shape)

    @layers.apart
    def places_of_x(x):
        for axis, stride in zip(range(1, 2 * axes, 2), strides):
            last = x.ndim - 1 - axes + axis // 2
            x = laid_out([jax.lax.index_in_dim(x, n, last, keepdims=False) for n in range(x.shape[last])], stride, axis)
        return moved(joined(x, 1, axes), [-before for before, _ in pads], size)

    grad_patches = grad @ kernel.reshape(-1, kernel.shape[-1]).T
    return places_of_x(grad_patches.reshape(*grad.shape[:-1], *widths, -1)), grad_kernel


def neighbours(x: jax.Array, width: int, stride: int, axis: int) -> list[jax.Array]:
    """Along an axis, every `stride` places, each of `width` places from there on."""
    end = x.shape[axis] - width + 1
    return [jax.lax.slice_in_dim(x, place, end + place, stride, axis) for place in range(width)]


def laid_out(places: list[jax.Array], stride: int, axis: int) -> jax.Array:
    """The transpose of `neighbours`: what falls on the same place is added, [strides, stride] along the axis."""
    over = -(-len(places) // stride) - 1  # how many strides the last of them reaches further than the first
    pads = lambda by, ndim: [(by, over - by) if number == axis else (0, 0) for number in range(ndim)]
    shifted = [jnp.pad(x, pads(place // stride, x.ndim)) for place, x in enumerate(places)]
    none = jnp.zeros_like(shifted[0])  # where the stride is longer than the kernel
    return jnp.stack([functools.reduce(jnp.add, shifted[place::stride], none) for place in range(stride)], axis + 1)


def joined(x: jax.Array, first: int, axes: int) -> jax.Array:
    """Pairs of axes, from the first on, as one each. After all of `laid_out`: XLA then makes these in one form."""
    pairs = [x.shape[axis] * x.shape[axis + 1] for axis in range(first, first + 2 * axes, 2)]
    return x.reshape(*x.shape[:first], *pairs, *x.shape[first + 2 * axes :])


def moved(x: jax.Array, by: Sequence[int], size: Sequence[int]) -> jax.Array:
    """x_B...C moved along its axes, backwards where negative, and cut or filled with zeros to these sizes."""
    pads = [(first, whole - first - n, 0) for first, whole, n in zip(by, size, x.shape[1:])]
    return jax.lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *pads, (0, 0, 0)])


Conv = functools.partial(nn.Conv, conv_general_dilated=convolve)


class TransposedConv(nn.Module):
    """Transposed convolution x_BTF to [B, stride T, features], its kernel width * stride long.

    Done as a convolution to stride * features channels that are laid out as steps (Shi et al. 2016), which is the same
    and on CPU many times as fast. width: how many steps of x each new one sees, odd.
    """

    features: int
    width: int
    stride: int
    kernel_init: Callable
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x_BTF: jax.Array) -> jax.Array:
        filters, options = self.stride * self.features, {"kernel_init": self.kernel_init, "dtype": self.dtype}
        x = Conv(filters, (self.width,), use_bias=False, **options)(x_BTF)
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return x.reshape(len(x), -1, self.features) + bias.astype(self.dtype)
