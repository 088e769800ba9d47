"""Layers that several networks share."""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp


def initialiser(name: str) -> Callable:
    """An initialiser of `flax.linen.initializers` by name, such as "glorot_uniform"."""
    return getattr(nn.initializers, name)()


def standardise(x: jax.Array, train: bool, momentum: float = 0.99) -> jax.Array:
    """Features of the last axis to mean 0 and variance 1, by statistics of the batch in training, else of training.

    momentum: of the running statistics; a run of a few hundred steps needs less than the default.
    """
    norm = nn.BatchNorm(
        use_running_average=not train, momentum=momentum, use_bias=False, use_scale=False, name="standardise"
    )
    return norm(x)


def convolve(x: jax.Array, kernel: jax.Array, strides, padding, **options) -> jax.Array:
    """`jax.lax.conv_general_dilated`, but for replicas on CPU one after the other.

    There `jax.vmap` makes it one convolution in groups, which XLA runs up to twice as slowly. First derivatives only.
    """
    plain = lambda x, kernel: jax.lax.conv_general_dilated(x, kernel, strides, padding, **options)
    forward = one_by_one(plain)
    backward = one_by_one(lambda x, kernel, grad: jax.vjp(plain, x, kernel)[1](grad))
    convolution = jax.custom_vjp(forward)
    convolution.defvjp(lambda x, kernel: (forward(x, kernel), (x, kernel)), lambda saved, grad: backward(*saved, grad))
    return convolution(x, kernel)


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

    The input projections of all steps are one product ahead of the scan, which carries the recurrent part alone.
    Gates in the order input, forget, cell, output; the forget gate's bias starts at one, as in Jozefowicz et al. 2015.
    """

    features: int
    kernel_init: Callable
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x_BTF: jax.Array) -> jax.Array:
        def forget_bias(key, shape, dtype):
            return jnp.zeros(shape, dtype).at[self.features : 2 * self.features].set(1)

        projected = nn.Dense(
            4 * self.features, kernel_init=self.kernel_init, bias_init=forget_bias, dtype=self.dtype, name="input"
        )(x_BTF)
        zeros = jnp.zeros((x_BTF.shape[0], self.features), self.dtype)
        return over_time(LSTMStep)(self.features, self.dtype, name="recurrent")((zeros, zeros), projected)[1]


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


class GRU(nn.Module):
    """One GRU layer over time (Cho et al. 2014, the reset gate after the product, as cuDNN): x_BTF to h_BTH.

    Gates in the order reset, update, new.
    """

    features: int
    kernel_init: Callable
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x_BTF: jax.Array) -> jax.Array:
        projected = nn.Dense(3 * self.features, kernel_init=self.kernel_init, dtype=self.dtype, name="input")(x_BTF)
        zeros = jnp.zeros((x_BTF.shape[0], self.features), self.dtype)
        return over_time(GRUStep)(self.features, self.dtype, name="recurrent")(zeros, projected)[1]


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


def over_time(step: type[nn.Module]) -> type[nn.Module]:
    """A step of a recurrence as a scan over axis 1, with the same parameters at every step."""
    return nn.scan(step, variable_broadcast="params", split_rngs={"params": False}, in_axes=1, out_axes=1)


def orthogonal_gates(key, shape, dtype):
    """One orthogonal matrix [features, features] for each gate, side by side."""
    keys = jax.random.split(key, shape[1] // shape[0])
    return jnp.concatenate([nn.initializers.orthogonal()(k, (shape[0], shape[0]), dtype) for k in keys], axis=1)


def max_pool(x: jax.Array, width: int) -> jax.Array:
    """Maximum over windows of `width` along every axis between the first and the last, without overlap; a remainder is
    dropped: [B, T, F] to [B, T // width, F], [B, T, F, C] to [B, T // width, F // width, C].

    A reshape, because the gradient of a windowed reduction is slow on CPU.

    Raises:
      ValueError: x is narrower than a window.
    """
    for axis in range(1, x.ndim - 1):
        if x.shape[axis] < width:
            raise ValueError(f"{x.shape[axis]} steps are left for a pool of {width}; take longer inputs or fewer pools")
        whole = jax.lax.slice_in_dim(x, 0, x.shape[axis] // width * width, axis=axis)
        x = whole.reshape(*x.shape[:axis], -1, width, *x.shape[axis + 1 :]).max(axis + 1)
    return x
