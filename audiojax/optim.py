"""Optimisers, schedules and averages of the weights from a config, on top of optax."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from audiojax.errors import ConfigError


class Average(NamedTuple):
    """A weighted sum of trees seen so far, and the sum of their weights."""

    weight: jax.Array
    total: Any


def make(config, total_steps: int) -> optax.GradientTransformation:
    """Builds the optimiser of `config.optim`.

    Keys: name (a function of optax), lr, schedule ("constant" or "cosine", to zero at the end), warmup (share of the
    steps, linear from zero), weight_decay (on kernels alone, decoupled), clip_norm (of the whole gradient, 0 for
    none). `average_decay` reads average_share.

    Raises:
      ConfigError: an unknown optimiser or schedule.
    """
    schedules = {
        "constant": optax.constant_schedule(config.lr),
        "cosine": optax.cosine_decay_schedule(config.lr, max(total_steps, 1)),
    }
    if config.schedule not in schedules:
        raise ConfigError(f"optim.schedule={config.schedule!r} is unknown; schedules: {', '.join(schedules)}.")
    warmup_steps = round(config.warmup * total_steps)

    def learning_rate(step):
        rise = jnp.minimum(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
        return rise * schedules[config.schedule](step)

    scalings = {"adam": optax.scale_by_adam, "sgd": optax.identity, "momentum": lambda: optax.trace(0.9)}
    if config.name not in scalings:
        raise ConfigError(f"optim.name={config.name!r} is unknown; optimisers: {', '.join(scalings)}.")
    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm) if config.clip_norm else optax.identity(),
        scalings[config.name](),
        optax.add_decayed_weights(config.weight_decay, mask=kernels) if config.weight_decay else optax.identity(),
        optax.scale_by_learning_rate(learning_rate),
    )


def kernels(params: Any) -> Any:
    """Mask of the parameters that weight decay acts on: matrices and filters, not biases."""
    return jax.tree.map(lambda p: p.ndim > 1, params)


def average_decay(config, total_steps: int) -> float:
    """Decay a step of the exponential average whose time constant is the share `average_share` of all steps."""
    return math.exp(-1 / (config.average_share * total_steps))


def start_average(tree: Any) -> Average:
    """The average of nothing yet, for trees of this shape."""
    return Average(jnp.zeros(()), jax.tree.map(jnp.zeros_like, tree))


def add_to_average(average: Average, tree: Any, decay: float) -> Average:
    """The exponential average with one more tree, the newest."""
    total = jax.tree.map(lambda total, new: decay * total + (1 - decay) * new, average.total, tree)
    return Average(decay * average.weight + 1 - decay, total)


def averaged(average: Average, otherwise: Any) -> Any:
    """The mean without the bias of its start; `otherwise` where nothing was added yet."""
    begun = average.weight > 0
    scale = 1 / jnp.where(begun, average.weight, 1)
    return jax.tree.map(lambda total, other: jnp.where(begun, scale * total, other), average.total, otherwise)
