"""Starts an experiment: flags, then one recipe."""
# ruff: noqa: E402 (signals are answered before the slow imports)

from audiojax import process

if __name__ == "__main__":
    process.begin()

import pathlib

from absl import app, flags, logging
from ml_collections import config_flags

from audiojax import command_line, config_file, duration, grid, names

CONFIG = config_flags.DEFINE_config_file("config", None, "configs/STUDY.py:ROW", lock_config=True)
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; one that exists is continued.")
RAW_DIR = flags.DEFINE_string("raw_dir", None, "Folder of releases, each in a folder named after its data set.")
DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder of prepared data. Default: TFDS's own.")
ROWS = flags.DEFINE_list("rows", [], "Without a :ROW, the rows to run. Default: all of the study.")
PROTOCOLS = flags.DEFINE_list("protocols", [], "Without a :ROW, the protocols to run. Default: paper,honest.")
SPLITS = flags.DEFINE_integer("splits", 1, "Without a :ROW, how many cuts of the data, from data.split_seed on.")
REPLICAS = flags.DEFINE_integer("replicas", None, "Seeds in one program; short for --config.replicas.")
MEMBERS = flags.DEFINE_string("members", None, "Folder of the table in which a row finds the runs that it builds on.")
VERIFY = flags.DEFINE_boolean("verify", False, "Compare all prepared data with its checksums first, however large.")
LIST = flags.DEFINE_boolean(
    "list", False, "Print the study's rows, what was published of them and, with --workdir, ours; stop."
)


def main(argv: list[str]) -> None:
    logging.set_verbosity(logging.ERROR)
    config, overrides = CONFIG.value, config_flags.get_override_values(flags.FLAGS["config"])
    file, row = command_line.study_and_row()
    workdir, raw_dir, data_dir = (
        pathlib.Path(config_file.expand_home(flag.value)) if flag.value else None
        for flag in (WORKDIR, RAW_DIR, DATA_DIR)
    )
    if LIST.value:
        command_line.list_rows(file, workdir)
        return
    for key, value in (("replicas", REPLICAS.value), ("run.members", MEMBERS.value)):
        if value is not None:
            overrides[key] = value
            config.update_from_flattened_dict({key: value})
    config.study = config_file.name_of(file)
    config_file.expand_paths(config)
    if row:
        duration.replace_duration(config, config_file.config_of(file, row), overrides)
    command_line.check(config, workdir)
    if row:
        grid.settle(config, overrides)
    # JAX is imported here, so that a mistake in the flags is answered at once.
    command_line.import_jax()
    from audiojax import console, mesh
    from audiojax.data.prepared import default_data_dir

    mesh.start()
    folders = dict(workdir=workdir, raw_dir=raw_dir, data_dir=data_dir or default_data_dir())
    if VERIFY.value:
        command_line.verify(config.data, folders["data_dir"])
    if row:
        console.show(console.result_table(names.recipe(config.recipe.name)(config, **folders)))
    else:
        from audiojax import study

        chosen = {"rows": ROWS.value, "protocols": PROTOCOLS.value}
        study.run(file, study.plan(file, config, overrides, chosen, SPLITS.value, workdir), **folders)


def log_folder() -> str | None:
    """Where the traceback of an unforeseen error goes."""
    return WORKDIR.value if flags.FLAGS.is_parsed() else None


if __name__ == "__main__":
    process.run(lambda: app.run(main, flags_parser=command_line.parse), log_folder)
