"""Layers that several networks share."""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np


def initialiser(name: str) -> Callable:
    """An initialiser of `flax.linen.initializers` by name, such as "glorot_uniform". Raises ValueError without one."""
    if not hasattr(nn.initializers, name):
        raise ValueError(f"kernel_init={name!r} is no initialiser of flax.linen.initializers")
    return getattr(nn.initializers, name)()


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

    For replicas it is done one after the other: `jax.vmap` makes it one convolution in groups, which XLA there runs up
    to twice as slowly. The kernel's gradient is `offset_products` where these are faster.
    """
    plain = lambda x, kernel: jax.lax.conv_general_dilated(x, kernel, strides, padding, **options)
    spread = max(*options["lhs_dilation"], *options["rhs_dilation"], options["feature_group_count"]) > 1
    *size, channels, _ = kernel.shape
    by_products = jax.default_backend() == "cpu" and len(size) > 1 and channels > 1 and not spread

    def gradients(x, kernel, grad):
        grad_x, grad_kernel = jax.vjp(plain, x, kernel)[1](grad)
        return grad_x, offset_products(x, kernel.shape, grad, strides, padding) if by_products else grad_kernel

    forward, backward = one_by_one(plain), one_by_one(gradients)
    convolution = jax.custom_vjp(forward)
    convolution.defvjp(lambda x, kernel: (forward(x, kernel), (x, kernel)), lambda saved, grad: backward(*saved, grad))
    return convolution(x, kernel)


def offset_products(x: jax.Array, shape: tuple[int, ...], grad: jax.Array, strides, padding) -> jax.Array:
    """Gradient of a convolution's kernel of `shape`, a product for each offset in it.

    XLA on CPU convolves the input with the gradient, as large as it is, which takes up to four times as long as this
    for large images of many channels; over one axis, or of one channel, it is no slower.
    """
    *size, channels, _ = shape
    if isinstance(padding, str):
        padding = jax.lax.padtype_to_pads(x.shape[1:-1], size, strides, padding)
    padded = jnp.pad(x, [(0, 0), *padding, (0, 0)])

    def seen(offset: tuple[int, ...]) -> jax.Array:
        """What the kernel's element at `offset` meets at each place: [B, ..., channels], as `grad`."""
        ends = (o + (n - 1) * stride + 1 for o, n, stride in zip(offset, grad.shape[1:], strides))
        return jax.lax.slice(padded, (0, *offset, 0), (len(x), *ends, channels), (1, *strides, 1))

    return jnp.stack([kernel_gradient(seen(offset), grad) for offset in np.ndindex(*size)]).reshape(shape)


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


def recurrent(cell: str, features: int, kernel_init: Callable, dtype: jnp.dtype) -> nn.Module:
    """A recurrent layer, cell "lstm" or "gru": x_BTF to every output h_BTH. Raises TypeError for another cell."""
    layers = {"lstm": LSTM, "gru": GRU}
    if cell not in layers:
        raise TypeError(f"there is no cell {cell!r}; cells: {', '.join(layers)}")
    return layers[cell](features, kernel_init, dtype)


class LSTM(nn.Module):
    """One LSTM layer over time: x_BTF to every output h_BTH.

    The scan of `LSTMStep` defines the layer and its parameters; `lstm` computes the same faster. Gates in the order
    input, forget, cell, output; the forget gate's bias starts at one, as in Jozefowicz et al. 2015.
    """

    features: int
    kernel_init: Callable
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x_BTF: jax.Array) -> jax.Array:
        def forget_bias(key, shape, dtype):
            return jnp.zeros(shape, dtype).at[self.features : 2 * self.features].set(1)

        project = Projection(
            4 * self.features, kernel_init=self.kernel_init, bias_init=forget_bias, dtype=self.dtype, name="input"
        )
        projected_TBG = project(x_BTF.swapaxes(0, 1))
        if self.is_initializing():
            zeros = jnp.zeros(projected_TBG.shape[1:-1] + (self.features,), self.dtype)
            h_TBH = over_time(LSTMStep)(self.features, self.dtype, name="recurrent")((zeros, zeros), projected_TBG)[1]
        else:
            recurrent = self.variables["params"]["recurrent"]
            h_TBH = lstm(projected_TBG, recurrent["hidden"]["kernel"].astype(self.dtype))
        return h_TBH.swapaxes(0, 1)


