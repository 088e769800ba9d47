"""Grids of settings: every combination of their values is one replica of one program, and all have one seed."""

import math
from collections.abc import Container

import numpy as np

from audiojax import names
from audiojax.errors import ConfigError


def settle(config, overrides: Container[str]) -> None:
    """Sets replicas to the number of combinations, where the config has a grid and the overrides leave replicas alone.

    Raises:
      ConfigError: the overrides set a key of the grid.
    """
    pairs = _pairs(config)
    for key, _ in pairs:
        if key in overrides:
            raise ConfigError(f"--config.{key} has no effect on {config.row}, whose grid sets it; set --config.grid.")
    if pairs and "replicas" not in overrides:
        config.replicas = math.prod(len(values) for _, values in pairs)


def settings(config) -> dict[str, np.ndarray]:
    """The value of each key of `config.grid` in every replica, float32 [replicas]; {} without a grid."""
    pairs = columns(config)
    mesh = np.meshgrid(*(values for _, values in pairs), indexing="ij")
    return {key: values.ravel() for (key, _), values in zip(pairs, mesh)}


def columns(config) -> list[tuple[str, np.ndarray]]:
    """Each key of `config.grid` and its values, float32.

    A grid is a list of pairs such as ("optim.lr", (1e-4, 1e-3)); the values of the last key change fastest. Its keys
    are the task's `grid_keys`, numbers that change no shape: one program trains all combinations.

    Raises:
      ConfigError: the grid has another key or is no list of such pairs, or replicas is not its number of combinations.
    """
    pairs = _pairs(config)
    known = names.task(config.task.name).grid_keys(config) if pairs else []
    for key, values in pairs:
        if key not in known:
            raise ConfigError(
                f"grid: {key!r} with values {values.tolist()} cannot differ; keys that can: {', '.join(known)}."
            )
    combinations = math.prod(len(values) for _, values in pairs)
    if pairs and combinations != config.replicas:
        raise ConfigError(
            f"grid has {combinations} combinations, but replicas={config.replicas}; set replicas={combinations}."
        )
    return pairs


def _pairs(config) -> list[tuple[str, np.ndarray]]:
    """The keys of the grid and their values, whatever the keys are."""
    try:
        pairs = [(str(key), np.array(values, np.float32)) for key, values in config.grid]
        if not all(values.ndim == 1 and len(values) for _, values in pairs):
            raise ValueError("a key without a list of numbers")
    except (TypeError, ValueError) as error:
        raise ConfigError(f'grid={config.grid} must be pairs such as ("optim.lr", (1e-4, 1e-3)): {error}.') from error
    return pairs
