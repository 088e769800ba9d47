"""Reads the command line, and says in one sentence what is wrong with it."""

import difflib
import importlib
import pathlib
import pkgutil

import rich.console
import rich.table
from absl import flags
from ml_collections import ConfigDict

from audiojax import recipes
from audiojax.duration import unit_of
from audiojax.errors import ConfigError

USAGE = (
    "python launch.py --config=configs/STUDY.py:ROW --workdir=DIR [--raw_dir=DIR] [--data_dir=DIR] [--config.KEY=VALUE]"
)


def parse(argv: list[str]) -> list[str]:
    """Parses all flags, those of the config among them; the arguments left over are an error.

    Raises:
      ConfigError: an unknown flag or key (with the nearest right one), a value of the wrong type, no such file.
    """
    study = next((a.split("=", 1)[1].split(":")[0] for a in argv[1:] if a.startswith("--config=")), None)
    if study is not None and not pathlib.Path(study).is_file():
        raise ConfigError(f"--config={study}: there is no such file; studies: {', '.join(studies())}.")
    try:
        rest = flags.FLAGS(argv)
    except (AttributeError, KeyError) as error:
        raise ConfigError(wrong_key(argv, study)) from error
    except (flags.Error, TypeError, ValueError) as error:
        raise ConfigError(str(error).strip().split("\n")[-1].rstrip(".") + "; see --help.") from error
    if len(rest) > 1:
        raise ConfigError(f"unexpected argument {rest[1]!r}; usage: {USAGE}")
    if flags.FLAGS.config is None:
        raise ConfigError(f"--config is missing; usage: {USAGE}")
    return rest


def wrong_key(argv: list[str], study: str) -> str:
    """Names the first key on the command line that the study does not have, and the nearest that it has."""
    module = importlib.import_module(f"configs.{pathlib.Path(study).stem}")
    row = next((a.partition(":")[2] for a in argv if a.startswith("--config=")), "")
    known = flat_keys(module.get_config(row or None))
    for argument in argv[1:]:
        key = argument.split("=")[0].removeprefix("--config.")
        if argument.startswith("--config.") and key not in known:
            near = difflib.get_close_matches(key, known, 1, cutoff=0.4)
            return f"--config.{key}: there is no such key" + (f"; did you mean --config.{near[0]}?" if near else ".")
    return f"the config keys cannot be read; known: {', '.join(known)}."


def flat_keys(config: ConfigDict, prefix: str = "") -> list[str]:
    keys = []
    for key, value in config.items():
        keys += flat_keys(value, f"{prefix}{key}.") if isinstance(value, ConfigDict) else [prefix + key]
    return keys


def checked(config: ConfigDict, workdir: str | None) -> ConfigDict:
    """The config, if it can be launched.

    Raises:
      ConfigError: no row, workdir, single duration or such recipe.
    """
    if not config.row:
        rows = importlib.import_module(f"configs.{config.study}").ROWS
        raise ConfigError(f"name a row: --config=configs/{config.study}.py:ROW; rows: {', '.join(rows)}.")
    if not workdir:
        raise ConfigError(f"--workdir is missing; usage: {USAGE}")
    known = [module.name for module in pkgutil.iter_modules(recipes.__path__)]
    if config.recipe.name not in known:
        raise ConfigError(f"recipe.name={config.recipe.name!r} is unknown; recipes: {', '.join(known)}.")
    unit_of(config)
    if config.replicas < 1 or config.seed < 0:
        raise ConfigError(f"replicas={config.replicas} must be at least 1 and seed={config.seed} at least 0.")
    return config


def studies() -> list[str]:
    return [f"configs/{path.name}" for path in sorted(pathlib.Path("configs").glob("[!_]*_*.py"))]


def list_rows(study: str) -> None:
    """Prints the rows of a study and what was published of each."""
    rows = importlib.import_module(f"configs.{study}").ROWS
    columns = sorted(
        {f"{split} {metric}" for row in rows.values() for split, m in row["published"].items() for metric in m}
    )
    table = rich.table.Table("row", *columns, title=f"{study}: published")
    for name, row in rows.items():
        published = {f"{split} {metric}": v for split, m in row["published"].items() for metric, v in m.items()}
        table.add_row(name, *(f"{published[column]:.4g}" if column in published else "" for column in columns))
    rich.console.Console().print(table)
