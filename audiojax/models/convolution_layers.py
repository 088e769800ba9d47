"""Convolutions, fast on CPU: with few multiplications where channels are many, else as XLA does them best."""

import functools
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from audiojax.models import layers

POINTS = (0, 3 / 4, -3 / 4, 3 / 2, -3 / 2)  # and infinity: half the rounding error of 0, ±1, ±2, all exact in binary
TILE = len(POINTS) + 1
LEAST_CHANNELS = {1: 64, 2: 16}  # by axes: in and out, from which on a convolution by points is faster


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
        fitting = {*widths} <= {2, 3} and all(n + sum(pad) >= width for n, pad, width in zip(size, pads, widths))
        enough = min(channels, filters) >= LEAST_CHANNELS.get(len(size), np.inf)
        if max(strides) == 1 and fitting and enough and x.dtype in (jnp.float32, jnp.float64):
            forward = layers.apart(lambda x, kernel: convolve_by_points(x, kernel, pads))
            gradients = layers.apart(lambda *saved_and_grad: gradients_by_points(*saved_and_grad, size, pads))
        elif len(size) == 2 and channels > 1 and min(widths) >= max(strides):
            forward = lambda x, kernel: (convolve_images(x, kernel, strides, pads, **options), x)
            gradients = lambda x, kernel, grad: gradients_of_images(x, kernel, grad, strides, pads, **options)

    forward, backward = layers.one_by_one(forward), layers.one_by_one(gradients)
    convolution = jax.custom_vjp(lambda x, kernel: forward(x, kernel)[0])

    def saving(x, kernel):
        out, saved = forward(x, kernel)
        return out, (saved, kernel)

    convolution.defvjp(saving, lambda saved, grad: backward(*saved, grad))
    return convolution(x, kernel)


