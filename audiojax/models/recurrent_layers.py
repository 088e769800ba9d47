"""LSTM and GRU layers, fast everywhere: one product for the inputs of all steps, gradients of their own."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from audiojax.models import layers, recurrent_kernels

UNROLLED = 8  # steps in one, on GPU, where their starts take most of the time


def recurrent(cell: str, features: int, kernel_init: Callable, dtype: jnp.dtype) -> nn.Module:
    """A recurrent layer, cell "lstm" or "gru": x_BTF to every output h_BTH. Raises TypeError for another cell."""
    cells = {"lstm": LSTM, "gru": GRU}
    if cell not in cells:
        raise TypeError(f"there is no cell {cell!r}; cells: {', '.join(cells)}")
    return cells[cell](features, kernel_init, dtype)


class LSTM(nn.Module):
    """One LSTM layer over time: x_BTF to every output h_BTH.

    The scan of `LSTMStep` defines the layer and its parameters; `lstm` and `lstm_by_kernels` compute the same faster.
    Gates in the order input, forget, cell, output; the forget gate's bias starts at one, as in Jozefowicz et al. 2015.
    """

    features: int
    kernel_init: Callable
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x_BTF: jax.Array) -> jax.Array:
        def forget_bias(key, shape, dtype):
            return jnp.zeros(shape, dtype).at[self.features : 2 * self.features].set(1)

        x_TBF = x_BTF.swapaxes(0, 1).astype(self.dtype)
        if self.is_initializing():
            inits = {"kernel_init": self.kernel_init, "bias_init": forget_bias}
            projected_TBG = nn.Dense(4 * self.features, dtype=self.dtype, name="input", **inits)(x_TBF)
            zeros = jnp.zeros(projected_TBG.shape[1:-1] + (self.features,), self.dtype)
            h_TBH = over_time(LSTMStep)(self.features, self.dtype, name="recurrent")((zeros, zeros), projected_TBG)[1]
        else:
            params = jax.tree.map(lambda p: p.astype(self.dtype), self.variables["params"])
            projected_TBG = product(x_TBF, params["input"]["kernel"])
            outputs = lstm_by_kernels if recurrent_kernels.serves(self.features, self.dtype) else lstm
            h_TBH = outputs(projected_TBG, params["input"]["bias"], params["recurrent"]["hidden"]["kernel"])
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
def lstm(projected_TBG: jax.Array, bias: jax.Array, kernel: jax.Array) -> jax.Array:
    """Every output h_TBH of an LSTM from zeros, of the projected inputs of all steps, the gates' bias [4H] and the
    recurrent kernel [H, 4H].

    Its loops hold what cannot be done for all steps at once, a product and a few operations on all gates together, and
    what the gradients need of a step while it lies in the cache.
    """
    return _lstm_forward(projected_TBG, bias, kernel)[0]


def _lstm_forward(projected_TBG, bias, kernel):
    features = len(kernel)
    # sigmoid(x) = (1 + tanh(x / 2)) / 2, so that one tanh serves the four gates.
    scale_G = np.repeat(np.array([0.5, 0.5, 1, 0.5], kernel.dtype), features)

    def step(carry, projected_BG, _):
        h, c = carry
        gates_BG = jnp.tanh(scale_G * (projected_BG + bias + h @ kernel)) * scale_G + (1 - scale_G)
        i, f, g, o = jnp.split(gates_BG, 4, axis=-1)
        new_c = f * c + i * g
        tanh_c = jnp.tanh(new_c)
        h = o * tanh_c
        # By how much the gradient of c will grow with those of the next c and of h, and that of each gate with that of
        # c (of o: of h).
        c_by_state = jnp.stack([f, o * (1 - tanh_c**2)])
        gates_by_state = [g * i * (1 - i), c * f * (1 - f), i * (1 - g**2), tanh_c * o * (1 - o)]
        return (h, new_c), jnp.concatenate(gates_by_state, axis=-1), (h, c_by_state)

    zeros = jnp.zeros_like(projected_TBG[0, :, :features])
    _, gates_by_state, (h, c_by_state) = scan_over(step, (zeros, zeros), projected_TBG, None)
    return h, (kernel, h, c_by_state, gates_by_state)


def _lstm_backward(saved, grad_TBH):
    kernel, h, c_by_state, gates_by_state = saved
    transposed = kernel.T  # Before the loop, whose every step would do so anew.

    def step(carry, gates_by_state, at):
        grad_h, grad_c, grad_bias_BG = carry
        grad, (c_by_next_c, c_by_h) = at
        grad_h += grad
        grad_c += grad_h * c_by_h
        grad_gates = jnp.concatenate([grad_c, grad_c, grad_c, grad_h], axis=-1) * gates_by_state
        return (grad_gates @ transposed, grad_c * c_by_next_c, grad_bias_BG + grad_gates), grad_gates, None

    zeros = jnp.zeros_like(h[0]), jnp.zeros_like(h[0]), zeros_to_sum(gates_by_state[0])
    carry, grad_gates, _ = scan_over(step, zeros, gates_by_state, (grad_TBH, c_by_state), reverse=True)
    return grad_gates, carry[-1].sum(0).astype(kernel.dtype), layers.kernel_gradient(before(h), grad_gates)


lstm.defvjp(_lstm_forward, _lstm_backward)


@jax.custom_vjp
def lstm_by_kernels(projected_TBG: jax.Array, bias: jax.Array, kernel: jax.Array) -> jax.Array:
    """`lstm` with its loops as one GPU kernel each. What the gradients need is computed anew, of all steps at once."""
    return _kernels_forward(projected_TBG, bias, kernel)[0]


def _kernels_forward(projected_TBG, bias, kernel):
    gates_TBG = projected_TBG + bias
    h, c = recurrent_kernels.forward(gates_TBG, kernel)
    return h, (kernel, h, c, gates_TBG)


def _kernels_backward(saved, grad_TBH):
    kernel, h, c, gates_TBG = saved
    before_h = before(h)
    i, f, g, o = jnp.split(gates_TBG + before_h @ kernel, 4, axis=-1)
    i, f, g, o, tanh_c = nn.sigmoid(i), nn.sigmoid(f), jnp.tanh(g), nn.sigmoid(o), jnp.tanh(c)
    gates_by_state = [g * i * (1 - i), before(c) * f * (1 - f), i * (1 - g**2), tanh_c * o * (1 - o)]
    factors = jnp.concatenate([*gates_by_state, f, o * (1 - tanh_c**2)], axis=-1)
    grad_gates = recurrent_kernels.backward(kernel, factors, grad_TBH)
    return grad_gates, grad_gates.sum((0, 1)), layers.kernel_gradient(before_h, grad_gates)


lstm_by_kernels.defvjp(_kernels_forward, _kernels_backward)


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
        x_TBF = x_BTF.swapaxes(0, 1).astype(self.dtype)
        if self.is_initializing():
            project = nn.Dense(3 * self.features, kernel_init=self.kernel_init, dtype=self.dtype, name="input")
            projected_TBG = project(x_TBF)
            zeros = jnp.zeros(projected_TBG.shape[1:-1] + (self.features,), self.dtype)
            h_TBH = over_time(GRUStep)(self.features, self.dtype, name="recurrent")(zeros, projected_TBG)[1]
        else:
            params = jax.tree.map(lambda p: p.astype(self.dtype), self.variables["params"])
            projected_TBG, recurrent = product(x_TBF, params["input"]["kernel"]), params["recurrent"]
            h_TBH = gru(projected_TBG, params["input"]["bias"], recurrent["hidden"]["kernel"], recurrent["new_bias"])
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
def gru(projected_TBG: jax.Array, bias: jax.Array, kernel: jax.Array, new_bias: jax.Array) -> jax.Array:
    """Every output h_TBH of a GRU from zeros, of the projected inputs of all steps, the gates' bias [3H], the recurrent
    kernel [H, 3H] and the bias [H] that the reset gate acts on. As `lstm`, it keeps its loops short."""
    return _gru_forward(projected_TBG, bias, kernel, new_bias)[0]


def _gru_forward(projected_TBG, bias, kernel, new_bias):
    features = len(kernel)

    def step(h, projected_BG, _):
        projected_BG, hidden = projected_BG + bias, h @ kernel
        reset_update = 0.5 + 0.5 * jnp.tanh(0.5 * (projected_BG + hidden)[:, : 2 * features])
        r, z = jnp.split(reset_update, 2, axis=-1)
        hidden_n = hidden[:, 2 * features :] + new_bias
        n = jnp.tanh(projected_BG[:, 2 * features :] + r * hidden_n)
        # By how much the gradients of the new value and of what h gives to each gate will grow with that of h.
        n_by_h = (1 - z) * (1 - n**2)
        hidden_by_h = [n_by_h * hidden_n * r * (1 - r), (h - n) * z * (1 - z), n_by_h * r]
        new_h = n + z * (h - n)
        return new_h, jnp.concatenate(hidden_by_h, axis=-1), (new_h, jnp.stack([z, n_by_h]))

    zeros = jnp.zeros_like(projected_TBG[0, :, :features])
    _, hidden_by_h, (h, by_h) = scan_over(step, zeros, projected_TBG, None)
    return h, (kernel, h, by_h, hidden_by_h)


def _gru_backward(saved, grad_TBH):
    kernel, h, by_h, hidden_by_h = saved
    transposed = kernel.T  # Before the loop, whose every step would do so anew.

    def step(carry, hidden_by_h, at):
        grad_h, sum_n, sum_hidden = carry
        grad, (z, n_by_h) = at
        grad_h += grad
        grad_n, grad_hidden = grad_h * n_by_h, jnp.tile(grad_h, 3) * hidden_by_h
        carry = grad_h * z + grad_hidden @ transposed, sum_n + grad_n, sum_hidden + grad_hidden
        return carry, grad_hidden, grad_n

    zeros = jnp.zeros_like(h[0]), zeros_to_sum(h[0]), zeros_to_sum(hidden_by_h[0])
    (_, *sums), grad_hidden, grad_n = scan_over(step, zeros, hidden_by_h, (grad_TBH, by_h), reverse=True)
    features = len(kernel)
    of_projected = lambda grad_n, grad_hidden: jnp.concatenate([grad_hidden[..., : 2 * features], grad_n], axis=-1)
    sum_n, sum_hidden = (x.sum(0).astype(kernel.dtype) for x in sums)
    grad_kernel = layers.kernel_gradient(before(h), grad_hidden)
    return of_projected(grad_n, grad_hidden), of_projected(sum_n, sum_hidden), grad_kernel, sum_hidden[2 * features :]


gru.defvjp(_gru_forward, _gru_backward)


def zeros_to_sum(x: jax.Array) -> jax.Array:
    """What a sum of many arrays like x begins with: zeros, in float32 at least. Half precision loses small addends."""
    return jnp.zeros_like(x, jnp.promote_types(x.dtype, jnp.float32))


def scan_over(step: Callable, carry: Any, over_TBG: jax.Array, xs: Any, reverse: bool = False) -> tuple:
    """`jax.lax.scan` of step(carry, over_BG, x) to (carry, another over_BG, y): the last carry, the others, all y.

    On CPU the others are written over the first ones, since XLA would fill memory of their own with zeros beforehand. A
    step is `apart`, since XLA copies all of them at every step where one is read when it may have been written.
    """
    if jax.default_backend() != "cpu":

        def plain(carry, at):
            carry, over_BG, y = step(carry, *at)
            return carry, (over_BG, y)

        unrolled = UNROLLED if jax.default_backend() == "gpu" else 1
        carry, (over_TBG, ys) = jax.lax.scan(plain, carry, (over_TBG, xs), reverse=reverse, unroll=unrolled)
        return carry, over_TBG, ys

    @layers.apart
    def read_and_step(carry, over_TBG, t, x):
        return step(carry, over_TBG[t], x)

    def in_place(carry, at):
        (carry, over_TBG), (t, x) = carry, at
        carry, over_BG, y = read_and_step(carry, over_TBG, t, x)
        return (carry, jax.lax.dynamic_update_index_in_dim(over_TBG, over_BG, t, 0)), y

    steps = jnp.arange(len(over_TBG))
    (carry, over_TBG), ys = jax.lax.scan(in_place, (carry, over_TBG), (steps, xs), reverse=reverse)
    return carry, over_TBG, ys


@layers.apart
def before(x_TBH: jax.Array) -> jax.Array:
    """Of each step the values of the step before, zeros of the first."""
    return jnp.concatenate([jnp.zeros_like(x_TBH[:1]), x_TBH[:-1]])


@jax.custom_vjp
def product(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """x [..., F] @ kernel [F, G], its gradient by `kernel_gradient`."""
    return x @ kernel


product.defvjp(
    lambda x, kernel: (x @ kernel, (x, kernel)),
    lambda saved, grad: (grad @ saved[1].T, layers.kernel_gradient(saved[0], grad)),
)


def over_time(step: type[nn.Module]) -> type[nn.Module]:
    """A step of a recurrence as a scan over axis 0, with the same parameters at every step."""
    return nn.scan(step, variable_broadcast="params", split_rngs={"params": False})


def orthogonal_gates(key, shape, dtype):
    """One orthogonal matrix [features, features] for each gate, side by side."""
    keys, orthogonal = jax.random.split(key, shape[1] // shape[0]), layers.initialiser("orthogonal")
    return jnp.concatenate([orthogonal(k, (shape[0], shape[0]), dtype) for k in keys], axis=1)


class Bidirectional(nn.Module):
    """One recurrent layer from the first step to the last and one back: x_BTF to the outputs of both [B, T, 2H]."""

    cell: str
    features: int
    kernel_init: Callable
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x_BTF: jax.Array) -> jax.Array:
        there, back = (recurrent(self.cell, self.features, self.kernel_init, self.dtype) for _ in range(2))
        if self.is_initializing() or jax.default_backend() == "cpu":
            h, back_h = there(x_BTF), back(x_BTF[:, ::-1])
        else:  # Both at once, as replicas of one layer: a step of both takes as long as of one.
            params = jax.tree.map(lambda *each: jnp.stack(each), there.variables["params"], back.variables["params"])
            apply = lambda params, x: there.clone(parent=None).apply({"params": params}, x)
            h, back_h = jax.vmap(apply)(params, jnp.stack([x_BTF, x_BTF[:, ::-1]]))
        return jnp.concatenate([h, back_h[:, ::-1]], axis=-1)
