"""Reads the command line, and says in one sentence what is wrong with it."""

import difflib
import importlib
import os
import pathlib
import pkgutil
import sys

import rich.console
import rich.table
from absl import flags
from ml_collections import ConfigDict

from audiojax import recipes
from audiojax.duration import unit_of
from audiojax.errors import ConfigError

USAGE = (
    "python launch.py --config=configs/STUDY.py[:ROW] --workdir=DIR [--raw_dir=DIR] [--data_dir=DIR]"
    " [--config.KEY=VALUE]"
)
# Huge pages; nothing is given back to the system; one arena, because others do give back what is large.
MALLOC = (
    "glibc.malloc.hugetlb=1:glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=1000000000000:glibc.malloc.arena_max=1"
)


def restart_with_malloc_set() -> None:
    """Starts this program anew, on Linux, with glibc told by `MALLOC` to keep memory; at once where it is told already.

    XLA on CPU takes the memory of a step anew at every step, which from the system, in pages of 4 KiB, costs up to half
    of its time. glibc reads its settings as a program starts. A GLIBC_TUNABLES that the user has set is left alone.
    """
    if sys.platform == "linux" and "GLIBC_TUNABLES" not in os.environ:
        os.environ["GLIBC_TUNABLES"] = MALLOC
        os.execv(sys.executable, sys.orig_argv)


def open_closed_streams() -> None:
    """Opens standard streams that were closed when this program started, to nowhere. Else the next file that is opened
    has their number, and what libraries write to stderr goes into it."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115


def parse(argv: list[str]) -> list[str]:
    """Parses all flags, those of the config among them.

    Raises:
      ConfigError: an unknown flag or key (with the nearest right one), a value of the wrong type, no such file,
        arguments left over.
    """
    study, _ = config_of(argv)
    if study is not None and not pathlib.Path(study).is_file():
        raise ConfigError(f"--config={study}: there is no such file; studies: {', '.join(studies())}.")
    try:
        rest = flags.FLAGS(argv)
    except (AttributeError, KeyError) as error:
        raise ConfigError(wrong_key(argv)) from error
    except (flags.Error, TypeError, ValueError) as error:
        raise ConfigError(str(error).strip().split("\n")[-1].rstrip(".") + "; see --help.") from error
    for name in ("workdir", "raw_dir", "data_dir"):
        if "://" in (folder := flags.FLAGS.flag_values_dict().get(name) or ""):
            raise ConfigError(f"--{name}={folder} is no folder of this machine; mount it, or copy it to one.")
    if len(rest) > 1:
        raise ConfigError(f"unexpected argument {rest[1]!r}; usage: {USAGE}")
    if flags.FLAGS.config is None:
        raise ConfigError(f"--config is missing; usage: {USAGE}")
    return rest


def config_of(argv: list[str]) -> tuple[str | None, str | None]:
    """File and row that --config names, with "=" or a space behind it; None where it does not."""
    for argument, following in zip(argv[1:], [*argv[2:], ""]):
        flag, equals, value = argument.partition("=")
        if flag in ("--config", "-config"):
            study, _, row = (value if equals else following).partition(":")
            return study, row or None
    return None, None


def wrong_key(argv: list[str]) -> str:
    """Names the first key on the command line that the study does not have, and the nearest that it has."""
    study, row = config_of(argv)
    known = flat_keys(importlib.import_module(f"configs.{pathlib.Path(study).stem}").get_config(row))
    for argument in argv[1:]:
        key = argument.split("=")[0].removeprefix("--config.")
        if argument.startswith("--config.") and key not in known:
            near = difflib.get_close_matches(key, known, 1, cutoff=0.4)
            return f"--config.{key}: there is no such key" + (f"; did you mean --config.{near[0]}?" if near else ".")
    return f"the config keys cannot be read; known: {', '.join(known)}."


def flat_keys(config: ConfigDict, prefix: str = "") -> list[str]:
    """Every key of a config, those of its sections as "section.key"."""
    keys = []
    for key, value in config.items():
        keys += flat_keys(value, f"{prefix}{key}.") if isinstance(value, ConfigDict) else [prefix + key]
    return keys


def check(config: ConfigDict, workdir: str | None) -> None:
    """Raises ConfigError where a config cannot be launched: no workdir, recipe, or (of a row) single duration."""
    if not workdir:
        raise ConfigError(f"--workdir is missing; usage: {USAGE}")
    known = [module.name for module in pkgutil.iter_modules(recipes.__path__) if module.name != "table"]
    if config.recipe.name not in known:
        raise ConfigError(f"recipe.name={config.recipe.name!r} is unknown; recipes: {', '.join(known)}.")
    if config.row:
        unit_of(config)
        if given := [name for name in ("rows", "protocols", "splits") if flags.FLAGS[name].present]:
            raise ConfigError(f"--{given[0]} is for a table; leave :{config.row} out of --config, or the flag.")
    if config.replicas < 1 or config.seed < 0:
        raise ConfigError(f"replicas={config.replicas} must be at least 1 and seed={config.seed} at least 0.")


def studies() -> list[str]:
    """The files of the studies."""
    return [f"configs/{path.name}" for path in sorted(pathlib.Path("configs").glob("[!_]*_*.py"))]


def list_rows(study: str, workdir: str | None) -> None:
    """Prints the rows of a study, their parameters, what was published of each, and what the runs in `workdir` scored
    on test, under each protocol."""
    from audiojax.report import table as report  # It imports JAX, which no other command line has to wait for here.

    rows = importlib.import_module(f"configs.{study}").ROWS
    published = {
        row: {
            f"{split} {metric}": f"{value:.4g}"
            for split, of in settings["published"].items()
            for metric, value in of.items()
        }
        for row, settings in rows.items()
    }
    ours = {
        entry.row: {
            f"{protocol} {measure}": report.spread(score._replace(interval=None))
            for protocol, outcome in entry.outcomes.items()
            for measure, score in outcome.scores.items()
        }
        for entry in report.summarise(rows, report.read_runs(pathlib.Path(workdir), rows) if workdir else [])
    }
    columns = lambda found: list(dict.fromkeys(column for values in found.values() for column in values))
    whose = "published" + (f", and ours in {workdir}" if workdir else "")
    table = rich.table.Table(title=f"{study}: {whose}")
    for column in ("row", "parameters", *columns(published), *columns(ours)):
        table.add_column(column, no_wrap=column in ("row", "parameters"))
    for row, settings in rows.items():
        cells = [published[row].get(column, "") for column in columns(published)]
        cells += [ours[row].get(column, "") for column in columns(ours)]
        table.add_row(row, f"{settings['parameters']:,}", *cells)
    console = rich.console.Console()
    if not console.is_terminal:
        console = rich.console.Console(width=200)
    console.print(table)
