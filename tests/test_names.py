"""Names of a config become modules and functions; the rest is a sentence."""

import importlib

import pytest

from audiojax import names
from audiojax.errors import ConfigError


@pytest.mark.parametrize("find", [names.task, names.model, names.recipe, names.data_set])
def test_an_unknown_module_is_a_sentence_with_those_that_exist(find):
    with pytest.raises(ConfigError, match=r"name='none' is unknown; known: \w+, "):
        find("none")


@pytest.mark.parametrize("package", names.SHARED)
def test_modules_that_serve_others_cannot_be_named(package):
    for shared in names.SHARED[package]:
        assert shared not in names.modules(package)
        importlib.import_module(f"audiojax.{package}.{shared}")


@pytest.mark.parametrize("owner", names.INPUTS)
def test_a_helper_of_a_module_is_not_taken_for_what_configs_name(owner):
    module = importlib.import_module(f"audiojax.{owner}")
    with pytest.raises(ConfigError, match="x.name='' is unknown; known: ") as refused:
        names.function(owner, "x", {})
    known = str(refused.value).removesuffix(".").split("known: ")[1].split(", ")
    for name in {*vars(module)} - {*known}:
        with pytest.raises(ConfigError, match=f"x.name='{name}' is unknown"):
            names.function(owner, "x", {"name": name})


def test_arguments_of_a_function_are_checked():
    with pytest.raises(ConfigError, match="frontend.name='identity' takes no 'mels'."):
        names.function("frontend", "frontend", {"name": "identity", "divisor": 1.0, "mels": 3})
    with pytest.raises(ConfigError, match="frontend.name='log_mel' needs 'sample_rate_hz'."):
        names.function("frontend", "frontend", {"name": "log_mel"})
