"""Batch normalisation."""

import jax
import jax.numpy as jnp

from audiojax import ops

EPSILON = 1e-5  # added to variances


def _definition(x, scale, bias):
    axes, dtype = tuple(range(x.ndim - 1)), jnp.promote_types(x.dtype, jnp.float32)
    mean = x.mean(axes, dtype)
    var = jnp.maximum(jnp.square(x.astype(dtype)).mean(axes) - mean**2, 0)
    y = (x - mean) * (jax.lax.rsqrt(var + EPSILON) * scale) + bias
    return y, jax.lax.stop_gradient(mean), jax.lax.stop_gradient(var)


def _forward(x, scale, bias):
    y, mean, var = _definition(x, scale, bias)
    return (y, mean, var), (mean, var)


def _backward(args, residuals, grads):
    """One pass over x for both sums and one for x's gradient; JAX's own gradient takes more of them."""
    (x, scale, _), (mean, var), (grad, *_) = args, residuals, grads
    axes, count, inverse = tuple(range(x.ndim - 1)), x.size // x.shape[-1], jax.lax.rsqrt(var + EPSILON)
    grad_bias = grad.sum(axes)
    grad_scale = (grad * (x - mean)).sum(axes) * inverse
    grad_x = (grad - grad_bias / count - (x - mean) * (inverse * grad_scale / count)) * (inverse * scale)
    return grad_x.astype(x.dtype), grad_scale.astype(scale.dtype), grad_bias.astype(scale.dtype)


_batch_norm = ops.with_gradient(_definition, _forward, _backward)


def batch_norm(x: jax.Array, scale: jax.Array, bias: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Normalises each feature of the last axis over all other axes, in float32 or more.

    Args:
      x: [..., F]. scale, bias: [F].

    Returns:
      y [..., F] with mean `bias` and standard deviation `scale`, and x's mean and variance [F], which pass no gradient.
    """
    return _batch_norm(x, scale, bias)
