"""The two loops of an LSTM's steps on an NVIDIA GPU: one kernel each, which keeps the recurrent weights on the chip.

As a scan each step is some kernels of XLA's, whose start takes longer than what they compute.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

try:
    from jax.experimental.pallas import triton
except ImportError:  # Deprecated since JAX 0.11. The scan is left then.
    triton = None

CLIPS = 16  # that one program has, the least that a matrix product of Triton takes
FEATURES = (16, 32, 64, 128)  # powers of two
SHARED_KB = {"8.0": 163, "9.0": 227, "10.0": 227}  # memory of a multiprocessor, by compute capability
LEAST_CAPABILITY, LEAST_SHARED_KB = 8, 99  # of these, and of all others from there on
EXCHANGED_KB = 8  # beside the weights
VANISHED = 1e-37  # gradients of a step
PRECISIONS = (None, "default", "tensorfloat32")


def serves(features: int, dtype: jnp.dtype) -> bool:
    """Whether these kernels can be used: in float32, on one NVIDIA GPU (of several each would have the clips of all)
    since Ampere, where a multiprocessor has room for the weights.

    Products round their factors to 11 bits, as XLA's do on such a GPU where no higher precision is asked for.
    """
    device = jax.devices()[0]
    if triton is None or not device.device_kind.startswith("NVIDIA"):
        return False
    alone = jax.sharding.get_abstract_mesh().size <= 1
    rounds = jax.config.jax_default_matmul_precision in PRECISIONS
    known = features in FEATURES and dtype == jnp.float32 and float(device.compute_capability) >= LEAST_CAPABILITY
    needed_kb = 4 * features**2 * 2 / 1024 + EXCHANGED_KB
    return known and alone and rounds and needed_kb <= SHARED_KB.get(device.compute_capability, LEAST_SHARED_KB)


def forward(gates_TBG: jax.Array, kernel: jax.Array) -> tuple[jax.Array, jax.Array]:
    """All outputs and cells [T, B, H], from zeros, of what the gates have from input and bias, and the recurrent kernel
    [H, 4H]. Gates in the order input, forget, cell, output."""
    steps, features = len(gates_TBG), len(kernel)
    tanh = jnp.tanh if interpreted() else triton.approx_tanh
    sigmoid = lambda x: 0.5 + 0.5 * tanh(0.5 * x)

    def loop(kernel_ref, gates_ref, h_ref, c_ref):
        clips, gates = own_clips(), parts(4, features)
        weights = [kernel_ref[:, gate] for gate in gates]
        read = lambda step: tuple(gates_ref[step, clips, gate] for gate in gates)

        def take(step, carry):
            h, c, now = carry
            following = read(jnp.minimum(step + 1, steps - 1))  # On its way while this step is computed.
            h = h.astype(jnp.float16)
            i, f, g, o = (x + product(h, weight) for x, weight in zip(now, weights))
            c = sigmoid(f) * c + sigmoid(i) * tanh(g)
            h = sigmoid(o) * tanh(c)
            h_ref[step, clips, :] = h
            c_ref[step, clips, :] = c
            return h, c, following

        zeros = jnp.zeros((CLIPS, features))
        jax.lax.fori_loop(0, steps, take, (zeros, zeros, read(0)))

    return call(loop, (features, features), 16, kernel, gates_TBG)


def backward(kernel: jax.Array, factors_TBF: jax.Array, grad_TBH: jax.Array) -> jax.Array:
    """Gradients [T, B, 4H] of what the gates are before their nonlinearities.

    factors_TBF: [T, B, 6H], by how much a step's gradients grow: those of the input, forget and cell gates with that of
    the cell, of the output gate with that of h, of the previous cell with that of the cell, of the cell with that of h.
    """
    steps, _, features = grad_TBH.shape

    def loop(kernel_ref, factors_ref, grad_ref, out_ref):
        clips, columns = own_clips(), parts(6, features)
        weights = [kernel_ref[gate, :] for gate in columns[:4]]
        read = lambda step: (grad_ref[step, clips, :], *(factors_ref[step, clips, part] for part in columns))

        def take(back, carry):
            grad_h, grad_c, (grad, *by, c_by_next_c, c_by_h) = carry
            step = steps - 1 - back
            following = read(jnp.maximum(step - 1, 0))
            grad_h += grad
            grad_c += grad_h * c_by_h
            grads = [x * factor for x, factor in zip((grad_c, grad_c, grad_c, grad_h), by)]
            for gate, x in zip(columns, grads):
                out_ref[step, clips, gate] = x
            # Half precision has few exponents: the largest becomes 1, or all 0 where it has no inverse.
            largest = functools.reduce(jnp.maximum, (jnp.abs(x) for x in grads)).max()
            inverse = jnp.where(largest < VANISHED, 0.0, 1 / largest)
            i, f, g, o = (product((x * inverse).astype(jnp.float16), weight) for x, weight in zip(grads, weights))
            return ((i + f) + (g + o)) * largest, grad_c * c_by_next_c, following

        zeros = jnp.zeros((CLIPS, features))
        jax.lax.fori_loop(0, steps, take, (zeros, zeros, read(steps - 1)))

    [grads_TBG] = call(loop, (4 * features,), 8, kernel.T, factors_TBF, grad_TBH)
    return grads_TBG


def call(loop: Callable, widths: tuple[int, ...], warps: int, kernel: jax.Array, *xs_TBF: jax.Array) -> list[jax.Array]:
    """Arrays [T, B, width] that a kernel makes of the weights and xs: a program for each CLIPS clips, zeros in place of
    those that the last one lacks. Without a GPU as JAX defines it, for tests."""
    steps, clips, _ = xs_TBF[0].shape
    filled = clips + -clips % CLIPS
    made = pl.pallas_call(
        loop,
        grid=(filled // CLIPS,),
        out_shape=[jax.ShapeDtypeStruct((steps, filled, width), jnp.float32) for width in widths],
        compiler_params=triton.CompilerParams(num_warps=warps, num_stages=1),
        interpret=interpreted(),
    )(kernel.astype(jnp.float16), *(jnp.pad(x, ((0, 0), (0, filled - clips), (0, 0))) for x in xs_TBF))
    return [x[:, :clips] for x in made]


def interpreted() -> bool:
    return jax.default_backend() == "cpu"


def own_clips() -> pl.Slice:
    """Those of this program."""
    return pl.ds(CLIPS * pl.program_id(0), CLIPS)


def parts(number: int, features: int) -> list[pl.Slice]:
    return [pl.ds(part * features, features) for part in range(number)]


def product(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.dot(a, b, preferred_element_type=jnp.float32)
