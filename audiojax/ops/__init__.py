"""Operations of networks: each has one plain definition, and some have a fast one that computes the same.

Plain definitions are taken inside `with ops.plain():`, where the environment variable AUDIOJAX_OPS is "plain", on back
ends other than CPU, GPU and TPU, and for derivatives of a gradient.
"""

import contextlib
import os
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.experimental.xla_metadata import set_xla_metadata

from audiojax.errors import ConfigError

BACK_ENDS = ("cpu", "gpu", "cuda", "rocm", "tpu")
_plain = jax.make_user_context(default_value=False)  # part of the key of jax.jit's cache


def plain() -> contextlib.AbstractContextManager:
    """Returns a context in which every operation is traced by its plain definition.

    Fast operations have no forward mode: `jax.jvp`, `jax.linearize` and `jax.hessian` need this context. So does an
    export for another back end than the one that JAX runs on.
    """
    return _plain(True)


def is_plain() -> bool:
    """Returns whether operations that are traced now take their plain definitions.

    Raises:
      ConfigError: AUDIOJAX_OPS has another value than "plain", "fast" or "".
    """
    choice = os.environ.get("AUDIOJAX_OPS", "")
    if choice not in ("plain", "fast", ""):
        raise ConfigError(f"AUDIOJAX_OPS={choice!r} is unknown; set it to 'plain' or 'fast', or unset it.")
    return _plain.value or choice == "plain" or jax.default_backend() not in BACK_ENDS


def with_gradient(definition: Callable, forward: Callable, backward: Callable) -> Callable:
    """Returns a function with a fast first gradient; its higher derivatives are those of its plain definition.

    Args:
      definition: (*args) to the output. It replaces the fast passes where `is_plain`.
      forward: (*args) to the output and the residuals that `backward` needs.
      backward: (args, residuals, output's gradient) to the gradients of args.
    """

    def plain_backward(args, _, grad):
        return jax.vjp(definition, *args)[1](grad)

    # Both passes are differentiated as the plain ones, so that what they are made of needs no derivative.
    fast_forward = jax.custom_vjp(forward)
    fast_forward.defvjp(lambda *args: (forward(*args), args), lambda args, grads: plain_backward(args, None, grads[0]))
    fast_backward = jax.custom_vjp(backward)
    fast_backward.defvjp(
        lambda *inputs: (backward(*inputs), inputs), lambda inputs, grads: jax.vjp(plain_backward, *inputs)[1](grads)
    )

    def forward_with_args(*args):
        out, residuals = fast_forward(*args)
        return out, (args, residuals)

    fast = jax.custom_vjp(lambda *args: forward(*args)[0])
    fast.defvjp(forward_with_args, lambda saved, grad: fast_backward(*saved, grad))
    return lambda *args: definition(*args) if is_plain() else fast(*args)


def compiled_once(function: Callable) -> Callable:
    """Returns a function that XLA on CPU does not inline, so that its result is computed once.

    XLA on CPU recomputes elementwise results at every use, and drops `jax.lax.optimization_barrier` before it fuses.
    """

    def call(*args):
        if jax.default_backend() != "cpu":
            return function(*args)
        return set_xla_metadata(jax.jit(function)(*args), inlineable="false")

    return call


def one_by_one(function: Callable) -> Callable:
    """Returns a function that `jax.vmap` calls once for each element, without batching."""
    called = jax.custom_batching.custom_vmap(function)

    @called.def_vmap
    def each(size: int, batched: list, *args):
        element = lambda n: jax.tree.map(lambda x, is_batched: x[n] if is_batched else x, args, tuple(batched))
        out = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(function(*element(n)) for n in range(size)))
        return out, jax.tree.map(lambda _: True, out)

    return called


def kernel_gradient(x: jax.Array, grad: jax.Array) -> jax.Array:
    """Returns the gradient [F, G] of a kernel in x @ kernel, for x [..., F] and the product's gradient [..., G].

    JAX's own gradient has the factors the other way round, for which XLA transposes `grad` in memory. The leading axes
    stay apart, since a device would gather the other devices' shards of a flat one.
    """
    axes = tuple(range(x.ndim - 1))
    return jax.lax.dot_general(x, grad, ((axes, axes), ((), ())))