class LSTMStep(nn.Module):
    """One step of the recurrence: ((h, c), projected input) to ((h, c), h)."""

    features: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, carry, projected_BG):
        h, c = carry
        gates = projected_BG + nn.Dense(
            4 * self.features,
            use_bias=False,
            kernel_init=orthogonal_gates,
            dtype=self.dtype,
            name="hidden",
        )(h)
        i, f, g, o = jnp.split(gates, 4, axis=-1)
        c = nn.sigmoid(f) * c + nn.sigmoid(i) * jnp.tanh(g)
        h = nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h


@jax.custom_vjp
def lstm(projected_TBG: jax.Array, kernel: jax.Array) -> jax.Array:
    """Every output h_TBH of an LSTM from zeros, of the projected inputs of all steps and the recurrent kernel [H, 4H].

    Its loops hold what cannot be done for all steps at once: a product and a few operations on all gates together.
    """
    return _lstm_forward(projected_TBG, kernel)[0]


def _lstm_forward(projected_TBG, kernel):
    features = len(kernel)
    # sigmoid(x) = (1 + tanh(x / 2)) / 2, so that one tanh serves the four gates.
    scale_G = np.repeat(np.array([0.5, 0.5, 1, 0.5], kernel.dtype), features)

    def step(carry, projected_BG):
        h, c = carry
        gates_BG = jnp.tanh(scale_G * (projected_BG + h @ kernel)) * scale_G + (1 - scale_G)
        i, f, g, o = jnp.split(gates_BG, 4, axis=-1)
        c = f * c + i * g
        h = o * jnp.tanh(c)
        return (h, c), (h, c, gates_BG)

    zeros = jnp.zeros_like(projected_TBG[0, :, :features])
    _, (h, c, gates) = jax.lax.scan(step, (zeros, zeros), projected_TBG, unroll=unrolled(projected_TBG))
    return h, (kernel, h, c, gates)


def _lstm_backward(saved, grad_TBH):
    kernel, h, c, gates = saved
    i, f, g, o = jnp.split(gates, 4, axis=-1)
    tanh_c = jnp.tanh(c)
    # By how much the gradient of c grows with that of h, and that of each gate with that of c (of o: with that of h).
    c_by_h = o * (1 - tanh_c**2)
    gates_by_state = jnp.concatenate(
        [g * i * (1 - i), before(c) * f * (1 - f), i * (1 - g**2), tanh_c * o * (1 - o)], axis=-1
    )

    def step(carry, at):
        grad_h, grad_c = carry
        grad, c_by_h, gates_by_state, f = at
        grad_h += grad
        grad_c += grad_h * c_by_h
        grad_gates = jnp.concatenate([grad_c, grad_c, grad_c, grad_h], axis=-1) * gates_by_state
        return (grad_gates @ kernel.T, grad_c * f), grad_gates

    zeros = jnp.zeros_like(h[0])
    at = (grad_TBH, c_by_h, gates_by_state, f)
    _, grad_gates = jax.lax.scan(step, (zeros, zeros), at, reverse=True, unroll=unrolled(h))
    return grad_gates, kernel_gradient(before(h), grad_gates)


lstm.defvjp(_lstm_forward, _lstm_backward)


