"""Reads the command line of launch.py, and reports what is wrong with it in one sentence."""

import difflib
import os
import pathlib
import re
import sys
from types import ModuleType

import rich.console
import rich.table
from absl import flags
from ml_collections import ConfigDict

from audiojax import config_file, names, ranges
from audiojax.duration import unit_of
from audiojax.errors import ConfigError

USAGE = (
    "python launch.py --config=configs/STUDY.py[:ROW] --workdir=DIR [--raw_dir=DIR] [--data_dir=DIR]"
    " [--config.KEY=VALUE]"
)


def parse(argv: list[str]) -> list[str]:
    """Parses all flags, including those of the config. Returns what is left of `argv`.

    Raises:
      ConfigError: an unknown flag or key, with the nearest known one; a value of the wrong type; a missing or faulty
        config file; arguments that are no flags.
    """
    for argument in argv:
        if argument.encode(errors="ignore").decode() != argument:
            raise ConfigError(f"the argument {ascii(argument)[1:-1]} is not UTF-8; rename what it names.")
    config = None
    try:
        argv = flags.FLAGS.read_flags_from_files(argv, force_gnu=False)
        places = [place for place, argument in enumerate(argv) if re.match("--?config(=|$)", argument)]
        if len(places) > 1:
            raise ConfigError("--config is given twice; take one file, and one row or all of them.")
        for place in places:
            if early := [argument for argument in argv[:place] if re.match(r"--?(no)?config\.", argument)]:
                raise ConfigError(f"{early[0]} stands before --config; put --config=FILE first.")
            _, equals, value = argv[place].partition("=")
            file, colon, row = (value if equals else "".join(argv[place + 1 : place + 2])).partition(":")
            path = config_file.find(file)
            config = config_file.config_of(config_file.load(path), row if colon else None)
            argv[place : place + (1 if equals else 2)] = [f"--config={path}{colon}{row}"]
        rest = flags.FLAGS(argv)
    except (AttributeError, KeyError, IndexError) as error:
        raise ConfigError(wrong_key(argv, config)) from error
    except (flags.Error, TypeError, ValueError) as error:
        raise ConfigError(str(error).strip().split("\n")[-1].rstrip(".") + "; see --help.") from error
    for name in ("workdir", "raw_dir", "data_dir"):
        if "://" in (folder := flags.FLAGS.flag_values_dict().get(name) or ""):
            raise ConfigError(f"--{name}={folder} is no folder of this machine; mount it, or copy it here.")
    if len(rest) > 1:
        raise ConfigError(f"unexpected argument {rest[1]!r}; usage: {USAGE}")
    if flags.FLAGS.config is None:
        raise ConfigError(f"--config is missing; usage: {USAGE}")
    return rest


def study_and_row() -> tuple[ModuleType, str | None]:
    """The config file and the row that --config names, after `parse`."""
    path, colon, row = flags.FLAGS["config"].config_filename.partition(":")
    return config_file.load(pathlib.Path(path)), row if colon else None


def wrong_key(argv: list[str], config: ConfigDict) -> str:
    """A sentence on the first unknown key of the command line, with the nearest known one."""
    known = flat_keys(config)
    for argument in argv[1:]:
        flag, _, key = argument.split("=")[0].partition("config.")
        if flag in ("-", "--", "-no", "--no") and key not in known:
            near = difflib.get_close_matches(key, known, 1, cutoff=0.4)
            return f"--config.{key}: there is no such key" + (f"; did you mean --config.{near[0]}?" if near else ".")
    return f"the config keys cannot be read; known: {', '.join(known)}."


def flat_keys(config: ConfigDict, prefix: str = "") -> list[str]:
    """All keys of a config, sections included, as "section.key"."""
    keys = []
    for key, value in config.items():
        keys += [prefix + key, *(flat_keys(value, f"{prefix}{key}.") if isinstance(value, ConfigDict) else [])]
    return keys


