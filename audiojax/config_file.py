"""Finds and loads the config file of a study, in configs/ or elsewhere."""

import functools
import importlib.machinery
import importlib.util
import inspect
import os
import pathlib
import sys
import traceback
from types import ModuleType

from ml_collections import ConfigDict

from audiojax.errors import ConfigError

ROOT = pathlib.Path(__file__).parent.parent


def studies() -> list[str]:
    """The files in configs/ that hold studies, as --config takes them."""
    return [f"configs/{path.name}" for path in sorted((ROOT / "configs").glob("[!_]*_*.py"))]


def find(file: str) -> pathlib.Path:
    """Finds a config file, below the working directory or else below this repository.

    Raises:
      ConfigError: there is no such file.
    """
    for path in (pathlib.Path(expand_home(file)), ROOT / file):
        if path.is_file():
            return path
    raise ConfigError(f"--config={file}: there is no such file; studies: {', '.join(studies())}.")


@functools.cache
def load(path: pathlib.Path) -> ModuleType:
    """Imports a config file, which has ROWS and get_config(row=None). Each file is imported once.

    Raises:
      ConfigError: the file cannot be imported, or lacks one of the two.
    """
    name = f"config_file_{path.stem}"
    loader = importlib.machinery.SourceFileLoader(name, str(path))
    module = importlib.util.module_from_spec(importlib.util.spec_from_file_location(name, path, loader=loader))
    sys.modules[name] = module  # dataclasses look their module up there
    try:
        loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise ConfigError(_sentence(path, error)) from error
    rows, get_config = getattr(module, "ROWS", None), getattr(module, "get_config", None)
    if not isinstance(rows, dict):
        raise ConfigError(f"{path} has no ROWS, a dictionary of rows; see configs/rit_nsynth.py for an example.")
    for row, settings in rows.items():
        if not isinstance(row, str) or not row.isprintable() or row in ("", ".", "..") or {*row} & {*"/\\"}:
            raise ConfigError(f"{path}: the row {row!r} cannot name a folder; rename it.")
        sections = settings if isinstance(settings, dict) else {}
        if not all(isinstance(sections.get(key), dict) for key in ("published", "overrides")):
            raise ConfigError(f'{path}: the row {row!r} must have the dictionaries "published" and "overrides".')
    if not callable(get_config):
        raise ConfigError(f"{path} has no function get_config(row=None); see configs/rit_nsynth.py for an example.")
    try:
        for arguments in ((), ("",)):
            inspect.signature(get_config).bind(*arguments)
    except TypeError as error:
        line = getattr(getattr(get_config, "__code__", None), "co_firstlineno", "?")
        raise ConfigError(f"{path}, line {line}: get_config must be callable with a row and without one.") from error
    return module


def name_of(study: ModuleType) -> str:
    """A study's name: its file without the suffix."""
    return pathlib.Path(study.__file__).stem


def shown(study: ModuleType) -> str:
    """A study's file, as --config takes it."""
    path = pathlib.Path(study.__file__).absolute()
    return str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)


def config_of(study: ModuleType, row: str | None = None) -> ConfigDict:
    """The locked config of a row, or of the study without a row. ~ in its paths is the home folder.

    Raises:
      ConfigError: there is no such row, or the file fails.
    """
    path = pathlib.Path(study.__file__)
    try:
        config = study.get_config(*([] if row is None else [row]))
    except (Exception, SystemExit) as error:
        raise ConfigError(_sentence(path, error)) from error
    if not isinstance(config, ConfigDict):
        raise ConfigError(f"{path}: get_config({row or ''!r}) must return a ConfigDict, such as `common.choose` does.")
    if missing := [key for key in ("study", "row", "data", "recipe") if key not in config]:
        raise ConfigError(f"{path}: the config has no key {missing[0]!r}; begin it with `common.base()`.")
    with config.unlocked():
        config.study = name_of(study)
        expand_paths(config)
    return config.lock()


def expand_paths(config: ConfigDict) -> None:
    """Replaces a leading ~ by the home folder, in all strings of a config and of its tuples."""
    for key, value in config.items():
        if isinstance(value, ConfigDict):
            expand_paths(value)
        elif isinstance(value, str):
            config[key] = expand_home(value)
        elif isinstance(value, tuple):
            config[key] = tuple(expand_home(item) if isinstance(item, str) else item for item in value)


def expand_home(path: str) -> str:
    """Replaces a leading ~ of a path by the home folder.

    Raises:
      ConfigError: there is no such home folder.
    """
    expanded = os.path.expanduser(path)
    if expanded.startswith("~"):
        raise ConfigError(f"{path}: there is no home folder for ~; set HOME or write the path in full.")
    return expanded


def _sentence(path: pathlib.Path, error: BaseException) -> str:
    """A sentence on an error in a config file, with its line."""
    if isinstance(error, SystemExit) and isinstance(error.code, str):  # of `common.choose`
        return error.code.removeprefix("audiojax: ")
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    where, what = f"{path}, line {lines[-1]}" if lines else str(path), (str(error).splitlines() or [""])[0]
    if isinstance(error, SyntaxError):
        where = f"{error.filename or path}, line {error.lineno}"
        what = error.msg
    return f"{where}: {type(error).__name__}: {what.rstrip('.')}; mend the config file."
