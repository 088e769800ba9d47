"""A finished run as a model."""

import pathlib
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from audiojax import checkpoint, names, runs
from audiojax.errors import RunError
from audiojax.state import Best


class Trained(NamedTuple):
    """A finished run of one network.

    best: the weights that validation chose, with a leading axis of config.replicas: those replicas for which it chose
    any.
    """

    config: ConfigDict
    result: dict
    task: Any
    best: Best


def load(folder: pathlib.Path) -> Trained:
    """Reads a finished run.

    Raises:
      RunError: the run is not finished, has no weights, or cannot be read.
    """
    result = runs.read_result(folder)
    if result is None or "best_step" not in result:
        raise RunError(f"{folder} holds no finished run; train it first.")
    if not result["best_step"]:
        raise RunError(f"{folder} is a run without weights of its own, such as an ensemble; take a run that trains.")
    config = ConfigDict(tuples(runs.read_config(folder)))
    if "prior" not in result and config.task.get("competition"):
        raise RunError(f"{folder} does not say how frequent its classes are, which its scores need; train it again.")
    classes = len(result["classes"])
    prior_K = np.array(result.get("prior", [1 / classes] * classes))
    try:
        task = names.task(config.task.name)(config, prior_K, result["steps"])
    except (AttributeError, KeyError) as error:
        raise RunError(
            f"{folder} was trained by another version of audiojax, whose config.json has no {error}; take that version,"
            " or train it again."
        ) from error
    best = Best(**checkpoint.read(folder / "checkpoints", chosen=result["best_step"])["best"])
    chosen = np.flatnonzero(np.asarray(best.score) > -np.inf)
    if len(chosen) < config.replicas:
        best, config.replicas = jax.tree.map(lambda leaf: leaf[chosen], best), len(chosen)
    return Trained(config, result, task, best)


def tuples(tree):
    """The same tree with tuples in place of lists, which JSON has instead."""
    if isinstance(tree, dict):
        return {key: tuples(value) for key, value in tree.items()}
    return tuple(map(tuples, tree)) if isinstance(tree, list) else tree
