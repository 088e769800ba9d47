"""What training carries from step to step."""

from typing import Any

import flax.struct
import jax
import numpy as np

from audiojax.errors import ConfigError


class TrainState(flax.struct.PyTreeNode):
    """State of one replica, or of all with a leading replica axis on every array.

    step: int32, steps done. params: the model's parameters, float32. model_state: its other variables, such as batch
    statistics. opt_state: the optimiser's. average: `optim.Average` of (params, model_state), or None. settings: with a
    grid, this replica's values by key of the config.
    """

    step: jax.Array
    params: Any
    model_state: Any
    opt_state: Any
    average: Any
    settings: dict[str, jax.Array]


class Best(flax.struct.PyTreeNode):
    """The best evaluation so far of each replica: its score on validation (higher is better), step and weights."""

    score: jax.Array
    step: jax.Array
    params: Any
    model_state: Any


def first_weights(saved: dict, like: tuple[Any, Any], source: str) -> tuple[Any, Any]:
    """Weights from another run's checkpoint to begin a run with: (params, model_state) as host arrays.

    A replica gets the weights that validation chose, or the newest where it chose none. A checkpoint of one replica
    gives its weights to all.

    Args:
      saved: the checkpoint's "best" and "state", dictionaries of host arrays. source: its run's folder, for messages.
      like: (params, model_state) of the run that begins, with a leading replica axis.

    Raises:
      ConfigError: the checkpoint has another network or number of replicas, or weights that are not finite.
    """
    best, newest = (
        named_leaves([saved[kind].get(name) or {} for name in ("params", "model_state")]) for kind in ("best", "state")
    )
    wanted, chosen_R = named_leaves(like), np.asarray(saved["best"]["score"]) > -np.inf
    shape = lambda leaves, name: f"{leaves[name].shape[1:]}" if name in leaves else "absent"
    if differing := [name for name in wanted | best if shape(best, name) != shape(wanted, name)]:
        first, more = differing[0], f", and {len(differing) - 1} more differ" * (len(differing) > 1)
        raise ConfigError(
            f"start_from={source} has another network: {first} is {shape(best, first)} there and {shape(wanted, first)}"
            f" here{more}; take a run of the same model on the same features and classes."
        )
    replicas = len(jax.tree.leaves(like)[0])
    if len(chosen_R) not in (1, replicas):
        raise ConfigError(
            f"start_from={source} has {len(chosen_R)} replicas and this run {replicas}; set replicas={len(chosen_R)},"
            " or take a run with one replica."
        )
    choose = lambda best, newest: np.where(chosen_R.reshape(-1, *[1] * (newest.ndim - 1)), best, newest)
    weights = {name: choose(best[name], newest[name]) for name in wanted}
    finite_R = np.all([np.isfinite(leaf).reshape(len(leaf), -1).all(1) for leaf in weights.values()], 0)
    if not finite_R.all():
        raise ConfigError(
            f"start_from={source}: the newest weights of replica {finite_R.argmin()} are not finite, and validation"
            " chose none before; take another run."
        )
    return jax.tree.unflatten(
        jax.tree.structure(like), [np.repeat(weights[name], replicas // len(chosen_R), 0) for name in wanted]
    )


def named_leaves(tree: Any) -> dict[str, Any]:
    """The leaves of (params, model_state) in their order, with names such as Dense_0.kernel."""
    leaves, _ = jax.tree.flatten_with_path(tree)
    return {jax.tree_util.keystr(path[1:], simple=True, separator="."): leaf for path, leaf in leaves}