def check(config: ConfigDict, workdir: pathlib.Path | None) -> None:
    """Raises ConfigError where a config cannot be launched.

    It needs a workdir that can be written, values within their ranges, a known recipe and, for a row, one duration.
    """
    if not workdir:
        raise ConfigError(f"--workdir is missing; usage: {USAGE}")
    ranges.check(config)
    packages = {"task": "tasks", "model": "models", "recipe": "recipes"}
    for section, package in packages.items():
        if name := config.get(section, {}).get("name"):
            names.choose(f"{section}.name", name, names.modules(package))
    if config.row:
        unit_of(config)
        names.choose("protocol", config.protocol, config.data.protocols)
        if given := [name for name in ("rows", "protocols", "splits") if flags.FLAGS[name].present]:
            raise ConfigError(f"--{given[0]} is for a table; leave :{config.row} out of --config, or the flag.")
    if not (config.row and os.path.exists(workdir / "result.json")):  # A finished run is only read
        check_workdir(workdir)


def check_workdir(workdir: pathlib.Path) -> None:
    """Raises ConfigError where a path is no folder, or cannot be created or written."""
    existing = next(path for path in (workdir, *workdir.absolute().parents) if os.path.lexists(path))
    if not existing.is_dir():
        raise ConfigError(f"--workdir={workdir}: {existing} is no folder; choose another one.")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise ConfigError(f"--workdir={workdir}: you may not write to {existing}; choose another folder.")


def import_jax() -> None:
    """Imports JAX. Raises ConfigError where JAX refuses an environment variable."""
    try:
        import jax  # noqa: F401
    except ValueError as error:
        given = ", ".join(f"{name}={value}" for name, value in os.environ.items() if name.startswith("JAX_"))
        raise ConfigError(f"JAX cannot start with {given} ({error}); correct or unset that variable.") from error


def verify(data: ConfigDict, data_dir: pathlib.Path) -> None:
    """Compares every prepared clip with its checksum. Raises DataError where one differs."""
    from audiojax.data.prepared import find

    if prepared := find(data.name, data.variant, data_dir):
        prepared.verify(whole=True)
        print(f"audiojax: {prepared.folder} is as it was prepared.", file=sys.stderr)


def list_rows(study: ModuleType, workdir: pathlib.Path | None) -> None:
    """Prints the rows of a study: parameters, published scores and, per protocol, the test scores of the runs in
    `workdir`. Reports damaged runs on stderr."""
    from audiojax.report import scores  # imports JAX, which takes seconds
    from audiojax.report import table as report

    rows = study.ROWS
    published = {
        row: {
            f"{split} {metric}": f"{value:.4g}"
            for split, of in settings["published"].items()
            for metric, value in of.items()
        }
        for row, settings in rows.items()
    }
    runs, damaged = scores.read_runs(workdir, rows) if workdir else ([], [])
    ours = {
        entry.row: {
            f"{protocol} {measure}": report.spread(score._replace(interval=None))
            for protocol, outcome in entry.outcomes.items()
            for measure, score in outcome.scores.items()
        }
        for entry in scores.summarise(rows, runs)
    }
    columns = lambda found: list(dict.fromkeys(column for values in found.values() for column in values))
    whose = "published" + (f", and ours in {workdir}" if workdir else "")
    table = rich.table.Table(title=f"{config_file.name_of(study)}: {whose}")
    for column in ("row", "parameters", *columns(published), *columns(ours)):
        table.add_column(column, no_wrap=column in ("row", "parameters"))
    for row, settings in rows.items():
        parameters = settings.get("parameters")
        cells = [published[row].get(column, "") for column in columns(published)]
        cells += [ours[row].get(column, "") for column in columns(ours)]
        table.add_row(row, "–" if parameters is None else f"{parameters:,}", *cells)
    console = rich.console.Console()
    if not console.is_terminal:
        console = rich.console.Console(width=200)
    console.print(table)
    for sentence in damaged:
        print(f"audiojax: {sentence}", file=sys.stderr)
