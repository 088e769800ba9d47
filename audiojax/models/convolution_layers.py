"""Convolutions, fast on CPU: with few multiplications where channels are many, as products of patches or of lines where
these are small, else as XLA has them; a few clips at a time, so that what is laid out for them stays in the cache."""

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
LEAST_CHANNELS = 512  # in times out, from which on a convolution by points is faster
LARGEST_PATCHES = 2.75  # times as large as the input, up to which a convolution by patches is faster
MOST_FILTERS = 8  # up to which one by lines is faster in 1D; of an image it always is
POINTS_BYTES, PATCHES_BYTES = 2**23, 2**22  # of the clips that are laid out at a time, with 2 MB of L2 and 32 of L3


def convolve(x: jax.Array, kernel: jax.Array, strides, padding, **options) -> jax.Array:
    """`jax.lax.conv_general_dilated` of `flax.linen.Conv`, channels last; on CPU faster, of first derivatives only.

    For replicas it is done there one after the other: `jax.vmap` makes it one convolution in groups, which XLA runs up
    to twice as slowly.
    """
    plain = lambda x, kernel: jax.lax.conv_general_dilated(x, kernel, strides, padding, **options)
    if jax.default_backend() != "cpu":
        return plain(x, kernel)
    *widths, channels, filters = kernel.shape
    size = x.shape[1:-1]
    forward = lambda x, kernel: (plain(x, kernel), x)
    gradients = lambda x, kernel, grad: jax.vjp(plain, x, kernel)[1](grad)
    spread = max(*options["lhs_dilation"], *options["rhs_dilation"], options["feature_group_count"]) > 1
    if not spread:
        pads = jax.lax.padtype_to_pads(size, widths, strides, padding) if isinstance(padding, str) else padding
        fits = all(n + sum(pad) >= width for n, pad, width in zip(size, pads, widths))
        if fits and len(size) == 1 and strides[0] > 1 and channels > 1 and widths[0] % strides[0] == 0:
            # The places of a stride side by side, as channels of a convolution without it.
            (before, after), (width,), (stride,) = pads[0], widths, strides
            whole = (size[0] + before + after - width) // stride * stride + width
            folded = moved(x, [before], [whole]).reshape(len(x), -1, stride * channels)
            return convolve(folded, kernel.reshape(-1, stride * channels, filters), (1,), ((0, 0),), **options)
        enough = channels * filters >= LEAST_CHANNELS and {*widths} <= {2, 3} and len(size) <= 2
        exact = x.dtype in (jnp.float32, jnp.float64)
        if fits and enough and exact and max(strides) == 1:
            forward = lambda x, kernel: convolve_by_points(x, kernel, pads)
            gradients = lambda *saved_and_grad: gradients_by_points(*saved_and_grad, size, pads)
            forward, gradients = by_turns(forward, gradients, x, kernel, POINTS_BYTES)
        elif fits and (channels == 1 or math.prod(widths) <= LARGEST_PATCHES * math.prod(strides)):
            forward = lambda x, kernel: convolve_by_patches(x, kernel, strides, pads)
            gradients = lambda *saved_and_grad: gradients_by_patches(*saved_and_grad, size, strides, pads)
            forward, gradients = by_turns(forward, gradients, x, kernel, PATCHES_BYTES)
        elif fits and max(strides) == 1 and (len(size) == 2 or filters <= MOST_FILTERS):
            forward = lambda x, kernel: convolve_by_lines(x, kernel, pads)
            gradients = lambda *saved_and_grad: gradients_by_lines(*saved_and_grad, size, pads)
            forward, gradients = by_turns(forward, gradients, x, kernel, PATCHES_BYTES)

    forward, backward = layers.one_by_one(forward), layers.one_by_one(gradients)
    convolution = jax.custom_vjp(lambda x, kernel: forward(x, kernel)[0])

    def saving(x, kernel):
        out, saved = forward(x, kernel)
        return out, (saved, kernel)

    convolution.defvjp(saving, lambda saved, grad: backward(*saved, grad))
    return convolution(x, kernel)