class GRU(nn.Module):
    """One GRU layer over time (Cho et al. 2014, the reset gate after the product, as cuDNN): x_BTF to h_BTH.

    The scan of `GRUStep` defines the layer and its parameters; `gru` computes the same faster. Gates in the order
    reset, update, new.
    """

    features: int
    kernel_init: Callable
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x_BTF: jax.Array) -> jax.Array:
        project = Projection(3 * self.features, kernel_init=self.kernel_init, dtype=self.dtype, name="input")
        projected_TBG = project(x_BTF.swapaxes(0, 1))
        if self.is_initializing():
            zeros = jnp.zeros(projected_TBG.shape[1:-1] + (self.features,), self.dtype)
            h_TBH = over_time(GRUStep)(self.features, self.dtype, name="recurrent")(zeros, projected_TBG)[1]
        else:
            recurrent = jax.tree.map(lambda p: p.astype(self.dtype), self.variables["params"]["recurrent"])
            h_TBH = gru(projected_TBG, recurrent["hidden"]["kernel"], recurrent["new_bias"])
        return h_TBH.swapaxes(0, 1)


class GRUStep(nn.Module):
    """One step of the recurrence: (h, projected input) to (h, h)."""

    features: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, h, projected_BG):
        hidden = nn.Dense(
            3 * self.features, use_bias=False, kernel_init=orthogonal_gates, dtype=self.dtype, name="hidden"
        )(h)
        new_bias = self.param("new_bias", nn.initializers.zeros, (self.features,)).astype(self.dtype)
        (r, z, n), (hidden_r, hidden_z, hidden_n) = (jnp.split(x, 3, axis=-1) for x in (projected_BG, hidden))
        r, z = nn.sigmoid(r + hidden_r), nn.sigmoid(z + hidden_z)
        n = jnp.tanh(n + r * (hidden_n + new_bias))
        h = (1 - z) * n + z * h
        return h, h


@jax.custom_vjp
def gru(projected_TBG: jax.Array, kernel: jax.Array, new_bias: jax.Array) -> jax.Array:
    """Every output h_TBH of a GRU from zeros, of the projected inputs of all steps, the recurrent kernel [H, 3H] and
    the bias [H] that the reset gate acts on. As `lstm`, it keeps its loops short."""
    return _gru_forward(projected_TBG, kernel, new_bias)[0]


def _gru_forward(projected_TBG, kernel, new_bias):
    features = len(kernel)

    def step(h, projected_BG):
        hidden = h @ kernel
        reset_update = 0.5 + 0.5 * jnp.tanh(0.5 * (projected_BG + hidden)[:, : 2 * features])
        r, z = jnp.split(reset_update, 2, axis=-1)
        hidden_n = hidden[:, 2 * features :] + new_bias
        n = jnp.tanh(projected_BG[:, 2 * features :] + r * hidden_n)
        h = n + z * (h - n)
        return h, (h, reset_update, hidden_n, n)

    zeros = jnp.zeros_like(projected_TBG[0, :, :features])
    _, (h, *gates) = jax.lax.scan(step, zeros, projected_TBG, unroll=unrolled(projected_TBG))
    return h, (kernel, h, *gates)


def _gru_backward(saved, grad_TBH):
    kernel, h, reset_update, hidden_n, n = saved
    r, z = jnp.split(reset_update, 2, axis=-1)
    # By how much the gradient of each gate grows with that of h.
    n_by_h = (1 - z) * (1 - n**2)
    reset_update_by_h = [n_by_h * hidden_n * r * (1 - r), (before(h) - n) * z * (1 - z)]
    hidden_by_h = jnp.concatenate([*reset_update_by_h, n_by_h * r], axis=-1)

    def step(carry, at):
        grad, hidden_by_h, z = at
        grad_h = carry + grad
        grad_hidden = jnp.tile(grad_h, 3) * hidden_by_h
        return grad_h * z + grad_hidden @ kernel.T, (grad_h, grad_hidden)

    at = (grad_TBH, hidden_by_h, z)
    _, (grad_h, grad_hidden) = jax.lax.scan(step, jnp.zeros_like(h[0]), at, reverse=True, unroll=unrolled(h))
    features = len(kernel)
    grad_projected = jnp.concatenate([grad_hidden[..., : 2 * features], grad_h * n_by_h], axis=-1)
    grad_new_bias = grad_hidden[..., 2 * features :].sum((0, 1))
    return grad_projected, kernel_gradient(before(h), grad_hidden), grad_new_bias


