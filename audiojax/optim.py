"""Optimisers, schedules and averages of the weights from a config, on top of optax."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from audiojax.errors import ConfigError
from audiojax.state import TrainState


class Average(NamedTuple):
    """A weighted sum of trees seen so far, and the sum of their weights."""

    weight: jax.Array
    total: Any


class Optimiser:
    """How a TrainState begins and moves, by a config's section `optim`: see `make`, whose errors it raises."""

    def __init__(self, config, total_steps: int):
        self._lr, self._optax = config.lr, make(config, total_steps)
        self._average_decay = average_decay(config, total_steps) if config.average_share else None

    def start(self, params: Any, model_state: Any, settings: dict[str, jax.Array]) -> TrainState:
        """The state before the first step."""
        average = start_average((params, model_state)) if self._average_decay else None
        opt_state = self._optax.init(params)
        return TrainState(jnp.zeros((), jnp.int32), params, model_state, opt_state, average, settings)

    def step(self, state: TrainState, grads: Any, model_state: Any) -> TrainState:
        """The state after a step along the gradient of its parameters. model_state: the new one."""
        updates, opt_state = self._optax.update(grads, state.opt_state, state.params)
        if "optim.lr" in state.settings:
            updates = optax.tree.scale(state.settings["optim.lr"] / self._lr, updates)
        params, average = optax.apply_updates(state.params, updates), state.average
        if self._average_decay:
            average = add_to_average(average, (params, model_state), self._average_decay)
        return TrainState(state.step + 1, params, model_state, opt_state, average, state.settings)

    def evaluated(self, state: TrainState):
        """What is evaluated and kept of a state: (params, model_state)."""
        live = state.params, state.model_state
        return averaged(state.average, live) if self._average_decay else live


def make(config, total_steps: int) -> optax.GradientTransformation:
    """Builds the optimiser of `config.optim`.

    Keys: name ("adam", "sgd" or "momentum"), b1 (of Adam, the decay of its mean), lr, schedule ("constant" or "cosine",
    to zero at the end), warmup (share of the steps, linear from zero), weight_decay (on kernels alone, decoupled),
    clip_norm (of the whole gradient, 0 for none). `average_decay` reads average_share.

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

    scalings = {"adam": lambda: adam(config.b1), "sgd": optax.identity, "momentum": lambda: optax.trace(0.9)}
    if config.name not in scalings:
        raise ConfigError(f"optim.name={config.name!r} is unknown; optimisers: {', '.join(scalings)}.")
    return optax.chain(
        clip(config.clip_norm) if config.clip_norm else optax.identity(),
        scalings[config.name](),
        optax.add_decayed_weights(config.weight_decay, mask=kernels) if config.weight_decay else optax.identity(),
        optax.scale_by_learning_rate(learning_rate),
    )


def norm(tree: Any) -> jax.Array:
    """Euclidean norm of all leaves together.

    By products, for which XLA on CPU reads them once; the squares of a sum it would first write to memory.
    """
    return jnp.sqrt(sum(jnp.vdot(leaf, leaf, precision="highest") for leaf in jax.tree.leaves(tree)))


def clip(limit: float) -> optax.GradientTransformation:
    """Scales the whole gradient down to the norm `limit` where it is longer."""

    def scale(grads, params=None):
        return optax.tree.scale(jnp.minimum(1, limit / norm(grads)), grads)

    return optax.stateless(scale)


def adam(b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8) -> optax.GradientTransformation:
    """`optax.scale_by_adam`, an eighth of a step faster for large dense layers on CPU.

    Its squares are no expression that `norm` has too, which XLA would compute once and write to memory for both.
    """

    def update(grads, state, params=None):
        count = optax.safe_increment(state.count)
        mean = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, state.mu, grads)
        square = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g * g, state.nu, grads)
        mean_scale, square_scale = 1 / (1 - b1**count), 1 / (1 - b2**count)
        updates = jax.tree.map(lambda m, v: mean_scale * m / (jnp.sqrt(square_scale * v) + eps), mean, square)
        return updates, optax.ScaleByAdamState(count, mean, square)

    return optax.GradientTransformation(optax.scale_by_adam(b1, b2, eps).init, update)


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
