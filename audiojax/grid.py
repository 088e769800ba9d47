"""A grid of settings: every combination of their values is a replica of its own in one program, all of one seed."""

import math
from collections.abc import Container

import numpy as np

from audiojax.errors import ConfigError


def settle(config, overrides: Container[str]) -> None:
    """Makes replicas as many as the grid has combinations, where there is one and the command line has not set them.

    Raises:
      ConfigError: `overrides` have a key that differs between the replicas anyway.
    """
    pairs = _pairs(config)
    for key, _ in pairs:
        if key in overrides:
            raise ConfigError(f"--config.{key} has no effect on {config.row}, whose grid sets it; set --config.grid.")
    if pairs and "replicas" not in overrides:
        config.replicas = math.prod(len(values) for _, values in pairs)


def settings(config) -> dict[str, np.ndarray]:
    """Each key of `config.grid` with its value in every replica, float32 [replicas]; {} where there is no grid."""
    pairs = columns(config)
    mesh = np.meshgrid(*(values for _, values in pairs), indexing="ij")
    return {key: values.ravel() for (key, _), values in zip(pairs, mesh)}


def columns(config) -> list[tuple[str, np.ndarray]]:
    """Each key of `config.grid` and its values, float32.

    grid: pairs of a key and its values, such as ("optim.lr", (1e-4, 1e-3)); the last key's values change fastest. One
    program serves all of them, so they are numbers that leave shapes alone and that evaluation does not need: optim.lr,
    task.positive_weight (of sigmoid_cross_entropy) and the model's rates of dropout.

    Raises:
      ConfigError: another key, no pairs of a key and numbers, or not as many replicas as combinations.
    """
    known = ["optim.lr", *["task.positive_weight"] * (config.task.loss == "sigmoid_cross_entropy")]
    known += [f"model.{name}" for name in config.model if name.endswith("dropout")]
    pairs = _pairs(config)
    for key, values in pairs:
        if key not in known:
            raise ConfigError(
                f"grid: {key!r} with values {values.tolist()} cannot differ; keys that can: {', '.join(known)}."
            )
    combinations = math.prod(len(values) for _, values in pairs)
    if pairs and combinations != config.replicas:
        raise ConfigError(
            f"grid has {combinations} combinations; set replicas={combinations}, for it is {config.replicas}."
        )
    return pairs


def _pairs(config) -> list[tuple[str, np.ndarray]]:
    """Keys of the grid and the values of each."""
    try:
        pairs = [(str(key), np.array(values, np.float32)) for key, values in config.grid]
        if not all(values.ndim == 1 and len(values) for _, values in pairs):
            raise ValueError("a key without a list of numbers")
    except (TypeError, ValueError) as error:
        raise ConfigError(f'grid={config.grid} must be pairs such as ("optim.lr", (1e-4, 1e-3)): {error}.') from error
    return pairs
