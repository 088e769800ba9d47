"""The one place where a name in a config becomes a module, a class or a function."""

import difflib
import functools
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterable
from types import ModuleType

from audiojax.errors import ConfigError

SHARED = {  # modules that serve the others of their package
    "models": ("layers",),
    "data.datasets": ("base", "synthesiser"),
    "tasks": ("network",),
}
INPUTS = {  # how the parameters begin that a config does not give, of the functions of these modules
    "frontend": ("", "length"),
    "inversion": ("", "samples"),
    "augment": ("key", "x", "label"),
}


def modules(package: str) -> list[str]:
    """Names of the modules of audiojax/PACKAGE that a config may name."""
    path = importlib.import_module(f"audiojax.{package}").__path__
    return [found.name for found in pkgutil.iter_modules(path) if found.name not in SHARED.get(package, ())]


def module(package: str, key: str, name: str) -> ModuleType:
    """Module audiojax/PACKAGE/NAME.py.

    Args:
      key: the config's key that holds the name.

    Raises:
      ConfigError: there is no such module.
    """
    choose(key, name, modules(package))
    return importlib.import_module(f"audiojax.{package}.{name}")


def choose(key: str, name: str, known: Iterable[str]) -> None:
    """Raises ConfigError, with the names that exist and the nearest one, where `name` is none of them."""
    if name not in known:
        near = difflib.get_close_matches(name, known, 1)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        raise ConfigError(f"{key}={name!r} is unknown; known: {', '.join(sorted(known))}{hint}")


def task(name: str) -> type:
    """Class Task of audiojax/tasks/NAME.py. Raises ConfigError without one."""
    return module("tasks", "task.name", name).Task


def model(name: str) -> type:
    """Class Model of audiojax/models/NAME.py. Raises ConfigError without one."""
    return module("models", "model.name", name).Model


def recipe(name: str) -> Callable:
    """Function run of audiojax/recipes/NAME.py. Raises ConfigError without one."""
    return module("recipes", "recipe.name", name).run


def data_set(name: str) -> type:
    """Class Builder of audiojax/data/datasets/NAME.py, which imports TensorFlow. Raises ConfigError without one."""
    return module("data.datasets", "data.name", name).Builder


def loss(name: str, kind: type):
    """The object of class `kind` in losses.py that `task.loss` names. Raises ConfigError without one."""
    losses = importlib.import_module("audiojax.losses")
    known = {n: value for n, value in vars(losses).items() if type(value) is kind}
    choose("task.loss", name, known)
    return known[name]


def tracker(name: str) -> type:
    """The class of audiojax/trackers.py with this name in lower case. Raises ConfigError without one."""
    module = importlib.import_module("audiojax.trackers")
    trackers = {n.lower(): c for n, c in vars(module).items() if inspect.isclass(c) and c.__module__ == module.__name__}
    choose("run.trackers", name, trackers)
    return trackers[name]


def function(owner: str, section: str, config) -> Callable:
    """The function `config.name` of module audiojax/OWNER.py, with the rest of the section as its arguments.

    Args:
      owner: "frontend", "inversion" or "augment". section: the config's section, for messages.

    Raises:
      ConfigError: there is no such function, it takes no such argument, or it lacks one.
    """
    arguments, inputs = dict(config), INPUTS[owner]
    name, owner = arguments.pop("name", ""), importlib.import_module(f"audiojax.{owner}")
    functions = {n: f for n, f in vars(owner).items() if callable(f) and f.__module__ == owner.__name__}
    first = lambda f: list(inspect.signature(f).parameters)[: len(inputs)]
    takes = lambda f: len(first(f)) == len(inputs) and all(map(str.startswith, first(f), inputs))
    choose(f"{section}.name", name, [n for n, f in functions.items() if not n.startswith("_") and takes(f)])
    parameters = inspect.signature(functions[name]).parameters
    if unknown := sorted(set(arguments) - set(parameters)):
        raise ConfigError(f"{section}.name={name!r} takes no {unknown[0]!r}.")
    needed = [key for key, parameter in list(parameters.items())[len(inputs) :] if parameter.default is parameter.empty]
    if missing := [key for key in needed if key not in arguments]:
        raise ConfigError(f"{section}.name={name!r} needs {missing[0]!r}.")
    return functools.partial(functions[name], **arguments)
