import pytest

from audiojax.duration import duration, replace_duration, unit_of
from audiojax.errors import ConfigError
from tests.conftest import config_of


def test_units_convert_to_steps():
    for unit, amount in (("epochs", 3), ("steps", 30), ("examples", 960)):
        config = config_of("li_audioset", "fc1", epochs=0.0, batch_size=32, eval_every=float(amount) / 3)
        config[unit] = amount
        assert duration(config, examples=320) == (30, 10)


def test_two_durations_and_none_are_refused():
    with pytest.raises(ConfigError, match="exactly one of epochs, steps and examples"):
        unit_of(config_of("li_audioset", "fc1", steps=5))
    with pytest.raises(ConfigError, match="exactly one"):
        unit_of(config_of("li_audioset", "fc1", epochs=0.0))


@pytest.mark.parametrize(
    ("own", "overrides", "duration", "eval_every"),
    [
        (dict(epochs=12.0, eval_every=1.0), dict(steps=24), (0, 24, 0), 2.0),
        (dict(epochs=12.0, eval_every=1.0), dict(epochs=0.0, steps=24), (0, 24, 0), 2.0),
        (dict(epochs=12.0, eval_every=1.0), dict(steps=24, eval_every=6.0), (0, 24, 0), 6.0),
        (dict(epochs=12.0, eval_every=1.0), dict(epochs=2.0), (2.0, 0, 0), 1.0),
        (dict(epochs=0.0, steps=800, eval_every=40.0), dict(examples=1600), (0, 0, 1600), 80.0),
        (dict(epochs=12.0, eval_every=1.0), {"optim.lr": 0.1}, (12.0, 0, 0), 1.0),
        (dict(epochs=12.0, eval_every=1.0), dict(steps=0), (12.0, 0, 0), 1.0),
    ],
)
def test_a_duration_among_the_overrides_replaces_that_of_the_row(own, overrides, duration, eval_every):
    row = config_of("li_audioset", "fc1", **own)
    config = row.copy_and_resolve_references()
    config.update_from_flattened_dict(overrides)
    replace_duration(config, row, overrides)
    assert (config.epochs, config.steps, config.examples, config.eval_every) == (*duration, eval_every)
    assert (row.epochs, row.steps) == (own["epochs"], own.get("steps", 0))


def test_two_durations_among_the_overrides_are_refused():
    row = config_of("li_audioset", "fc1")
    with pytest.raises(
        ConfigError, match="--config.epochs=2 and --config.examples=5: the duration must be exactly one"
    ):
        replace_duration(row, row, {"epochs": 2.0, "examples": 5, "steps": 0})


def test_a_batch_larger_than_the_data_is_refused():
    with pytest.raises(ConfigError, match="batch_size=64 must be between 1 and the 63"):
        duration(config_of("li_audioset", "fc1", batch_size=64), examples=63)
