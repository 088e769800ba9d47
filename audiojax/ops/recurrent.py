"""LSTM and GRU over all time steps, from a state of zeros."""

import concurrent.futures
import functools
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from audiojax import ops
from audiojax.ops import kernels

GPU_UNROLL = 8  # steps in one iteration of a loop on GPU, where starting kernels takes most of the time
TOLERANCE = 5e-3  # of the GPU kernels, whose products have factors of 11 bits, over the largest value


def gru(x_TBF: jax.Array, input_kernel: jax.Array, bias: jax.Array, kernel: jax.Array, new_bias: jax.Array):
    """Runs a GRU, the reset gate after the product as in cuDNN (Cho et al. 2014).

    Args:
      input_kernel, bias: [F, 3H] and [3H]; gates in the order reset, update, new. kernel: recurrent, [H, 3H].
      new_bias: [H], added before the reset gate.

    Returns:
      The output of every step h_TBH.
    """
    kernel, new_bias = at_least_float32(kernel), at_least_float32(new_bias)

    def step(h, projected_BG):
        r, z, n = jnp.split(projected_BG, 3, axis=-1)
        hidden_r, hidden_z, hidden_n = jnp.split(h @ kernel.astype(h.dtype), 3, axis=-1)
        r, z = jax.nn.sigmoid(r + hidden_r), jax.nn.sigmoid(z + hidden_z)
        n = jnp.tanh(n + r * (hidden_n + new_bias).astype(h.dtype))
        h = (1 - z) * n + z * h
        return h, h

    return jax.lax.scan(step, zero_state(x_TBF, kernel), project(x_TBF, input_kernel, bias))[1]


def lstm(x_TBF: jax.Array, input_kernel: jax.Array, bias: jax.Array, kernel: jax.Array) -> jax.Array:
    """Runs an LSTM.

    Args:
      input_kernel, bias: [F, 4H] and [4H]; gates in the order input, forget, cell, output. kernel: recurrent, [H, 4H].

    Returns:
      The output of every step h_TBH.
    """
    passes = forward, backward
    if not ops.is_plain() and kernels.serves(len(kernel), x_TBF.dtype) and kernels_agree(len(kernel)):
        passes = kernels_forward, kernels_backward
    return ops.with_gradient(definition, *passes)(x_TBF, input_kernel, bias, kernel)


