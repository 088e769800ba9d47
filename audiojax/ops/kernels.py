"""The two loops of an LSTM as one Pallas kernel each, on an NVIDIA GPU. The recurrent weights stay on the chip.

In a scan each step starts several of XLA's kernels, which takes longer than what they compute.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

try:
    from jax.experimental.pallas import triton
except ImportError:  # JAX deprecates this back end. Without it `serves` is False.
    triton = None

CLIPS = 16  # in one program: the least rows that a matrix product of Triton takes
FEATURES = (16, 32, 64, 128)
SHARED_KB = {"8.0": 163, "9.0": 227, "10.0": 227}  # shared memory of a multiprocessor by compute capability
LEAST_CAPABILITY, LEAST_SHARED_KB = 8, 99  # LEAST_SHARED_KB: of all other capabilities from LEAST_CAPABILITY on
OTHER_KB = 8  # shared memory that is needed beside the weights
SMALLEST = 1e-37  # largest gradient of a step, below which the step's gradients become 0
PRECISIONS = (None, "default", "tensorfloat32")


def serves(features: int, dtype: jnp.dtype) -> bool:
    """Returns whether the kernels are for an LSTM of this size on this device.

    They need float32, one NVIDIA GPU of compute capability 8.0 or more whose multiprocessors hold the weights, and the
    default matmul precision: like XLA's products on such a GPU, theirs round factors to 11 bits.
    """
    device = jax.devices()[0]
    if triton is None or not device.device_kind.startswith("NVIDIA"):
        return False
    is_alone = jax.sharding.get_abstract_mesh().size <= 1
    may_round = jax.config.jax_default_matmul_precision in PRECISIONS
    is_known = features in FEATURES and dtype == jnp.float32 and float(device.compute_capability) >= LEAST_CAPABILITY
    needed_kb = 4 * features**2 * 2 / 1024 + OTHER_KB
    available_kb = SHARED_KB.get(device.compute_capability, LEAST_SHARED_KB)
    return is_known and is_alone and may_round and needed_kb <= available_kb


def forward(gates_TBG: jax.Array, kernel: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the outputs and the cell states [T, B, H] of all steps, from a state of zeros.

    Args:
      gates_TBG: input and bias of the gates [T, B, 4H], in the order input, forget, cell, output. kernel: [H, 4H].
    """
    steps, features = len(gates_TBG), len(kernel)
    tanh = jnp.tanh if interpreted() else triton.approx_tanh
    sigmoid = lambda x: 0.5 + 0.5 * tanh(0.5 * x)

    def loop(kernel_ref, gates_ref, h_ref, c_ref):
        clips, gates = program_clips(), slices(4, features)
        weights = [kernel_ref[:, gate] for gate in gates]
        read = lambda step: tuple(gates_ref[step, clips, gate] for gate in gates)

        def take(step, carry):
            h, c, now = carry
            following = read(jnp.minimum(step + 1, steps - 1))  # loaded while this step is computed
            h = h.astype(jnp.float16)
            i, f, g, o = (x + dot(h, weight) for x, weight in zip(now, weights))
            c = sigmoid(f) * c + sigmoid(i) * tanh(g)
            h = sigmoid(o) * tanh(c)
            h_ref[step, clips, :] = h
            c_ref[step, clips, :] = c
            return h, c, following

        zeros = jnp.zeros((CLIPS, features))
        jax.lax.fori_loop(0, steps, take, (zeros, zeros, read(0)))

    return call(loop, (features, features), 16, kernel, gates_TBG)


def backward(kernel: jax.Array, slopes_TBF: jax.Array, grad_TBH: jax.Array) -> jax.Array:
    """Returns the gradients [T, B, 4H] of the gates before their nonlinearities.

    Args:
      kernel: [H, 4H].
      slopes_TBF: derivatives [T, B, 6H]: of the cell state by the input, forget and cell gates, of h by the output
        gate, of the next cell state by the cell state, of h by the cell state.
      grad_TBH: gradient of the outputs.
    """
    steps, _, features = grad_TBH.shape

    def loop(kernel_ref, slopes_ref, grad_ref, out_ref):
        clips, columns = program_clips(), slices(6, features)
        weights = [kernel_ref[gate, :] for gate in columns[:4]]
        read = lambda step: (grad_ref[step, clips, :], *(slopes_ref[step, clips, part] for part in columns))

        def take(back, carry):
            grad_h, grad_c, (grad, *by, next_c_by_c, h_by_c) = carry
            step = steps - 1 - back
            following = read(jnp.maximum(step - 1, 0))
            grad_h += grad
            grad_c += grad_h * h_by_c
            grads = [x * slope for x, slope in zip((grad_c, grad_c, grad_c, grad_h), by)]
            for gate, x in zip(columns, grads):
                out_ref[step, clips, gate] = x
            # Scaled to a maximum of 1 for half precision, which has few exponents.
            largest = functools.reduce(jnp.maximum, (jnp.abs(x) for x in grads)).max()
            inverse = jnp.where(largest < SMALLEST, 0.0, 1 / largest)
            i, f, g, o = (dot((x * inverse).astype(jnp.float16), weight) for x, weight in zip(grads, weights))
            return ((i + f) + (g + o)) * largest, grad_c * next_c_by_c, following

        zeros = jnp.zeros((CLIPS, features))
        jax.lax.fori_loop(0, steps, take, (zeros, zeros, read(steps - 1)))

    [grads_TBG] = call(loop, (4 * features,), 8, kernel.T, slopes_TBF, grad_TBH)
    return grads_TBG


def call(loop: Callable, widths: tuple[int, ...], warps: int, kernel: jax.Array, *xs_TBF: jax.Array) -> list[jax.Array]:
    """Runs a kernel with one program for every CLIPS clips, the last one padded with zeros.

    Returns its outputs, [T, B, width] for each of `widths`. Without a GPU it is interpreted, for tests.
    """
    steps, clips, _ = xs_TBF[0].shape
    filled = clips + -clips % CLIPS
    outputs = pl.pallas_call(
        loop,
        grid=(filled // CLIPS,),
        out_shape=[jax.ShapeDtypeStruct((steps, filled, width), jnp.float32) for width in widths],
        compiler_params=triton.CompilerParams(num_warps=warps, num_stages=1),
        interpret=interpreted(),
    )(kernel.astype(jnp.float16), *(jnp.pad(x, ((0, 0), (0, filled - clips), (0, 0))) for x in xs_TBF))
    return [x[:, :clips] for x in outputs]


def interpreted() -> bool:
    return jax.default_backend() == "cpu"


def program_clips() -> pl.Slice:
    return pl.ds(CLIPS * pl.program_id(0), CLIPS)


def slices(number: int, features: int) -> list[pl.Slice]:
    return [pl.ds(part * features, features) for part in range(number)]


def dot(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.dot(a, b, preferred_element_type=jnp.float32)
