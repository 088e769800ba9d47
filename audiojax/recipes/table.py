"""All rows of a study under its protocols, several cuts and seeds each, and the report beside the published numbers."""

import difflib
import pathlib
import time
from types import ModuleType

import jax
from ml_collections import ConfigDict

from audiojax import config_file, console, grid, names, process, ranges
from audiojax import mesh as meshes
from audiojax.duration import replace_duration, unit_of
from audiojax.errors import AudiojaxError, ConfigError, Interrupted, RunError
from audiojax.report import page
from audiojax.writer import check_owner, read_result


def run(
    study: ModuleType,
    config: ConfigDict,
    overrides: dict,
    chosen: dict[str, list[str]],
    splits: int,
    workdir: pathlib.Path,
    raw_dir: pathlib.Path | None,
    data_dir: pathlib.Path,
) -> None:
    """Trains what is not finished yet, each run in workdir/ROW/PROTOCOL/split_SEED, and writes the report to workdir.

    What fails is said and does not hold up the rest.

    Args:
      study: its config file. config: the study's, without a row. overrides: flat key -> value, laid over every row's.
      chosen: "rows" and "protocols" to run; an empty list for all rows, or for those of `paper` and
        `honest` that the study has.
      splits: cuts of the data, by split_seed … split_seed+splits-1. Seeds are the config's replicas.

    Raises:
      ConfigError: a row, protocol, key or duration that cannot be. RunError: runs failed, or are damaged.
    """
    own = {row: config_file.config_of(study, row).to_dict() for row in study.ROWS}
    planned, failed = plan(study, config, overrides, chosen, splits, workdir), {}
    meshes.agree("the table's runs", {"runs": [str(folder) for folder, _ in planned]})
    # One process looks, for another host may not see yet what was written last.
    states = meshes.by_first(lambda: [look(folder, row_config) for folder, row_config in planned])
    for (folder, _), state in zip(planned, states):
        if isinstance(state, str):
            fail(failed, str(folder.relative_to(workdir)), state)
    pending = [planned_run for planned_run, state in zip(planned, states) if state is False]
    console.say(f"{config.study}: {len(pending)} runs to do")
    started_s = time.perf_counter()
    with console.bar("run", len(pending)) as progress:
        for done, (folder, row_config) in enumerate(pending):
            name = str(folder.relative_to(workdir))
            left_s = (time.perf_counter() - started_s) / max(done, 1) * (len(pending) - done)
            console.say(f"run {done + 1} of {len(pending)}: {name}" + (f", {left_s / 60:.0f} min left" if done else ""))
            progress(done, name)
            try:
                names.recipe(row_config.recipe.name)(row_config, folder, raw_dir, data_dir)
            except Interrupted:
                raise
            except Exception as error:  # Such as a network that does not fit in memory: the other rows may.
                if jax.process_count() > 1:
                    raise  # The other processes may be in the middle of that run, and would wait for this one.
                foreseen = isinstance(error, (AudiojaxError, OSError))
                fail(failed, name, reason(error) if foreseen else process.unforeseen(error, folder))
            jax.clear_caches()  # The programs of a finished run are of no use to the next.
    damaged = []
    if jax.process_index() == 0:
        workdir.mkdir(parents=True, exist_ok=True)
        file = config_file.shown(study)
        damaged = page.write(config.study, study.ROWS, own, workdir, data_dir, file)
    console.say(f"tables and pages: {workdir / 'table.md'}, table.csv, table.tex, report.html")
    said = [f"{workdir / name}/" for names in failed.values() for name in names]
    sentences = [f"the report lacks what is damaged: {text}" for text in damaged if not any(map(text.startswith, said))]
    if failed:
        count = sum(map(len, failed.values()))
        reasons = "; ".join(f"{', '.join(names)}: {why}" for why, names in failed.items())
        sentences.insert(0, f"{count} of {len(planned)} runs failed ({reasons}); the same command tries them again.")
    if sentences:
        raise RunError(" ".join(sentences))


def look(folder: pathlib.Path, config: ConfigDict) -> bool | str:
    """Whether a run is finished, or why it cannot be told or done."""
    try:
        check_owner(folder, config.to_dict())
        return bool(read_result(folder))
    except RunError as error:
        return reason(error)


def fail(failed: dict[str, list[str]], name: str, why: str) -> None:
    """Says that a run has failed, and adds it to those that failed for the same reason."""
    failed.setdefault(why, []).append(name)
    console.say(f"{name} failed: {why}")


def reason(error: Exception) -> str:
    """Why a run failed, in a line."""
    first = (str(error).splitlines() or ["no message"])[0].rstrip(".")
    return first if isinstance(error, AudiojaxError) else f"{type(error).__name__}: {first}"


def plan(
    study, config: ConfigDict, overrides: dict, chosen: dict[str, list[str]], splits: int, workdir: pathlib.Path
) -> list[tuple[pathlib.Path, ConfigDict]]:
    """Folder and config of every run of the table, in the order of the rows. A key that only some rows have leaves the
    others as they are, which is said."""
    known = {"rows": list(study.ROWS), "protocols": list(config.data.protocols)}
    for kind, given in chosen.items():
        for name in given:
            if name not in known[kind]:
                near = difflib.get_close_matches(name, known[kind], 1)
                hint = f"did you mean {near[0]!r}? " if near else ""
                raise ConfigError(f"--{kind}: {config.study} has no {name!r}; {hint}{kind}: {', '.join(known[kind])}.")
    if "protocol" in overrides:
        raise ConfigError("--config.protocol is for a single row; of a table choose the --protocols.")
    if splits < 1 or (splits > 1 and config.data.split_file):
        raise ConfigError(f"--splits={splits} must be at least 1, and 1 where data.split_file makes the cut.")
    if config.data.split_file and "paper" in chosen["protocols"]:
        raise ConfigError("--protocols: data.split_file makes the cut under every protocol; take --protocols=honest.")
    usual = ("honest",) if config.data.split_file else ("paper", "honest")
    runs, rows = [], chosen["rows"] or known["rows"]
    configs = {row: config_file.config_of(study, row) for row in rows}
    own = {row: {key: overrides[key] for key in overrides if has(configs[row], key)} for row in rows}
    for key in overrides:
        without = [row for row in rows if key not in own[row]]
        if len(without) == len(rows):
            raise ConfigError(f"--config.{key}: {rows[0]} has no such key, nor has another row; leave it out.")
        if without:
            console.say(f"--config.{key} is no key of {', '.join(without)}: there all stays as it is")
    for row in rows:
        for protocol in chosen["protocols"] or [name for name in usual if name in known["protocols"]]:
            for split in range(splits):
                row_config = laid_over(configs[row], own[row] | {"protocol": protocol})
                row_config.data.split_seed += split
                ranges.check(row_config)
                folder = workdir / row / protocol / f"split_{row_config.data.split_seed}"
                runs.append((folder, row_config.lock()))
    return runs


def has(config: ConfigDict, key: str) -> bool:
    """Whether a config has a key such as optim.lr."""
    *sections, last = key.split(".")
    for name in sections:
        config = config.get(name, {})
    return last in config


def laid_over(own: ConfigDict, overrides: dict) -> ConfigDict:
    """A copy of a row's config with settings of its keys. A duration among them takes the place of the row's own.

    Raises:
      ConfigError: a key that its grid sets, or two durations.
    """
    config = own.copy_and_resolve_references()
    config.update_from_flattened_dict(overrides)
    config_file.expand_paths(config)
    replace_duration(config, own, overrides)
    unit_of(config)
    grid.settle(config, overrides)
    return config