def convolve_by_points(x: jax.Array, kernel: jax.Array, pads) -> tuple[jax.Array, jax.Array]:
    """Convolution with few multiplications (Winograd 1980; Lavin and Gray 2016), and what its gradients need of x.

    Along an axis the kernel and what leaves it are polynomials' coefficients: their product is that of their values at
    enough points, and a convolution is its transpose. So a kernel of 3 makes 4 places of 6 by 6 multiplications instead
    of 12, of an image 16 by 36 instead of 144. All that is multiplied at a point is one product of matrices.

    pads: before and after, for each axis; of stride 1.

    Returns:
      The convolution, and the tiles of x at the points, [points ..., B, tiles ..., C].
    """
    widths = kernel.shape[:-2]
    of_x, of_kernel, of_out = transforms(widths)
    steps = [matrix.shape[1] for matrix in of_out]
    size = [n + sum(pad) - width + 1 for n, pad, width in zip(x.shape[1:], pads, widths)]
    tiles = [-(-n // step) for n, step in zip(size, steps)]
    needed = [count * step + width - 1 for count, step, width in zip(tiles, steps, widths)]
    x = to_points(within(x, [before for before, _ in pads], needed), of_x, steps, 1)
    out = product("pnc,pcf->pnf", x, to_points(kernel, of_kernel, widths, 0))
    out = from_points(out.reshape(*x.shape[:-1], -1), of_out, steps, 1)
    return part(out, [0] * len(size), size), x


def gradients_by_points(
    at_points: jax.Array, kernel: jax.Array, grad: jax.Array, size: Sequence[int], pads
) -> tuple[jax.Array, jax.Array]:
    """Gradients of `convolve_by_points` of x, whose axes have these sizes, and of the kernel: its transpose."""
    widths, nothing = kernel.shape[:-2], [0] * len(size)
    of_x, of_kernel, of_out = transforms(widths)
    steps = [matrix.shape[1] for matrix in of_out]
    needed = [-(-n // step) * step for n, step in zip(grad.shape[1:], steps)]
    grad = to_points(within(grad, nothing, needed), of_out, steps, 1)
    kernel_at_points = to_points(kernel, of_kernel, widths, 0)
    grad_kernel = product("pnc,pnf->pcf", at_points, grad).reshape(kernel_at_points.shape)
    grad_x = product("pnf,pcf->pnc", grad, kernel_at_points).reshape(at_points.shape)
    grad_x = from_points(grad_x, of_x, steps, 1)
    return part(grad_x, [before for before, _ in pads], size), from_points(grad_kernel, of_kernel, widths, 0)


def transforms(widths: Sequence[int]) -> list[tuple[np.ndarray, ...]]:
    """For axes on which a kernel is so wide: to the points from x [6, 6], from the kernel [6, width], and what takes
    [6, 7 - width] the points to the result, transposed."""
    powers = lambda n: np.vstack([np.vander(POINTS, n, increasing=True), np.eye(n)[-1]])
    others = [POINTS[:place] + POINTS[place + 1 :] for place in range(len(POINTS))]
    # Each row vanishes at all points but its own; what it is there, the kernel's is divided by.
    of_x = [*([*np.poly(points)[::-1], 0] for points in others), np.poly(POINTS)[::-1]]
    there = [np.prod(np.subtract(point, points)) for point, points in zip(POINTS, others)] + [1]
    of_width = lambda width: (np.array(of_x), powers(width) / np.vstack(there), powers(TILE - width + 1))
    return list(zip(*map(of_width, widths)))


def to_points(x: jax.Array, matrices: Sequence[np.ndarray], strides: Sequence[int], first: int) -> jax.Array:
    """Along axes from the first on, every `stride` places, a matrix [P, N] times N neighbours: [P ..., tiles ...]."""
    axis = first + len(matrices) - 1  # The last of them comes first, and moves the one before it to its place.
    for matrix, stride in zip(reversed(matrices), reversed(strides)):
        end = x.shape[axis] - matrix.shape[1] + 1
        seen = [jax.lax.slice_in_dim(x, place, end + place, stride, axis) for place in range(matrix.shape[1])]
        x = jnp.stack([combination(weights, seen) for weights in matrix])
    return x


def from_points(x: jax.Array, matrices: Sequence[np.ndarray], strides: Sequence[int], first: int) -> jax.Array:
    """The transpose of `to_points`: what several tiles have of a place is added. Its axes end with a whole stride."""
    axes = range(first, first + 2 * len(matrices), 2)
    for axis, matrix, stride in zip(range(first + len(matrices) - 1, x.ndim), matrices, strides):
        points = [jax.lax.index_in_dim(x, point, keepdims=False) for point in range(len(matrix))]
        x = laid_out([combination(weights, points) for weights in matrix.T], stride, axis)
    # Only now are tiles joined, so that XLA makes what is between two axes in one form.
    joined = [x.shape[axis] * x.shape[axis + 1] for axis in axes]
    return x.reshape(*x.shape[:first], *joined, *x.shape[axes.stop :])


def laid_out(places: list[jax.Array], stride: int, axis: int) -> jax.Array:
    """Of tiles along an axis, given by place, `stride` from each to the next: [tiles, stride] there, overlaps added."""
    further = -(-len(places) // stride) - 1  # how many strides a tile reaches beyond its own
    widths = lambda by, ndim: [(by, further - by) if number == axis else (0, 0) for number in range(ndim)]
    moved = [jnp.pad(x, widths(place // stride, x.ndim)) for place, x in enumerate(places)]
    return jnp.stack([functools.reduce(jnp.add, moved[place::stride]) for place in range(stride)], axis + 1)


def combination(weights: np.ndarray, arrays: Sequence[jax.Array]) -> jax.Array:
    """The sum of arrays, each times its weight."""
    terms = [x if weight == 1 else float(weight) * x for weight, x in zip(weights, arrays) if weight]
    return functools.reduce(jnp.add, terms)


def product(equation: str, *arrays: jax.Array) -> jax.Array:
    """`jnp.einsum` of arrays [points ..., places ..., channels] with one axis of points and one of places."""
    points = TILE ** (arrays[0].ndim // 2 - 1)
    return jnp.einsum(equation, *(x.reshape(points, -1, x.shape[-1]) for x in arrays))


def within(x: jax.Array, before: Sequence[int], size: Sequence[int]) -> jax.Array:
    """x_B...C with zeros before and after it, its axes then of these sizes."""
    pads = [(first, whole - first - n) for first, whole, n in zip(before, size, x.shape[1:])]
    return jnp.pad(x, [(0, 0), *pads, (0, 0)])


def part(x: jax.Array, before: Sequence[int], size: Sequence[int]) -> jax.Array:
    """The transpose of `within`."""
    return x[(slice(None), *(slice(first, first + n) for first, n in zip(before, size)))]


def gradients_of_images(
    x_BHWC: jax.Array, kernel: jax.Array, grad: jax.Array, strides, pads, **options
) -> tuple[jax.Array, jax.Array]:
    """Gradients of `convolve_images`, one after the other: at once, each slows the other down."""
    of_kernel = kernel_gradient_of_images(x_BHWC, kernel, grad, strides, pads)
    grad, of_kernel = jax.lax.optimization_barrier((grad, of_kernel))
    return gradient_of_images(x_BHWC, kernel, grad, strides, pads, **options), of_kernel


def convolve_images(x_BHWC: jax.Array, kernel: jax.Array, strides, pads, **options) -> jax.Array:
    """2D convolution as XLA on CPU does it fastest; pads: before and after, for both axes; options: as `convolve`'s.

    An image as wide as its input is made a column wider, which is dropped: what is larger than its input XLA leaves to
    Eigen, the rest to YNNPACK, which takes up to twice as long.
    """
    of_rows, (before, after) = pads
    wider = int(strides[1] == 1 and before + after == kernel.shape[1] - 1)
    out = jax.lax.conv_general_dilated(x_BHWC, kernel, strides, (of_rows, (before, after + wider)), **options)
    return out[:, :, : out.shape[2] - wider]


def gradient_of_images(x_BHWC: jax.Array, kernel: jax.Array, grad: jax.Array, strides, pads, **options) -> jax.Array:
    """Gradient of a 2D convolution's input, of which only the shape counts: strides are at most the kernel's size.

    A convolution for each of the places between two strides, with what of the kernel falls there: XLA on CPU spreads
    the gradient with zeros instead.
    """
    batch, *size, channels = x_BHWC.shape
    counts = [-(-n // stride) for n, stride in zip(size, strides)]
    images = []
    for places in np.ndindex(*strides):
        (down, row), (right, column) = (
            divmod(place + before, stride) for place, (before, _), stride in zip(places, pads, strides)
        )
        part = jnp.flip(kernel[row :: strides[0], column :: strides[1]], (0, 1)).swapaxes(2, 3)
        of_part = [
            (taps - 1 - shift, count + shift - given)
            for taps, shift, count, given in zip(part.shape, (down, right), counts, grad.shape[1:])
        ]
        images.append(convolve_images(grad, part, (1, 1), of_part, **options))
    between = jnp.stack(images, 3).reshape(batch, *counts, *strides, channels).transpose(0, 1, 3, 2, 4, 5)
    return between.reshape(batch, counts[0] * strides[0], -1, channels)[:, : size[0], : size[1]]


def kernel_gradient_of_images(x_BHWC: jax.Array, kernel: jax.Array, grad: jax.Array, strides, pads) -> jax.Array:
    """Gradient of a 2D convolution's kernel, of which only the shape counts: a product for each of its rows.

    XLA on CPU convolves the input with the gradient, as large as it is, which takes up to six times as long as this for
    large images of many channels; over one axis, or of one channel, it is no slower.
    """
    rows, columns, *_ = kernel.shape
    padded = jnp.pad(x_BHWC, [(0, 0), *pads, (0, 0)])

    def seen(x: jax.Array, axis: int, first: int) -> jax.Array:
        """What the kernel's element at `first` meets along an axis, one for each of the gradient's."""
        stride = strides[axis - 1]
        return jax.lax.slice_in_dim(x, first, first + (grad.shape[axis] - 1) * stride + 1, stride, axis)

    beside = jnp.concatenate([seen(padded, 2, column) for column in range(columns)], -1)
    flat = lambda images: images.reshape(-1, images.shape[-1])  # Faster than over four axes, the batch first.
    of_rows = [layers.kernel_gradient(flat(seen(beside, 1, row)), flat(grad)) for row in range(rows)]
    return jnp.stack(of_rows).reshape(kernel.shape)


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
