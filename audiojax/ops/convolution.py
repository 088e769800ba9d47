"""Convolutions, channels last, fast on CPU.

On CPU a convolution becomes one of three kinds of matrix products, where they are faster than XLA's own convolution:
Winograd's for many channels, im2col for one channel or small windows, and im2col by rows for the other images. Clips
are taken in chunks, so that what is laid out for a product stays in the cache.
"""

import functools
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from audiojax import ops

POINTS = (0, 3 / 4, -3 / 4, 3 / 2, -3 / 2)  # and infinity; exact in binary, with half the rounding error of 0, ±1, ±2
TILE = len(POINTS) + 1
WINOGRAD_CHANNELS = 512  # input times output channels, from which on Winograd's convolution is faster
IM2COL_GROWTH = 2.75  # size of the patches over that of the input, up to which im2col is faster
WINOGRAD_BYTES, IM2COL_BYTES = 2**23, 2**22  # that a chunk of clips lays out; chosen with 2 MB of L2, 32 MB of L3


def convolve(x: jax.Array, kernel: jax.Array, strides, padding, **options) -> jax.Array:
    """Computes `jax.lax.conv_general_dilated`, its plain definition, with the arguments that `flax.linen.Conv` gives.

    On CPU `jax.vmap` convolves one element after the other: XLA runs a convolution in groups up to twice as slowly.

    Args:
      x: [B, T, C] or [B, H, W, C]. kernel: [width ..., C, F]. padding: "SAME", "VALID" or a pair for each axis.
    """
    plain = lambda x, kernel: jax.lax.conv_general_dilated(x, kernel, strides, padding, **options)
    *widths, channels, filters = kernel.shape
    size = x.shape[1:-1]
    pads = jax.lax.padtype_to_pads(size, widths, strides, padding) if isinstance(padding, str) else padding
    fits = all(n + sum(pad) >= width for n, pad, width in zip(size, pads, widths))
    dilated = max(*options["lhs_dilation"], *options["rhs_dilation"], options["feature_group_count"]) > 1
    if jax.default_backend() != "cpu" or ops.is_plain() or dilated or not fits:
        return plain(x, kernel)
    if len(size) == 1 and strides[0] > 1 and channels > 1 and widths[0] % strides[0] == 0:
        # The steps of a stride become the channels of a convolution without a stride.
        [(before, after)], [width], [stride] = pads, widths, strides
        whole = (size[0] + before + after - width) // stride * stride + width
        folded = shift(x, [before], [whole]).reshape(len(x), -1, stride * channels)
        return convolve(folded, kernel.reshape(-1, stride * channels, filters), (1,), ((0, 0),), **options)
    is_exact = x.dtype in (jnp.float32, jnp.float64)
    many_channels = channels * filters >= WINOGRAD_CHANNELS and {*widths} <= {2, 3} and len(size) <= 2
    if is_exact and many_channels and max(strides) == 1:
        forward, backward = functools.partial(winograd, pads=pads), functools.partial(winograd_backward, pads=pads)
        forward, backward = in_chunks(forward, backward, x, kernel, WINOGRAD_BYTES)
    elif channels == 1 or math.prod(widths) <= IM2COL_GROWTH * math.prod(strides):
        steps = {"strides": strides, "pads": pads}
        forward, backward = functools.partial(im2col, **steps), functools.partial(im2col_backward, **steps)
        forward, backward = in_chunks(forward, backward, x, kernel, IM2COL_BYTES)
    elif len(size) == 2 and max(strides) == 1:
        forward, backward = functools.partial(by_rows, pads=pads), functools.partial(by_rows_backward, pads=pads)
        forward, backward = in_chunks(forward, backward, x, kernel, IM2COL_BYTES)
    else:
        forward = lambda x, kernel: (plain(x, kernel), ())
        backward = lambda args, _, grad: jax.vjp(plain, *args)[1](grad)
    return ops.with_gradient(plain, ops.one_by_one(forward), ops.one_by_one(backward))(x, kernel)