def definition(x_TBF, input_kernel, bias, kernel):
    kernel = at_least_float32(kernel)

    def step(carry, projected_BG):
        h, c = carry
        i, f, g, o = jnp.split(projected_BG + h @ kernel.astype(h.dtype), 4, axis=-1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    zeros = zero_state(x_TBF, kernel)
    return jax.lax.scan(step, (zeros, zeros), project(x_TBF, input_kernel, bias))[1]


def project(x_TBF, input_kernel, bias):
    """Returns the inputs of the gates [T, B, G] at all steps."""
    return (x_TBF @ input_kernel + at_least_float32(bias)).astype(x_TBF.dtype)


def zero_state(x_TBF, kernel):
    return jnp.zeros((x_TBF.shape[1], len(kernel)), x_TBF.dtype)


def at_least_float32(x):
    """Casts a parameter, so that its gradient is summed in float32: half precision loses small addends of long sums."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def forward(x_TBF, input_kernel, bias, kernel):
    """Its loop also computes what the gradients need of a step, while that is in the cache."""
    features = len(kernel)
    # sigmoid(x) = (1 + tanh(x / 2)) / 2, so that one tanh serves all gates.
    scale_G = np.repeat(np.array([0.5, 0.5, 1, 0.5], kernel.dtype), features)

    def step(carry, projected_BG, _):
        h, c = carry
        gates_BG = jnp.tanh(scale_G * (projected_BG + bias + h @ kernel)) * scale_G + (1 - scale_G)
        i, f, g, o = jnp.split(gates_BG, 4, axis=-1)
        new_c = f * c + i * g
        tanh_c = jnp.tanh(new_c)
        h = o * tanh_c
        # Derivatives of the next c by c, and of h by c; and those of c (for the output gate: of h) by each gate.
        c_slopes = jnp.stack([f, o * (1 - tanh_c**2)])
        gate_slopes = [g * i * (1 - i), c * f * (1 - f), i * (1 - g**2), tanh_c * o * (1 - o)]
        return (h, new_c), jnp.concatenate(gate_slopes, axis=-1), (h, c_slopes)

    zeros = zero_state(x_TBF, kernel)
    _, gate_slopes, (h, c_slopes) = scan_in_place(step, (zeros, zeros), x_TBF @ input_kernel, None)
    return h, (h, c_slopes, gate_slopes)


def backward(args, residuals, grad_TBH):
    _, _, _, kernel = args
    h, c_slopes, gate_slopes = residuals
    transposed = kernel.T  # outside the loop, which would transpose at every step

    def step(carry, gate_slopes, at):
        grad_h, grad_c, grad_bias_BG = carry
        grad, (next_c_by_c, h_by_c) = at
        grad_h += grad
        grad_c += grad_h * h_by_c
        grad_gates = jnp.concatenate([grad_c, grad_c, grad_c, grad_h], axis=-1) * gate_slopes
        return (grad_gates @ transposed, grad_c * next_c_by_c, grad_bias_BG + grad_gates), grad_gates, None

    zeros = jnp.zeros_like(h[0]), jnp.zeros_like(h[0]), at_least_float32(jnp.zeros_like(gate_slopes[0]))
    carry, grad_gates, _ = scan_in_place(step, zeros, gate_slopes, (grad_TBH, c_slopes), reverse=True)
    return gradients(args, previous(h), grad_gates, carry[-1].sum(0))


def gradients(args, previous_h, grad_gates, grad_bias):
    """Returns the gradients of an LSTM's arguments from those of its gates at all steps."""
    x_TBF, input_kernel, bias, _ = args
    grad_x, grad_input_kernel = grad_gates @ input_kernel.T, ops.kernel_gradient(x_TBF, grad_gates)
    return grad_x, grad_input_kernel, grad_bias.astype(bias.dtype), ops.kernel_gradient(previous_h, grad_gates)


@ops.compiled_once
def previous(x_TBH):
    """Returns each step's predecessor, zeros for the first step."""
    return jnp.concatenate([jnp.zeros_like(x_TBH[:1]), x_TBH[:-1]])


def scan_in_place(step: Callable, carry: Any, x_TBG: jax.Array, xs: Any, reverse: bool = False) -> tuple:
    """Scans step(carry, x_BG, x) to (carry, y_BG, y). Returns the last carry, y_TBG of x_TBG's shape, and all y.

    On CPU y_TBG is written over x_TBG: XLA would fill new memory with zeros first. The step is `compiled_once`, since
    XLA copies the whole array at every step where a read may come after the write.
    """
    if jax.default_backend() != "cpu":

        def plain_step(carry, at):
            carry, y_BG, y = step(carry, *at)
            return carry, (y_BG, y)

        unroll = GPU_UNROLL if jax.default_backend() == "gpu" else 1
        carry, (y_TBG, ys) = jax.lax.scan(plain_step, carry, (x_TBG, xs), reverse=reverse, unroll=unroll)
        return carry, y_TBG, ys

    @ops.compiled_once
    def read_and_step(carry, x_TBG, t, x):
        return step(carry, x_TBG[t], x)

    def write(carry, at):
        (carry, x_TBG), (t, x) = carry, at
        carry, y_BG, y = read_and_step(carry, x_TBG, t, x)
        return (carry, jax.lax.dynamic_update_index_in_dim(x_TBG, y_BG, t, 0)), y

    (carry, y_TBG), ys = jax.lax.scan(write, (carry, x_TBG), (jnp.arange(len(x_TBG)), xs), reverse=reverse)
    return carry, y_TBG, ys


def kernels_forward(x_TBF, input_kernel, bias, kernel):
    gates_TBG = x_TBF @ input_kernel + bias
    h, c = kernels.forward(gates_TBG, kernel)
    return h, (h, c, gates_TBG)


def kernels_backward(args, residuals, grad_TBH):
    """Computes what the gradients need of all steps at once, then runs one loop."""
    kernel, (h, c, gates_TBG) = args[-1], residuals
    previous_h = previous(h)
    i, f, g, o = jnp.split(gates_TBG + previous_h @ kernel, 4, axis=-1)
    i, f, g, o, tanh_c = jax.nn.sigmoid(i), jax.nn.sigmoid(f), jnp.tanh(g), jax.nn.sigmoid(o), jnp.tanh(c)
    gate_slopes = [g * i * (1 - i), previous(c) * f * (1 - f), i * (1 - g**2), tanh_c * o * (1 - o)]
    slopes = jnp.concatenate([*gate_slopes, f, o * (1 - tanh_c**2)], axis=-1)
    grad_gates = kernels.backward(kernel, slopes, grad_TBH)
    return gradients(args, previous_h, grad_gates, grad_gates.sum((0, 1)))


def together(run: Callable, inputs: list, weights: list) -> list:
    """Returns run(x, weights) for two layers of one kind; on GPU in one loop, whose step takes as long as for one."""
    if jax.default_backend() == "cpu":
        return list(map(run, inputs, weights))
    stack = lambda *each: jnp.stack(each)
    return list(jax.vmap(run)(stack(*inputs), jax.tree.map(stack, *weights)))


@functools.cache
def kernels_agree(features: int) -> bool:
    """Returns whether the GPU kernels compile and agree with the plain LSTM of this size, and warns where they do not.

    It runs both on random inputs. Steps and clips are few: they change how often the kernels' code runs, not the code.
    """
    shapes = (7, kernels.CLIPS + 1, features), (features, 4 * features), (4 * features,), (features, 4 * features)
    rng = np.random.default_rng(0)
    args = [rng.uniform(-1, 1, shape).astype(np.float32) * features**-0.5 for shape in shapes]

    def values(function):
        loss = lambda *args: jnp.sin(3 * function(*args)).sum()
        return jax.jit(lambda *args: (function(*args), jax.grad(loss, range(4))(*args)))(*args)

    try:
        with concurrent.futures.ThreadPoolExecutor(1) as thread:  # which traces nothing, while this one may
            by_kernels = thread.submit(values, ops.with_gradient(definition, kernels_forward, kernels_backward))
            plain = thread.submit(values, definition)
        ours, plain = (jax.tree.leaves(jax.device_get(each.result())) for each in (by_kernels, plain))
        wrong = np.max([np.abs(a - b).max() / np.abs(b).max() for a, b in zip(ours, plain)])
        problem = "" if wrong <= TOLERANCE else f"they differ from the plain LSTM by {wrong:.2g} of its largest value"
    except Exception as error:  # Pallas and Triton raise many kinds.
        problem = f"they do not compile: {type(error).__name__}: {error}".splitlines()[0]
    if problem:
        warnings.warn(f"LSTM layers of {features} units run without their GPU kernels: {problem}.", stacklevel=2)
    return not problem
