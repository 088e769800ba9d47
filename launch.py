"""Starts an experiment: flags, then one recipe."""

import importlib
import pathlib
import sys

from absl import app, flags, logging
from ml_collections import config_flags

from audiojax import command_line, grid
from audiojax.errors import AudiojaxError, Interrupted

CONFIG = config_flags.DEFINE_config_file("config", None, "configs/STUDY.py:ROW", lock_config=True)
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; one that exists is continued.")
RAW_DIR = flags.DEFINE_string("raw_dir", None, "Folder of releases, each in a folder named after its data set.")
DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder of prepared data. Default: TFDS's own.")
ROWS = flags.DEFINE_list("rows", [], "Without a :ROW, the rows to run. Default: all of the study.")
PROTOCOLS = flags.DEFINE_list("protocols", [], "Without a :ROW, the protocols to run. Default: paper,honest.")
SPLITS = flags.DEFINE_integer("splits", 1, "Without a :ROW, how many cuts of the data, from data.split_seed on.")
REPLICAS = flags.DEFINE_integer("replicas", None, "Seeds in one program; short for --config.replicas.")
LIST = flags.DEFINE_boolean(
    "list", False, "Print the study's rows, what was published of them and, with --workdir, ours; stop."
)


def main(argv: list[str]) -> None:
    logging.set_verbosity(logging.ERROR)
    config, overrides = CONFIG.value, config_flags.get_override_values(flags.FLAGS["config"])
    if REPLICAS.value is not None:
        config.replicas = overrides["replicas"] = REPLICAS.value
    if LIST.value:
        command_line.list_rows(config.study, WORKDIR.value)
        return
    command_line.check(config, WORKDIR.value)
    if config.row:
        grid.settle(config, overrides)
    # JAX is imported here, so that a mistake in the flags is answered at once.
    from audiojax import console, mesh
    from audiojax.data.prepared import default_data_dir

    mesh.start()
    folders = dict(
        workdir=pathlib.Path(WORKDIR.value),
        raw_dir=pathlib.Path(RAW_DIR.value) if RAW_DIR.value else None,
        data_dir=pathlib.Path(DATA_DIR.value) if DATA_DIR.value else default_data_dir(),
    )
    if config.row:
        recipe = importlib.import_module(f"audiojax.recipes.{config.recipe.name}")
        console.show(console.result_table(recipe.run(config, **folders)))
    else:
        from audiojax.recipes import table

        table.run(config, overrides, {"rows": ROWS.value, "protocols": PROTOCOLS.value}, SPLITS.value, **folders)


if __name__ == "__main__":
    command_line.open_closed_streams()
    command_line.restart_with_malloc_set()
    try:
        app.run(main, flags_parser=command_line.parse)
    except Interrupted as stopped:
        print(f"audiojax: {stopped}", file=sys.stderr)
        sys.exit(130)
    except AudiojaxError as error:
        print(f"audiojax: {error}", file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        print(f"audiojax: {error}; mend that and start the same command again, which goes on.", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("audiojax: stopped; the same command goes on, or prepares its data anew.", file=sys.stderr)
        sys.exit(130)
