"""Layers that several networks share."""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np


def initialiser(name: str) -> Callable:
    """An initialiser of `flax.linen.initializers` by name, such as "glorot_uniform". Raises ValueError without one.

    Orthogonal kernels of replicas are made one by one: several at once JAX on CPU factorises in the threads that wait
    for it, which may never end.
    """
    if not hasattr(nn.initializers, name):
        raise ValueError(f"kernel_init={name!r} is no initialiser of flax.linen.initializers")
    init = getattr(nn.initializers, name)()
    if "orthogonal" not in name:
        return init
    return lambda key, shape, dtype=jnp.float32: one_by_one(lambda key: init(key, shape, dtype))(key)


def standardise(x: jax.Array, train: bool, momentum: float = 0.99) -> jax.Array:
    """Features of the last axis to mean 0 and variance 1, by statistics of the batch in training, else of training.

    momentum: of the running statistics; a run of a few hundred steps needs less than the default.
    """
    norm = nn.BatchNorm(
        use_running_average=not train, momentum=momentum, use_bias=False, use_scale=False, name="standardise"
    )
    return norm(x)


class Dropout(nn.Module):
    """In training zeros in place of values, at a rate from 0 to below 1, and the others scaled up.

    As `flax.linen.Dropout`, but that the rate may also be traced: replicas of a grid each have their own.
    """

    rate: float | jax.Array

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        if not train or (isinstance(self.rate, float) and self.rate == 0):
            return x
        kept = jax.random.bernoulli(self.make_rng("dropout"), 1 - self.rate, x.shape)
        return jnp.where(kept, x / (1 - self.rate), 0).astype(x.dtype)


def convolve(x: jax.Array, kernel: jax.Array, strides, padding, **options) -> jax.Array:
    """`jax.lax.conv_general_dilated` of `flax.linen.Conv`, channels last, faster on CPU. First derivatives only.

    There images of several channels go through the functions below. For replicas it is done one after the other:
    `jax.vmap` makes it one convolution in groups, which XLA there runs up to twice as slowly.
    """
    plain = lambda x, kernel: jax.lax.conv_general_dilated(x, kernel, strides, padding, **options)
    forward, gradients = plain, lambda x, kernel, grad: jax.vjp(plain, x, kernel)[1](grad)
    *size, channels, _ = kernel.shape
    spread = max(*options["lhs_dilation"], *options["rhs_dilation"], options["feature_group_count"]) > 1
    if jax.default_backend() == "cpu" and len(size) == 2 and channels > 1 and not spread and min(size) >= max(strides):
        pads = jax.lax.padtype_to_pads(x.shape[1:-1], size, strides, padding) if isinstance(padding, str) else padding
        forward = lambda x, kernel: convolve_images(x, kernel, strides, pads, **options)

        def gradients(x, kernel, grad):
            of_kernel = kernel_gradient_of_images(x, kernel, grad, strides, pads)
            # One after the other: at once, each slows the other down.
            grad, of_kernel = jax.lax.optimization_barrier((grad, of_kernel))
            return gradient_of_images(x, kernel, grad, strides, pads, **options), of_kernel

    forward, backward = one_by_one(forward), one_by_one(gradients)
    convolution = jax.custom_vjp(forward)
    convolution.defvjp(lambda x, kernel: (forward(x, kernel), (x, kernel)), lambda saved, grad: backward(*saved, grad))
    return convolution(x, kernel)


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
    of_rows = [kernel_gradient(flat(seen(beside, 1, row)), flat(grad)) for row in range(rows)]
    return jnp.stack(of_rows).reshape(kernel.shape)


def one_by_one(function: Callable) -> Callable:
    """A function that `jax.vmap` on CPU calls for each element instead of batching it."""
    called = jax.custom_batching.custom_vmap(function)

    @called.def_vmap
    def over_axis(size: int, batched: list[bool], *args):
        if jax.default_backend() != "cpu" or not all(batched):
            out = jax.vmap(function, in_axes=[0 if is_batched else None for is_batched in batched])(*args)
        else:
            out = jax.tree.map(lambda *each: jnp.stack(each), *(function(*(x[i] for x in args)) for i in range(size)))
        return out, jax.tree.map(lambda _: True, out)

    return called


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


class Logits(nn.Module):
    """The last layer: x_BF to float32 logits [B, classes], with one initial bias a class."""

    classes: int
    kernel_init: Callable
    bias: tuple[float, ...]
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x_BF: jax.Array) -> jax.Array:
        bias_init = nn.initializers.constant(jnp.array(self.bias))
        dense = nn.Dense(self.classes, kernel_init=self.kernel_init, bias_init=bias_init, dtype=self.dtype)
        return dense(x_BF).astype(jnp.float32)


def max_pool(x: jax.Array, *widths: int) -> jax.Array:
    """Maximum over windows along the axes after the first, without overlap; a remainder is dropped.

    widths: one for each of these axes but the last, or one for all: [B, T, F] to [B, T // width, F], [B, T, F, C] to
    [B, T // widths[0], F // widths[-1], C].

    A reshape, because the gradient of a windowed reduction is slow on CPU; with a gradient of its own: `greatest`.

    Raises:
      ValueError: x is narrower than a window.
    """
    axes = range(1, x.ndim - 1)
    for axis, width in zip(axes, widths * len(axes) if len(widths) == 1 else widths):
        if x.shape[axis] < width:
            raise ValueError(f"{x.shape[axis]} steps are left for a pool of {width}; take longer inputs or fewer pools")
        whole = jax.lax.slice_in_dim(x, 0, x.shape[axis] // width * width, axis=axis)
        x = greatest(whole.reshape(*x.shape[:axis], -1, width, *x.shape[axis + 1 :]), axis + 1)
    return x


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def greatest(x: jax.Array, axis: int) -> jax.Array:
    """`x.max(axis)`; the gradient goes to the first of equal values.

    JAX's own gradient asks which values equal the maximum. XLA computes what is pooled anew for that, rounds it
    otherwise where it fuses it otherwise, then finds none and drops the gradient: half of it in a 1D CNN.
    """
    return x.max(axis)


def _greatest_forward(x, axis):
    best = jax.lax.index_in_dim(x, 0, axis, keepdims=False)
    place = jnp.zeros(best.shape, jnp.int32)
    for number in range(1, x.shape[axis]):
        value = jax.lax.index_in_dim(x, number, axis, keepdims=False)
        best, place = jnp.maximum(best, value), jnp.where(value > best, number, place)
    return best, (place, x.shape[axis])


def _greatest_backward(axis, saved, grad):
    place, width = saved
    number = jnp.arange(width).reshape(-1, *[1] * (grad.ndim - axis))
    return (jnp.where(jnp.expand_dims(place, axis) == number, jnp.expand_dims(grad, axis), 0),)


greatest.defvjp(_greatest_forward, _greatest_backward)


def kernel_gradient(x: jax.Array, grad: jax.Array) -> jax.Array:
    """Gradient of a kernel [F, G] in x @ kernel, of x [..., F] and the product's gradient [..., G], as one product.

    In this order of factors: what JAX derives makes XLA transpose `grad`, the larger one, in memory. Over several axes,
    not over one flat one, of which a device would need the other devices' shards.
    """
    axes = tuple(range(x.ndim - 1))
    return jax.lax.dot_general(x, grad, ((axes, axes), ((), ())))
