"""All rows of a study under its protocols, several cuts and seeds each, and the report beside the published numbers."""

import difflib
import importlib
import pathlib
import time
import traceback

import jax
from ml_collections import ConfigDict

from audiojax import console
from audiojax.duration import UNITS, unit_of
from audiojax.errors import AudiojaxError, ConfigError, Interrupted, RunError
from audiojax.report import page
from audiojax.writer import check_owner, read_result


def run(
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
      config: the study's, without a row. overrides: flat key -> value, laid over every row's config.
      chosen: "rows" and "protocols" to run; an empty list for all rows, or for those of `paper` and
        `honest` that the study has.
      splits: cuts of the data, by split_seed … split_seed+splits-1. Seeds are the config's replicas.

    Raises:
      ConfigError: an unknown row or protocol, or two durations. RunError: runs have failed.
    """
    study = importlib.import_module(f"configs.{config.study}")
    pending = []
    for folder, row_config in plan(study, config, overrides, chosen, splits, workdir):
        check_owner(folder, row_config.to_dict())
        if not read_result(folder):
            pending.append((folder, row_config))
    console.say(f"{config.study}: {len(pending)} runs to do")
    failed, started_s = {}, time.perf_counter()
    with console.bar("run", len(pending)) as progress:
        for done, (folder, row_config) in enumerate(pending):
            name = str(folder.relative_to(workdir))
            left_s = (time.perf_counter() - started_s) / max(done, 1) * (len(pending) - done)
            console.say(f"run {done + 1} of {len(pending)}: {name}" + (f", {left_s / 60:.0f} min left" if done else ""))
            progress(done, name)
            try:
                recipe = importlib.import_module(f"audiojax.recipes.{row_config.recipe.name}")
                recipe.run(row_config, folder, raw_dir, data_dir)
            except Interrupted:
                raise
            except AudiojaxError as error:
                failed[name] = str(error)
            except Exception as error:  # Such as a network that does not fit in memory: the other rows may.
                traceback.print_exc()
                failed[name] = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"
            if name in failed:
                console.say(f"{name} failed: {failed[name]}")
            jax.clear_caches()  # The programs of a finished run are of no use to the next.
    if jax.process_index() == 0:
        page.write(config.study, study.ROWS, workdir, data_dir)
    console.say(f"tables and pages: {workdir / 'table.md'}, table.csv, table.tex, report.html")
    if failed:
        reasons = "; ".join(f"{name}: {why}" for name, why in failed.items())
        raise RunError(f"{len(failed)} of {len(pending)} runs failed ({reasons}); the same command tries them again.")


def plan(
    study, config: ConfigDict, overrides: dict, chosen: dict[str, list[str]], splits: int, workdir: pathlib.Path
) -> list[tuple[pathlib.Path, ConfigDict]]:
    """Folder and config of every run of the table, in the order of the rows."""
    known = {"rows": list(study.ROWS), "protocols": list(config.data.protocols)}
    for kind, names in chosen.items():
        for name in names:
            if name not in known[kind]:
                near = difflib.get_close_matches(name, known[kind], 1)
                hint = f"did you mean {near[0]!r}? " if near else ""
                raise ConfigError(f"--{kind}: {config.study} has no {name!r}; {hint}{kind}: {', '.join(known[kind])}.")
    if splits < 1 or (splits > 1 and config.data.split_file):
        raise ConfigError(f"--splits={splits} must be at least 1, and 1 where data.split_file makes the cut.")
    # A duration given for the table takes the place of a row's own, whatever its unit.
    unset = dict.fromkeys(UNITS, 0) if set(UNITS) & set(overrides) else {}
    runs = []
    for row in chosen["rows"] or known["rows"]:
        for protocol in chosen["protocols"] or [name for name in ("paper", "honest") if name in known["protocols"]]:
            for split in range(splits):
                row_config = study.get_config(row)
                row_config.update_from_flattened_dict(unset | overrides | {"protocol": protocol})
                row_config.data.split_seed += split
                unit_of(row_config)
                folder = workdir / row / protocol / f"split_{row_config.data.split_seed}"
                runs.append((folder, row_config.lock()))
    return runs
