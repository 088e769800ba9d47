"""All rows of a study under its protocols, with several cuts and seeds each, then the report."""

import difflib
import pathlib
import time
from types import ModuleType

import jax
from ml_collections import ConfigDict

from audiojax import config_file, console, grid, lock, names, process, ranges, runs
from audiojax import mesh as meshes
from audiojax.duration import replace_duration, unit_of
from audiojax.errors import AudiojaxError, ConfigError, Interrupted, RunError
from audiojax.report import page


def run(
    study: ModuleType,
    planned: list[tuple[pathlib.Path, ConfigDict]],
    workdir: pathlib.Path,
    raw_dir: pathlib.Path | None,
    data_dir: pathlib.Path,
) -> None:
    """Trains what is not finished, and writes the report to workdir. A run that fails is reported; the others go on.

    Args:
      study: its config file. planned: folder and config of each run, as `plan` returns them.

    Raises:
      RunError: runs failed, or are damaged.
    """
    name, failed = config_file.name_of(study), {}
    with lock.hold(workdir):
        base = {row: config_file.config_of(study, row).to_dict() for row in study.ROWS}
        meshes.agree("the table's runs", {"runs": [str(folder) for folder, _ in planned]})
        # One process looks at the folders: another host may not see yet what was written last.
        states = meshes.by_first(lambda: [state(folder, row_config) for folder, row_config in planned])
        for (folder, _), why in zip(planned, states):
            if isinstance(why, str):
                fail(failed, str(folder.relative_to(workdir)), why)
        pending = [planned_run for planned_run, finished in zip(planned, states) if finished is False]
        train(pending, failed, name, workdir, raw_dir, data_dir)
        damaged = []
        if jax.process_index() == 0:
            workdir.mkdir(parents=True, exist_ok=True)
            damaged = page.write(name, study.ROWS, base, workdir, data_dir, config_file.shown(study))
        console.say(f"tables and pages: {workdir / 'table.md'}, table.csv, table.tex, report.html")
        conclude(failed, damaged, len(planned), workdir)


def train(
    pending: list[tuple[pathlib.Path, ConfigDict]],
    failed: dict[str, list[str]],
    name: str,
    workdir: pathlib.Path,
    raw_dir: pathlib.Path | None,
    data_dir: pathlib.Path,
) -> None:
    """Trains runs one after the other. failed: reason -> runs, to which those that fail are added."""
    console.say(f"{name}: {len(pending)} runs to do")
    started_s = time.perf_counter()
    with console.bar("run", len(pending)) as progress:
        for done, (folder, row_config) in enumerate(pending):
            where = str(folder.relative_to(workdir))
            left_s = (time.perf_counter() - started_s) / max(done, 1) * (len(pending) - done)
            console.say(
                f"run {done + 1} of {len(pending)}: {where}" + (f", {left_s / 60:.0f} min left" if done else "")
            )
            progress(done, where)
            try:
                names.recipe(row_config.recipe.name)(row_config, folder, raw_dir, data_dir)
            except Interrupted:
                raise
            except Exception as error:  # Such as a network that does not fit in memory: the other rows may.
                if jax.process_count() > 1:
                    raise  # The other processes may be in the middle of that run, and would wait for this one.
                foreseen = isinstance(error, (AudiojaxError, OSError))
                fail(failed, where, reason(error) if foreseen else process.unforeseen(error, folder))
            jax.clear_caches()  # The next run does not use the programs of this one.


def conclude(failed: dict[str, list[str]], damaged: list[str], planned: int, workdir: pathlib.Path) -> None:
    """Raises RunError where runs failed, or where the report lacks damaged ones."""
    said = [f"{workdir / name}/" for where in failed.values() for name in where]
    sentences = [f"the report lacks what is damaged: {text}" for text in damaged if not any(map(text.startswith, said))]
    if failed:
        count = sum(map(len, failed.values()))
        reasons = "; ".join(f"{', '.join(where)}: {why}" for why, where in failed.items())
        sentences.insert(0, f"{count} of {planned} runs failed ({reasons}); the same command tries them again.")
    if sentences:
        raise RunError(" ".join(sentences))


def state(folder: pathlib.Path, config: ConfigDict) -> bool | str:
    """Whether a run is finished; a sentence where its folder cannot be read or used."""
    try:
        runs.check_owner(folder, config.to_dict())
        return bool(runs.read_result(folder))
    except RunError as error:
        return reason(error)


