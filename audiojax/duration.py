"""How long a run is: conversion between epochs, examples and steps."""

from audiojax.errors import ConfigError

UNITS = ("epochs", "steps", "examples")


def unit_of(config) -> str:
    """The unit of the config's duration. Raises ConfigError unless exactly one of `UNITS` is above 0."""
    given = [unit for unit in UNITS if config[unit] > 0]
    if len(given) != 1:
        values = ", ".join(f"{unit}={config[unit]:g}" for unit in UNITS)
        raise ConfigError(
            f"the duration must be exactly one of epochs, steps and examples, with the others 0; it is {values}."
        )
    return given[0]


def replace_duration(config, row, overrides: dict) -> None:
    """Replaces the duration of a row by the one among the overrides, if there is one.

    With another unit, the number of evaluations stays the same unless the overrides set eval_every.

    Args:
      config: the row's, with the overrides; it is changed. row: the row's, without them. overrides: flat key -> value.

    Raises:
      ConfigError: the overrides have two durations.
    """
    given = [unit for unit in UNITS if overrides.get(unit, 0) > 0]
    if len(given) > 1:
        flags = " and ".join(f"--config.{unit}={overrides[unit]:g}" for unit in given)
        raise ConfigError(f"{flags}: the duration must be exactly one of epochs, steps and examples.")
    before = [unit for unit in UNITS if row[unit] > 0]
    if given:
        config.update({unit: 0 for unit in UNITS if unit not in given})
    if given and len(before) == 1 and given != before and "eval_every" not in overrides:
        config.eval_every = row.eval_every / row[before[0]] * config[given[0]]


def duration(config, examples: int) -> tuple[int, int]:
    """Steps of the whole run, and steps between evaluations. `eval_every` counts in the unit of the duration.

    Args:
      examples: number of training examples.

    Raises:
      ConfigError: no duration or two, or a batch larger than the data.
    """
    unit = unit_of(config)
    if not 1 <= config.batch_size <= examples:
        raise ConfigError(f"batch_size={config.batch_size} must be between 1 and the {examples} training examples.")
    examples_each = {"epochs": examples, "steps": config.batch_size, "examples": 1}[unit]
    total, between = (max(1, round(n * examples_each / config.batch_size)) for n in (config[unit], config.eval_every))
    return total, min(total, between)
