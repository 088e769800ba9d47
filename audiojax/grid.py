"""A grid of settings: every combination of their values is a replica of its own in one program, all of one seed."""

import math

import numpy as np

from audiojax.errors import ConfigError


def settings(config) -> dict[str, np.ndarray]:
    """Each key of `config.grid` with its value in every replica, float32 [replicas]; {} where there is no grid.

    grid: pairs of a key and its values, such as ("optim.lr", (1e-4, 1e-3)); the last key's values change fastest. One
    program serves all of them, so they are numbers that leave shapes alone and that evaluation does not need: optim.lr,
    task.positive_weight (of sigmoid_cross_entropy) and the model's rates of dropout.

    Raises:
      ConfigError: another key, no pairs of a key and numbers, or not as many replicas as combinations.
    """
    known = ["optim.lr", *["task.positive_weight"] * (config.task.loss == "sigmoid_cross_entropy")]
    known += [f"model.{name}" for name in config.model if name.endswith("dropout")]
    try:
        columns = [(key, np.array(values, np.float32)) for key, values in config.grid]
    except (TypeError, ValueError) as error:
        raise ConfigError(f'grid={config.grid} must be pairs such as ("optim.lr", (1e-4, 1e-3)): {error}.') from error
    for key, values in columns:
        if key not in known or not values.ndim == 1 or not len(values):
            raise ConfigError(f"grid: {key!r} with values {values.tolist()} cannot differ; keys: {', '.join(known)}.")
    combinations = math.prod(len(values) for _, values in columns)
    if columns and combinations != config.replicas:
        raise ConfigError(
            f"grid has {combinations} combinations; set replicas={combinations}, for it is {config.replicas}."
        )
    mesh = np.meshgrid(*(values for _, values in columns), indexing="ij")
    return {key: values.ravel() for (key, _), values in zip(columns, mesh)}
