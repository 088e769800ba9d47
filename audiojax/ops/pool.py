"""Max-pooling."""

import functools

import jax
import jax.numpy as jnp


def max_pool(x: jax.Array, *widths: int) -> jax.Array:
    """Takes the maximum over windows that do not overlap; a remainder at the end of an axis is dropped.

    Args:
      x: [B, T, F] or [B, T, F, C].
      widths: of the window, one for each axis between the first and the last, or one for all.

    Returns:
      [B, T // width, F] or [B, T // widths[0], F // widths[-1], C].

    Raises:
      ValueError: x is narrower than a window.
    """
    axes = range(1, x.ndim - 1)
    for axis, width in zip(axes, widths * len(axes) if len(widths) == 1 else widths):
        if x.shape[axis] < width:
            raise ValueError(f"{x.shape[axis]} steps are left for a pool of {width}; take longer inputs or fewer pools")
        whole = jax.lax.slice_in_dim(x, 0, x.shape[axis] // width * width, axis=axis)
        x = max_over(whole.reshape(*x.shape[:axis], -1, width, *x.shape[axis + 1 :]), axis + 1)
    return x


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def max_over(x: jax.Array, axis: int) -> jax.Array:
    """Returns `x.max(axis)`; the gradient goes to the first of equal values.

    JAX's own gradient looks for values that equal the maximum. XLA may compute x again for that and round it
    otherwise: then it finds none and loses the gradient.
    """
    return x.max(axis)


@max_over.defjvp
def _max_over_jvp(axis, primals, tangents):
    [x], [tangent] = primals, tangents
    largest = jax.lax.index_in_dim(x, 0, axis, keepdims=False)
    place = jnp.zeros(largest.shape, jnp.int32)
    for number in range(1, x.shape[axis]):
        value = jax.lax.index_in_dim(x, number, axis, keepdims=False)
        largest, place = jnp.maximum(largest, value), jnp.where(value > largest, number, place)
    numbers = jnp.arange(x.shape[axis]).reshape(-1, *[1] * (largest.ndim - axis))
    return largest, jnp.where(jnp.expand_dims(place, axis) == numbers, tangent, 0).sum(axis)