gru.defvjp(_gru_forward, _gru_backward)


def before(x_TBH: jax.Array) -> jax.Array:
    """Of each step the values of the step before, zeros of the first."""
    return jnp.concatenate([jnp.zeros_like(x_TBH[:1]), x_TBH[:-1]])


def kernel_gradient(x: jax.Array, grad: jax.Array) -> jax.Array:
    """Gradient of a kernel [F, G] in x @ kernel, of x [..., F] and the product's gradient [..., G], as one product.

    In this order of factors: what JAX derives makes XLA transpose `grad`, the larger one, in memory.
    """
    flat = lambda a: a.reshape(-1, a.shape[-1])
    return flat(x).T @ flat(grad)


@jax.custom_vjp
def product(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """x [..., F] @ kernel [F, G], its gradient by `kernel_gradient`."""
    return x @ kernel


product.defvjp(
    lambda x, kernel: (x @ kernel, (x, kernel)),
    lambda saved, grad: (grad @ saved[1].T, kernel_gradient(saved[0], grad)),
)

Projection = functools.partial(nn.Dense, dot_general=lambda x, kernel, dimensions, precision: product(x, kernel))


def unrolled(x_TBF: jax.Array) -> int:
    """How many steps of a recurrence XLA shall see at once: all of a short one, where a loop costs a quarter more."""
    return len(x_TBF) if len(x_TBF) <= 16 else 1


def over_time(step: type[nn.Module]) -> type[nn.Module]:
    """A step of a recurrence as a scan over axis 0, with the same parameters at every step."""
    return nn.scan(step, variable_broadcast="params", split_rngs={"params": False})


def orthogonal_gates(key, shape, dtype):
    """One orthogonal matrix [features, features] for each gate, side by side."""
    keys = jax.random.split(key, shape[1] // shape[0])
    return jnp.concatenate([nn.initializers.orthogonal()(k, (shape[0], shape[0]), dtype) for k in keys], axis=1)


class Bidirectional(nn.Module):
    """One recurrent layer from the first step to the last and one back: x_BTF to the outputs of both [B, T, 2H]."""

    cell: str
    features: int
    kernel_init: Callable
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x_BTF: jax.Array) -> jax.Array:
        there, back = (recurrent(self.cell, self.features, self.kernel_init, self.dtype) for _ in range(2))
        return jnp.concatenate([there(x_BTF), back(x_BTF[:, ::-1])[:, ::-1]], axis=-1)


def max_pool(x: jax.Array, *widths: int) -> jax.Array:
    """Maximum over windows along the axes after the first, without overlap; a remainder is dropped.

    widths: one for each of these axes but the last, or one for all: [B, T, F] to [B, T // width, F], [B, T, F, C] to
    [B, T // widths[0], F // widths[-1], C].

    A reshape, because the gradient of a windowed reduction is slow on CPU.

    Raises:
      ValueError: x is narrower than a window.
    """
    axes = range(1, x.ndim - 1)
    for axis, width in zip(axes, widths * len(axes) if len(widths) == 1 else widths):
        if x.shape[axis] < width:
            raise ValueError(f"{x.shape[axis]} steps are left for a pool of {width}; take longer inputs or fewer pools")
        whole = jax.lax.slice_in_dim(x, 0, x.shape[axis] // width * width, axis=axis)
        x = whole.reshape(*x.shape[:axis], -1, width, *x.shape[axis + 1 :]).max(axis + 1)
    return x