def in_chunks(forward: Callable, backward: Callable, x: jax.Array, kernel: jax.Array, most_bytes: int):
    """Returns the passes of a convolution, changed to take so many clips at a time that they lay out `most_bytes`.

    The chunks have one size, at least one clip for each device. The backward pass lays each chunk out again, in the
    cache, where the forward pass would have to keep all of them.
    """
    out_clip, laid_out_clip = jax.eval_shape(forward, x[:1], kernel)
    shards = jax.sharding.get_abstract_mesh().shape.get("data", 1)  # Each device has a part of every chunk.
    counts = [n for n in range(1, len(x) + 1) if len(x) % n == 0 and n % math.gcd(shards, len(x)) == 0]
    clip_bytes = laid_out_clip.size * laid_out_clip.dtype.itemsize
    clips = max([n for n in counts if n * clip_bytes <= most_bytes], default=counts[0])
    if clips == len(x):
        return ops.compiled_once(forward), backward
    split = lambda x: x.reshape(clips, -1, *x.shape[1:])
    take = lambda x, chunk: jax.lax.dynamic_index_in_dim(x, chunk, 1, keepdims=False)
    put = lambda x, part, chunk: jax.lax.dynamic_update_index_in_dim(x, part, chunk, 1)
    chunks = len(x) // clips

    def chunked_forward(x, kernel):
        parts = split(x)
        add = lambda chunk, out: put(out, forward(take(parts, chunk), kernel)[0], chunk)
        start = jnp.zeros((clips, chunks, *out_clip.shape[1:]), out_clip.dtype)
        return jax.lax.fori_loop(0, chunks, add, start).reshape(len(x), *out_clip.shape[1:]), ()

    def chunked_backward(args, _, grad):
        x, kernel = args
        parts, grads = split(x), split(grad)

        def add(chunk, so_far):
            grad_x, grad_kernel = so_far
            part = take(parts, chunk), kernel
            part_x, part_kernel = backward(part, forward(*part)[1], take(grads, chunk))
            return put(grad_x, part_x, chunk), grad_kernel + part_kernel

        start = jnp.zeros_like(parts), jnp.zeros(kernel.shape, jnp.promote_types(kernel.dtype, jnp.float32))
        grad_x, grad_kernel = jax.lax.fori_loop(0, chunks, add, start)
        return grad_x.reshape(x.shape), grad_kernel.astype(kernel.dtype)

    return chunked_forward, chunked_backward


