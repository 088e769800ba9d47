"""Optimisers and schedules from a config, on top of optax."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from audiojax.errors import ConfigError


class AverageState(NamedTuple):
    """Sum of the weights and the running sum of weighted parameters of `averaging`."""

    weight: jax.Array
    total: Any


def make(config, total_steps: int) -> optax.GradientTransformation:
    """Builds the optimiser of `config.optim`.

    Keys: name (a function of optax), lr, schedule ("constant" or "cosine", to zero at the end), warmup (share of the
    steps, linear from zero), weight_decay (on kernels alone, decoupled), clip_norm (of the whole gradient, 0 for
    none), average_decay (exponential average of the parameters, which is what is then evaluated; 0 for none).

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
        averaging(config.average_decay) if config.average_decay else optax.identity(),
    )


def kernels(params: Any) -> Any:
    """Mask of the parameters that weight decay acts on: matrices and filters, not biases."""
    return jax.tree.map(lambda p: p.ndim > 1, params)


def averaging(decay: float) -> optax.GradientTransformation:
    """Keeps the exponential average of the parameters, without the bias of its start; leaves the updates alone."""

    def init(params):
        return AverageState(jnp.zeros(()), jax.tree.map(jnp.zeros_like, params))

    def update(updates, state, params):
        new = optax.apply_updates(params, updates)
        total = jax.tree.map(lambda t, p: decay * t + (1 - decay) * p, state.total, new)
        return updates, AverageState(decay * state.weight + 1 - decay, total)

    return optax.GradientTransformation(init, update)


def evaluated_params(params: Any, opt_state: Any) -> Any:
    """The parameters to evaluate: their average where the optimiser keeps one that has begun, else themselves."""
    is_average = lambda x: isinstance(x, AverageState)
    averages = [leaf for leaf in jax.tree.leaves(opt_state, is_leaf=is_average) if is_average(leaf)]
    if not averages:
        return params
    (average,) = averages
    begun = average.weight > 0
    scale = 1 / jnp.where(begun, average.weight, 1)
    return jax.tree.map(lambda total, param: jnp.where(begun, scale * total, param), average.total, params)