def fail(failed: dict[str, list[str]], name: str, why: str) -> None:
    """Reports a failed run, and adds it to those that failed for the same reason."""
    failed.setdefault(why, []).append(name)
    console.say(f"{name} failed: {why}")


def reason(error: Exception) -> str:
    """Why a run failed, in one line."""
    first = (str(error).splitlines() or ["no message"])[0].rstrip(".")
    return first if isinstance(error, AudiojaxError) else f"{type(error).__name__}: {first}"


def plan(
    study: ModuleType,
    config: ConfigDict,
    overrides: dict,
    chosen: dict[str, list[str]],
    splits: int,
    workdir: pathlib.Path,
) -> list[tuple[pathlib.Path, ConfigDict]]:
    """Folder and config of every run of a table, in the order of the rows: each in workdir/ROW/PROTOCOL/split_SEED.

    An override of a key that only some rows have leaves the other rows as they are, and is reported.

    Args:
      study: its config file. config: the study's config, without a row. overrides: flat key -> value, for every row.
      chosen: "rows" and "protocols" to run. An empty list: all rows, or those of `paper` and `honest` that the study
        has.
      splits: number of cuts of the data, with split_seed … split_seed+splits-1. Seeds are the config's replicas.

    Raises:
      ConfigError: an unknown row, protocol or key, or a wrong duration.
    """
    check_chosen(config, {"rows": list(study.ROWS), "protocols": list(config.data.protocols)}, chosen)
    if "protocol" in overrides:
        raise ConfigError("--config.protocol is for a single row; of a table choose the --protocols.")
    if splits < 1 or (splits > 1 and config.data.split_file):
        raise ConfigError(f"--splits={splits} must be at least 1, and 1 where data.split_file makes the cut.")
    if config.data.split_file and "paper" in chosen["protocols"]:
        raise ConfigError("--protocols: data.split_file makes the cut under every protocol; take --protocols=honest.")
    usual = ("honest",) if config.data.split_file else ("paper", "honest")
    protocols = chosen["protocols"] or [name for name in usual if name in config.data.protocols]
    configs = {row: config_file.config_of(study, row) for row in chosen["rows"] or study.ROWS}
    planned = []
    for row, settings in of_rows(configs, overrides).items():
        for protocol in protocols:
            for split in range(splits):
                row_config = laid_over(configs[row], settings | {"protocol": protocol})
                row_config.data.split_seed += split
                ranges.check(row_config)
                folder = workdir / row / protocol / f"split_{row_config.data.split_seed}"
                planned.append((folder, row_config.lock()))
    return planned


def check_chosen(config: ConfigDict, known: dict[str, list[str]], chosen: dict[str, list[str]]) -> None:
    """Raises ConfigError where a row or protocol is chosen that the study does not have."""
    for kind, given in chosen.items():
        for name in given:
            if name not in known[kind]:
                near = difflib.get_close_matches(name, known[kind], 1)
                hint = f"did you mean {near[0]!r}? " if near else ""
                raise ConfigError(f"--{kind}: {config.study} has no {name!r}; {hint}{kind}: {', '.join(known[kind])}.")


def of_rows(configs: dict[str, ConfigDict], overrides: dict) -> dict[str, dict]:
    """The overrides whose keys a row has, by row. Raises ConfigError where no row has a key."""
    settings = {row: {key: overrides[key] for key in overrides if has(of, key)} for row, of in configs.items()}
    for key in overrides:
        without = [row for row in configs if key not in settings[row]]
        if len(without) == len(configs):
            raise ConfigError(f"--config.{key}: no row has such a key, {without[0]} for one; leave it out.")
        if without:
            console.say(f"--config.{key} is no key of {', '.join(without)}: there all stays as it is")
    return settings


def has(config: ConfigDict, key: str) -> bool:
    """Whether a config has a key such as optim.lr."""
    *sections, last = key.split(".")
    for name in sections:
        config = config.get(name, {})
    return last in config


def laid_over(base: ConfigDict, overrides: dict) -> ConfigDict:
    """A copy of a row's config with overrides. A duration among them replaces the row's.

    Raises:
      ConfigError: a key that the row's grid sets, or two durations.
    """
    config = base.copy_and_resolve_references()
    config.update_from_flattened_dict(overrides)
    config_file.expand_paths(config)
    replace_duration(config, base, overrides)
    unit_of(config)
    grid.settle(config, overrides)
    return config