def winograd(x: jax.Array, kernel: jax.Array, pads) -> tuple[jax.Array, jax.Array]:
    """Convolves without strides by Winograd's minimal filtering (Winograd 1980; Lavin and Gray 2016).

    A tile of 6 neighbours gives 4 outputs of a kernel of width 3 by 6 multiplications in place of 12: a product of two
    polynomials is their product at 6 points, and a convolution is the transpose of such a product. In 2D it takes 36
    multiplications in place of 144. The multiplications at each point are one matrix product over all tiles.

    Args:
      x: [B, ..., C]. kernel: [width ..., C, F], each width 2 or 3. pads: before and after, for each axis.

    Returns:
      The convolution, and the tiles of x at the points [points ..., B, tiles ..., C].
    """
    widths = kernel.shape[:-2]
    x_matrices, kernel_matrices, out_matrices = transforms(widths)
    steps = [matrix.shape[1] for matrix in out_matrices]
    size = [n + sum(pad) - width + 1 for n, pad, width in zip(x.shape[1:], pads, widths)]
    needed = [-(-n // step) * step + width - 1 for n, step, width in zip(size, steps, widths)]
    tiles = to_points(shift(x, [before for before, _ in pads], needed), x_matrices, steps, 1)
    out = einsum_points("pnc,pcf->pnf", tiles, to_points(kernel, kernel_matrices, widths, 0))
    out = from_points(out.reshape(*tiles.shape[:-1], -1), out_matrices, steps, 1)
    return shift(out, [0] * len(size), size), tiles


def winograd_backward(args, tiles: jax.Array, grad: jax.Array, pads) -> tuple[jax.Array, jax.Array]:
    """Returns the gradients of x and the kernel, by the transpose of each step of `winograd`."""
    x, kernel = args
    widths, size = kernel.shape[:-2], x.shape[1:-1]
    x_matrices, kernel_matrices, out_matrices = transforms(widths)
    steps = [matrix.shape[1] for matrix in out_matrices]
    needed = [-(-n // step) * step for n, step in zip(grad.shape[1:], steps)]
    grad = to_points(shift(grad, [0] * len(size), needed), out_matrices, steps, 1)
    kernel_points = to_points(kernel, kernel_matrices, widths, 0)
    grad_kernel = einsum_points("pnc,pnf->pcf", tiles, grad).reshape(kernel_points.shape)
    grad_tiles = einsum_points("pnf,pcf->pnc", grad, kernel_points).reshape(tiles.shape)

    @ops.compiled_once
    def merge(grad_tiles):
        return shift(from_points(grad_tiles, x_matrices, steps, 1), [-before for before, _ in pads], size)

    return merge(grad_tiles), from_points(grad_kernel, kernel_matrices, widths, 0)


def transforms(widths: Sequence[int]) -> list[tuple[np.ndarray, ...]]:
    """Returns Winograd's matrices for x [6, 6], the kernel [6, width] and the output [6, 7 - width], each for all axes.

    The first two evaluate at the points; the transpose of the third makes the output. widths: of the kernel.
    """
    powers = lambda n: np.vstack([np.vander(POINTS, n, increasing=True), np.eye(n)[-1]])
    others = [POINTS[:place] + POINTS[place + 1 :] for place in range(len(POINTS))]
    # Lagrange's polynomials: each is zero at all points but one, and the kernel's rows are divided by the value there.
    x_matrix = np.array([*([*np.poly(points)[::-1], 0] for points in others), np.poly(POINTS)[::-1]])
    values = [np.prod(np.subtract(point, points)) for point, points in zip(POINTS, others)] + [1]
    of_width = lambda width: (x_matrix, powers(width) / np.vstack(values), powers(TILE - width + 1))
    return list(zip(*map(of_width, widths)))


def to_points(x: jax.Array, matrices: Sequence[np.ndarray], strides: Sequence[int], first: int) -> jax.Array:
    """Multiplies a matrix [P, N] with N neighbours at every stride, along each axis from `first` on.

    Returns [P ..., tiles ...], the points of all axes before the other axes.
    """
    axis = first + len(matrices) - 1  # Each result's points become axis 0, which moves the next axis to this place.
    for matrix, stride in zip(reversed(matrices), reversed(strides)):
        parts = windows(x, matrix.shape[1], stride, axis)
        x = jnp.stack([weighted_sum(weights, parts) for weights in matrix])
    return x


def from_points(x: jax.Array, matrices: Sequence[np.ndarray], strides: Sequence[int], first: int) -> jax.Array:
    """Computes the transpose of `to_points`: overlapping tiles are added. The axes end with a whole stride."""
    for axis, matrix, stride in zip(range(first + len(matrices) - 1, x.ndim), matrices, strides):
        points = [jax.lax.index_in_dim(x, point, keepdims=False) for point in range(len(matrix))]
        x = overlap_add([weighted_sum(weights, points) for weights in matrix.T], stride, axis)
    return merge_pairs(x, first, len(matrices))


def weighted_sum(weights: np.ndarray, arrays: Sequence[jax.Array]) -> jax.Array:
    terms = [x if weight == 1 else float(weight) * x for weight, x in zip(weights, arrays) if weight]
    return functools.reduce(jnp.add, terms)


def einsum_points(equation: str, *arrays: jax.Array) -> jax.Array:
    """Computes `jnp.einsum` of arrays [points ..., places ..., channels], points and places as one axis each."""
    points = TILE ** (arrays[0].ndim // 2 - 1)
    return jnp.einsum(equation, *(x.reshape(points, -1, x.shape[-1]) for x in arrays))


def im2col(x: jax.Array, kernel: jax.Array, strides, pads) -> tuple[jax.Array, jax.Array]:
    """Convolves as one matrix product. Returns the convolution and the patches of x [B, places ..., widths · C]."""
    widths = kernel.shape[:-2]
    size = [(n + sum(pad) - width) // stride + 1 for n, pad, width, stride in zip(x.shape[1:], pads, widths, strides)]
    needed = [(n - 1) * stride + width for n, stride, width in zip(size, strides, widths)]
    x = shift(x, [before for before, _ in pads], needed)
    for axis in reversed(range(len(size))):
        x = jnp.concatenate(windows(x, widths[axis], strides[axis], axis + 1), -1)
    return x @ kernel.reshape(x.shape[-1], -1), x


def im2col_backward(args, patches: jax.Array, grad: jax.Array, strides, pads) -> tuple[jax.Array, jax.Array]:
    """Returns the gradients of x and the kernel."""
    x, kernel = args
    widths, size = kernel.shape[:-2], x.shape[1:-1]
    grad_kernel = ops.kernel_gradient(flat(patches), flat(grad)).reshape(kernel.shape)

    @ops.compiled_once
    def merge(x):
        for axis, stride in zip(range(1, 2 * len(size), 2), strides):
            last = x.ndim - 1 - len(size) + axis // 2
            parts = [jax.lax.index_in_dim(x, n, last, keepdims=False) for n in range(x.shape[last])]
            x = overlap_add(parts, stride, axis)
        return shift(merge_pairs(x, 1, len(size)), [-before for before, _ in pads], size)

    grad_patches = grad @ kernel.reshape(-1, kernel.shape[-1]).T
    return merge(grad_patches.reshape(*grad.shape[:-1], *widths, -1)), grad_kernel


def by_rows(x: jax.Array, kernel: jax.Array, pads) -> tuple[jax.Array, jax.Array]:
    """Convolves images without strides by im2col along the height alone, with patches a third as large for width 3.

    The matrix product has one result for each column of the kernel; these are shifted along the width and added.

    Returns:
      The convolution, and the columns of x [B, H, W, height · C].
    """
    height, width = kernel.shape[:2]
    x = shift(x, [before for before, _ in pads], [n + sum(pad) for n, pad in zip(x.shape[1:], pads)])
    columns = jnp.concatenate(windows(x, height, 1, 1), -1)
    results = jnp.split((flat(columns) @ columns_first(kernel)).reshape(*columns.shape[:-1], -1), width, -1)
    end = columns.shape[2] - width + 1
    shifted = [jax.lax.slice_in_dim(part, place, place + end, axis=2) for place, part in enumerate(results)]
    return functools.reduce(jnp.add, shifted), columns


def by_rows_backward(args, columns: jax.Array, grad: jax.Array, pads) -> tuple[jax.Array, jax.Array]:
    """Returns the gradients of x and the kernel."""
    x, kernel = args
    height, width, channels, filters = kernel.shape
    wide = shift(grad, [0, width - 1], [grad.shape[1], grad.shape[2] + 2 * (width - 1)])
    grad = jnp.concatenate(windows(wide, width, 1, 2)[::-1], -1)
    grad_kernel = ops.kernel_gradient(flat(columns), flat(grad)).reshape(height, channels, width, filters)
    grad_x = (flat(grad) @ columns_first(kernel).T).reshape(*grad.shape[:-1], -1)
    grad_x = overlap_add(jnp.split(grad_x, height, -1), 1, 1).squeeze(2)
    return shift(grad_x, [-before for before, _ in pads], x.shape[1:-1]), jnp.moveaxis(grad_kernel, -2, -3)


def columns_first(kernel: jax.Array) -> jax.Array:
    """Reshapes a kernel [H, W, C, F] to a matrix [H · C, W · F]."""
    height, width, channels, filters = kernel.shape
    return jnp.moveaxis(kernel, 1, 2).reshape(-1, width * filters)


def flat(x: jax.Array) -> jax.Array:
    """Merges all axes but the last: XLA on CPU multiplies two axes faster than several."""
    return x.reshape(-1, x.shape[-1])


def windows(x: jax.Array, width: int, stride: int, axis: int) -> list[jax.Array]:
    """Cuts windows of `width` at every stride along an axis; returns one array for each place in a window."""
    end = x.shape[axis] - width + 1
    return [jax.lax.slice_in_dim(x, place, end + place, stride, axis) for place in range(width)]


def overlap_add(parts: list[jax.Array], stride: int, axis: int) -> jax.Array:
    """Computes the transpose of `windows`: overlapping windows are added. The axis becomes two: [strides, stride]."""
    over = -(-len(parts) // stride) - 1  # how many strides the last place lies behind the first
    pads = lambda before, ndim: [(before, over - before) if n == axis else (0, 0) for n in range(ndim)]
    shifted = [jnp.pad(x, pads(place // stride, x.ndim)) for place, x in enumerate(parts)]
    none = jnp.zeros_like(shifted[0])  # for places between windows, where the stride is longer than a window
    return jnp.stack([functools.reduce(jnp.add, shifted[place::stride], none) for place in range(stride)], axis + 1)


def merge_pairs(x: jax.Array, first: int, pairs: int) -> jax.Array:
    """Merges each of so many pairs of axes, from axis `first` on. Done after the last `overlap_add`, XLA fuses them."""
    merged = [x.shape[axis] * x.shape[axis + 1] for axis in range(first, first + 2 * pairs, 2)]
    return x.reshape(*x.shape[:first], *merged, *x.shape[first + 2 * pairs :])


def shift(x: jax.Array, by: Sequence[int], size: Sequence[int]) -> jax.Array:
    """Shifts x [B, ..., C] along its inner axes, backwards where negative, and cuts or zero-pads them to `size`."""
    pads = [(first, whole - first - n, 0) for first, whole, n in zip(by, size, x.shape[1:])]
    return jax.lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *pads, (0, 0, 0)])