def by_turns(forward: Callable, gradients: Callable, x: jax.Array, kernel: jax.Array, most_bytes: int):
    """A convolution and its gradients, of as many clips at a time as are laid out in so many bytes; at least one.

    forward: (x, kernel) to the convolution and what is laid out; gradients: of this, the kernel and the gradient. In
    turns these lay out anew, in the cache, what is else kept from the forward pass.
    """
    out_of_one, one = jax.eval_shape(forward, x[:1], kernel)
    shards = jax.sharding.get_abstract_mesh().shape.get("data", 1)  # Each of them has a part in every turn.
    counts = [n for n in range(1, len(x) + 1) if len(x) % n == 0 and n % math.gcd(shards, len(x)) == 0]
    clips = max([n for n in counts if n * one.size * one.dtype.itemsize <= most_bytes], default=counts[0])
    if clips == len(x):
        return layers.apart(forward), gradients
    in_turns = lambda x: x.reshape(clips, -1, *x.shape[1:])
    turn_of = lambda x, turn: jax.lax.dynamic_index_in_dim(x, turn, 1, keepdims=False)
    put = lambda x, part, turn: jax.lax.dynamic_update_index_in_dim(x, part, turn, 1)
    turns = len(x) // clips

    def forward_by_turns(x, kernel):
        parts = in_turns(x)
        add = lambda turn, out: put(out, forward(turn_of(parts, turn), kernel)[0], turn)
        out = jax.lax.fori_loop(0, turns, add, jnp.zeros((clips, turns, *out_of_one.shape[1:]), out_of_one.dtype))
        return out.reshape(len(x), *out.shape[2:]), x

    def gradients_by_turns(x, kernel, grad):
        parts, grads = in_turns(x), in_turns(grad)

        def add(turn, so_far):
            grad_x, grad_kernel = so_far
            _, laid_out = forward(turn_of(parts, turn), kernel)
            of_x, of_kernel = gradients(laid_out, kernel, turn_of(grads, turn))
            return put(grad_x, of_x, turn), grad_kernel + of_kernel

        start = jnp.zeros_like(parts), jnp.zeros(kernel.shape, jnp.promote_types(kernel.dtype, jnp.float32))
        grad_x, grad_kernel = jax.lax.fori_loop(0, turns, add, start)
        return grad_x.reshape(x.shape), grad_kernel.astype(kernel.dtype)

    return forward_by_turns, gradients_by_turns


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
    grad_kernel = layers.kernel_gradient(flat(patches), flat(grad)).reshape(kernel.shape)

    @layers.apart
    def places_of_x(x):
        for axis, stride in zip(range(1, 2 * axes, 2), strides):
            last = x.ndim - 1 - axes + axis // 2
            x = laid_out([jax.lax.index_in_dim(x, n, last, keepdims=False) for n in range(x.shape[last])], stride, axis)
        return moved(joined(x, 1, axes), [-before for before, _ in pads], size)

    grad_patches = grad @ kernel.reshape(-1, kernel.shape[-1]).T
    return places_of_x(grad_patches.reshape(*grad.shape[:-1], *widths, -1)), grad_kernel


def convolve_by_lines(x: jax.Array, kernel: jax.Array, pads) -> tuple[jax.Array, jax.Array]:
    """Convolution without strides as a product, and what its gradients need of x: at each place what a kernel meets
    there that is one place wide along the last axis. The product has that kernel's results for each place of the width,
    which are then moved along this axis and added."""
    *others, width = kernel.shape[:-2]
    size = [n + sum(pad) for n, pad in zip(x.shape[1:], pads)]
    x = moved(x, [before for before, _ in pads], size)
    for axis in reversed(range(len(others))):
        x = jnp.concatenate(neighbours(x, others[axis], 1, axis + 1), -1)
    results = jnp.split((flat(x) @ by_lines(kernel)).reshape(*x.shape[:-1], -1), width, -1)
    length, axis = size[-1] - width + 1, x.ndim - 2
    moved_results = [jax.lax.slice_in_dim(part, place, place + length, axis=axis) for place, part in enumerate(results)]
    return functools.reduce(jnp.add, moved_results), x


def gradients_by_lines(
    lines: jax.Array, kernel: jax.Array, grad: jax.Array, size: Sequence[int], pads
) -> tuple[jax.Array, jax.Array]:
    """Gradients of `convolve_by_lines` of x, whose axes have these sizes, and of the kernel."""
    *others, width, channels, filters = kernel.shape
    unmoved = [0] * len(others)
    wide = moved(grad, [*unmoved, width - 1], [*grad.shape[1:-2], grad.shape[-2] + 2 * (width - 1)])
    grad = jnp.concatenate(neighbours(wide, width, 1, grad.ndim - 2)[::-1], -1)
    grad_kernel = layers.kernel_gradient(flat(lines), flat(grad)).reshape(*others, channels, width, filters)
    grad_x = (flat(grad) @ by_lines(kernel).T).reshape(*grad.shape[:-1], -1)
    for axis, other in enumerate(others, 1):
        grad_x = laid_out(jnp.split(grad_x, other, -1), 1, axis).squeeze(axis + 1)
    return moved(grad_x, [-before for before, _ in pads], size), jnp.moveaxis(grad_kernel, -2, -3)


def by_lines(kernel: jax.Array) -> jax.Array:
    """A kernel [..., W, C, F] as a matrix [... C, W F]."""
    *_, width, channels, filters = kernel.shape
    return jnp.moveaxis(kernel, -3, -2).reshape(-1, width * filters)


def flat(x: jax.Array) -> jax.Array:
    """All axes but the last as one: of such XLA on CPU has faster products than of several."""
    return x.reshape(-1, x.shape[-1])


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


class Conv(nn.Conv):
    """`flax.linen.Conv` by `convolve`, the bias added in float32 at least."""

    conv_general_dilated: Callable = convolve
    promote_dtype: Callable = layers.half_but_bias

    def __call__(self, x: jax.Array) -> jax.Array:
        return super().__call__(x).astype(self.dtype)


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
        return (x.reshape(len(x), -1, self.features) + bias).astype(self.dtype)
