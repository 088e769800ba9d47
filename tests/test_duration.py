import pytest

from audiojax.duration import duration, unit_of
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


@pytest.mark.parametrize(("key", "value"), [("keep", 0), ("early_stopping", -1), ("eval_batch_size", 0)])
def test_numbers_that_cannot_be_are_refused(key, value):
    with pytest.raises(ConfigError, match=f"{key}={value} must be at least {value + 1}."):
        duration(config_of("li_audioset", "fc1", **{key: value}), examples=1000)


def test_a_batch_larger_than_the_data_is_refused():
    with pytest.raises(ConfigError, match="batch_size=64 must be between 1 and the 63"):
        duration(config_of("li_audioset", "fc1", batch_size=64), examples=63)
