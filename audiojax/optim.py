"""Optimisers, schedules and weight averages from a config, by optax."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from audiojax import names
from audiojax.state import TrainState


class Average(NamedTuple):
    """A weighted sum of trees and the sum of the weights."""

    weight: jax.Array
    total: Any


class Optimiser:
    """Makes and updates a TrainState by a config's section `optim`. Raises the errors of `make`."""

    def __init__(self, config, total_steps: int):
        self._lr, self._optax = config.lr, make(config, total_steps)
        self._average_decay = average_decay(config, total_steps) if config.average_share else None

    def start(self, params: Any, model_state: Any, settings: dict[str, jax.Array]) -> TrainState:
        """Returns the state before the first step."""
        average = start_average((params, model_state)) if self._average_decay else None
        opt_state = self._optax.init(params)
        return TrainState(jnp.zeros((), jnp.int32), params, model_state, opt_state, average, settings)

    def step(self, state: TrainState, grads: Any, model_state: Any) -> TrainState:
        """Returns the state after one update. grads: of the parameters. model_state: the new one."""
        updates, opt_state = self._optax.update(grads, state.opt_state, state.params)
        if "optim.lr" in state.settings:
            updates = optax.tree.scale(state.settings["optim.lr"] / self._lr, updates)
        params, average = optax.apply_updates(state.params, updates), state.average
        if self._average_decay:
            average = add_to_average(average, (params, model_state), self._average_decay)
        return TrainState(state.step + 1, params, model_state, opt_state, average, state.settings)

    def evaluated(self, state: TrainState):
        """Returns the (params, model_state) that are evaluated and saved: the average, where there is one."""
        live = state.params, state.model_state
        return averaged(state.average, live) if self._average_decay else live


def make(config, total_steps: int) -> optax.GradientTransformation:
    """Builds the optimiser of `config.optim`.

    Its keys: name, "adam", "sgd" or "momentum"; b1, Adam's decay of the mean; lr; schedule, "constant" or "cosine" to
    zero; warmup, a share of the steps, linear from zero; weight_decay, decoupled, of kernels alone; clip_norm of the
    whole gradient, 0 for none.

    Raises:
      ConfigError: the optimiser or the schedule is unknown.
    """
    schedules = {
        "constant": optax.constant_schedule(config.lr),
        "cosine": optax.cosine_decay_schedule(config.lr, max(total_steps, 1)),
    }
    names.choose("optim.schedule", config.schedule, schedules)
    warmup_steps = round(config.warmup * total_steps)

    def learning_rate(step):
        rise = jnp.minimum(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
        return rise * schedules[config.schedule](step)

    scalings = {
        "adam": lambda: optax.scale_by_adam(config.b1),
        "sgd": optax.identity,
        "momentum": lambda: optax.trace(0.9),
    }
    names.choose("optim.name", config.name, scalings)
    return optax.chain(
        clip(config.clip_norm) if config.clip_norm else optax.identity(),
        scalings[config.name](),
        optax.add_decayed_weights(config.weight_decay, mask=kernels) if config.weight_decay else optax.identity(),
        optax.scale_by_learning_rate(learning_rate),
    )


def norm(tree: Any) -> jax.Array:
    """Returns the Euclidean norm of all leaves together.

    Dot products read each leaf once. XLA on CPU would write its squares to memory before it sums them.
    """
    return jnp.sqrt(sum(jnp.vdot(leaf, leaf, precision="highest") for leaf in jax.tree.leaves(tree)))


def clip(limit: float) -> optax.GradientTransformation:
    """Scales a gradient whose norm is above `limit` down to it."""

    def scale(grads, params=None):
        return optax.tree.scale(jnp.minimum(1, limit / norm(grads)), grads)

    return optax.stateless(scale)


def kernels(params: Any) -> Any:
    """Returns the mask of the parameters with weight decay: matrices and filters, not biases."""
    return jax.tree.map(lambda p: p.ndim > 1, params)


def average_decay(config, total_steps: int) -> float:
    """Returns the decay at each step of an exponential average over `average_share` of all steps."""
    return math.exp(-1 / (config.average_share * total_steps))


def start_average(tree: Any) -> Average:
    """Returns the empty average for trees of this shape."""
    return Average(jnp.zeros(()), jax.tree.map(jnp.zeros_like, tree))


def add_to_average(average: Average, tree: Any, decay: float) -> Average:
    """Returns the exponential average with one more tree."""
    total = jax.tree.map(lambda total, new: decay * total + (1 - decay) * new, average.total, tree)
    return Average(decay * average.weight + 1 - decay, total)


def averaged(average: Average, otherwise: Any) -> Any:
    """Returns the unbiased mean, or `otherwise` where the average is empty."""
    is_empty = average.weight == 0
    scale = 1 / jnp.where(is_empty, 1, average.weight)
    return jax.tree.map(lambda total, other: jnp.where(is_empty, other, scale * total), average.total, otherwise)
