"""A grid of settings: every combination of their values is a replica of its own in one program, all of one seed."""

import itertools

import numpy as np

from audiojax.errors import ConfigError


def settings(config) -> dict[str, np.ndarray]:
    """Each key of `config.grid` with its value in every replica, float32 [replicas]; {} where there is no grid.

    grid: pairs of a key and its values, such as ("optim.lr", (1e-4, 1e-3)); the last key's values change fastest. One
    program serves all of them, so they are numbers that leave shapes alone and that evaluation does not need: optim.lr,
    task.positive_weight (of sigmoid_cross_entropy) and the model's rates of dropout.

    Raises:
      ConfigError: another key, or not as many replicas as combinations.
    """
    known = ["optim.lr", *["task.positive_weight"] * (config.task.loss == "sigmoid_cross_entropy")]
    known += [f"model.{name}" for name in config.model if name.endswith("dropout")]
    for key, values in config.grid:
        if key not in known or not values:
            raise ConfigError(f"grid: {key!r} with values {values} cannot differ; keys: {', '.join(known)}.")
    combinations = list(itertools.product(*(values for _, values in config.grid)))
    if config.grid and len(combinations) != config.replicas:
        raise ConfigError(
            f"grid has {len(combinations)} combinations; set replicas={len(combinations)}, for it is {config.replicas}."
        )
    columns = np.array(combinations, np.float32).T
    return {key: column for (key, _), column in zip(config.grid, columns)}
