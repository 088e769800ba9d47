"""How long a run is: the one converter between epochs, examples and steps."""

from audiojax.errors import ConfigError

UNITS = ("epochs", "steps", "examples")


def unit_of(config) -> str:
    """The unit of the config's duration. Raises ConfigError unless exactly one of them is above 0."""
    given = [unit for unit in UNITS if config[unit] > 0]
    if len(given) != 1:
        values = ", ".join(f"{unit}={config[unit]:g}" for unit in UNITS)
        raise ConfigError(
            f"the duration must be exactly one of epochs, steps and examples, the others 0; it is {values}."
        )
    return given[0]


def replace_duration(config, own, overrides: dict) -> None:
    """Lets a duration among the overrides of a row's config take the place of the row's own.

    In another unit than the row's it keeps the number of evaluations, where the overrides do not set eval_every.

    Args:
      config: the row's with the overrides. own: the row's without. overrides: flat key -> value.

    Raises:
      ConfigError: two durations among the overrides.
    """
    given = [unit for unit in UNITS if overrides.get(unit, 0) > 0]
    if len(given) > 1:
        flags = " and ".join(f"--config.{unit}={overrides[unit]:g}" for unit in given)
        raise ConfigError(f"{flags}: the duration must be exactly one of epochs, steps and examples.")
    before = [unit for unit in UNITS if own[unit] > 0]
    if given:
        config.update({unit: 0 for unit in UNITS if unit not in given})
    if given and len(before) == 1 and given != before and "eval_every" not in overrides:
        config.eval_every = own.eval_every / own[before[0]] * config[given[0]]


def to_steps(amount: float, unit: str, batch_size: int, examples: int) -> int:
    """A number of epochs, steps or examples as whole steps, at least one."""
    examples_each = {"epochs": examples, "steps": batch_size, "examples": 1}[unit]
    return max(1, round(amount * examples_each / batch_size))


def duration(config, examples: int) -> tuple[int, int]:
    """Steps in all and between evaluations, of a config and a number of training examples.

    `eval_every` counts in the unit of the duration.

    Raises:
      ConfigError: no duration, two of them, a batch larger than the data, or another number that cannot be.
    """
    unit = unit_of(config)
    if not 1 <= config.batch_size <= examples:
        raise ConfigError(f"batch_size={config.batch_size} must be between 1 and the {examples} training examples.")
    if config.eval_every <= 0 or config.run.steps_per_call < 1:
        raise ConfigError(
            f"eval_every={config.eval_every} and run.steps_per_call={config.run.steps_per_call} must be positive."
        )
    for key, least in (("eval_batch_size", 1), ("early_stopping", 0)):
        if config[key] < least:
            raise ConfigError(f"{key}={config[key]} must be at least {least}.")
    total = to_steps(config[unit], unit, config.batch_size, examples)
    return total, min(total, to_steps(config.eval_every, unit, config.batch_size, examples))
