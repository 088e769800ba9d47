"""A run's folder: who owns it, its config, data and result, and how another run finds it.

A folder belongs to the keys of its config that change a number. Those that say how it is computed, in the section
`run`, may change from one start to the next, and so may the published numbers.
"""

import contextlib
import functools
import json
import pathlib
from collections.abc import Callable

import jax

from audiojax import console, durable, lock
from audiojax import mesh as meshes
from audiojax.data.prepared import Prepared
from audiojax.data.windows import Part, checksum
from audiojax.errors import RunError
from audiojax.writer import Writer, finite, provenance

LABELS = "labels.csv"  # a run's labels for other runs to train on
FILES = ("split_file", "group_file")  # keys of config.data that name files that cut the data
FREE = ("run", "published")  # keys of a config that a folder does not depend on
RUN = {  # the section `run` of a config that was written before these keys existed
    "source": "auto",
    "steps_per_call": 1,
    "cpu_devices": 1,
    "keep": 2,
    "malloc": "keep",
    "trackers": ("tensorboard",),
    "members": "",
    "first_layer": False,
}
MOVED = ("steps_per_call", "cpu_devices", "keep")  # keys that earlier versions had outside of `run`
NEUTRAL = {  # value of a key in a config that was written before the key existed; of all others empty or 0
    "replicas": 1,
    "protocol": "honest",
    "data.variant": "released",
    "data.strict": True,
    "data.segment.pad": "zeros",
    "model.kernel_init": "lecun_normal",
    "task.name": "supervised",
    "task.positive_weight": 1.0,
    "recipe.name": "single",
    "optim.name": "adam",
    "optim.b1": 0.9,
    "optim.schedule": "constant",
    "eval_every": 1.0,
    "dtype": "float32",
}


def own_folder(run: Callable[..., dict]) -> Callable[..., dict]:
    """Decorates a recipe's `run`: it holds the lock of its workdir. A finished folder needs no lock."""

    @functools.wraps(run)
    def locked(config, workdir: pathlib.Path, *args, **kwargs) -> dict:
        finished = meshes.by_first(lambda: bool(read_result(workdir)))
        with contextlib.nullcontext() if finished else lock.hold(workdir):
            return run(config, workdir, *args, **kwargs)

    return locked


def open_folder(config, workdir: pathlib.Path) -> tuple[Writer, dict | None]:
    """The writer of a run's folder and, where the run is finished, its result. The caller holds the folder's lock.

    Raises:
      RunError: the folder belongs to a run of another config, or its files cannot be read.
    """
    if jax.process_count() > 1:
        program = {name: value for name, value in provenance([]).items() if name != "device"}
        meshes.agree("config and program", program | {"workdir": str(workdir), "config": config.to_dict()})
    writer, result = open_writer(config, workdir), meshes.by_first(lambda: read_result(workdir))
    if result:
        console.say(f"{workdir} is finished; to run it again choose another --workdir.")
    return writer, result


def open_writer(config, workdir: pathlib.Path) -> Writer:
    """The writer of a folder. Raises RunError where the folder belongs to a run of another config."""
    check_owner(workdir, config.to_dict())
    return Writer(workdir, config.to_dict())


def close_folder(writer: Writer, workdir: pathlib.Path, result: dict) -> dict:
    """Writes result.json, which marks the run as finished; returns what it holds."""
    result = finite(result)
    writer.close()
    writer.result(result)
    console.say(f"results: {workdir / 'result.json'}")
    return result


def check_owner(workdir: pathlib.Path, config: dict) -> None:
    """Raises RunError where `workdir` belongs to a run of another config, with what differs."""
    if not (workdir / "config.json").exists():
        return
    begun, now = ({key: of[key] for key in of if key not in FREE} for of in (read_config(workdir), config))
    if differing := differences(begun, now):
        more = f" and {len(differing) - 3} more differences" if len(differing) > 3 else ""
        raise RunError(
            f"{workdir} belongs to a run with {'; '.join(differing[:3])}{more}; take another --workdir or that config."
        )


def differences(old: dict, new: dict, prefix: str = "") -> list[str]:
    """Keys that differ between two configs, each as "key=old (now new)". A list equals a tuple.

    A key that one of them does not have counts as `NEUTRAL` there.
    """
    found, plain = [], lambda value: json.loads(json.dumps(value))
    for key in sorted(old.keys() | new.keys()):
        a, b = (plain(config.get(key, NEUTRAL.get(prefix + key))) for config in (old, new))
        if all(isinstance(value, dict | None) for value in (a, b)):
            found += differences(a or {}, b or {}, f"{prefix}{key}.")
        elif a != b and (a or b or key in old.keys() & new.keys()):
            found.append(f"{prefix}{key}={a!r} (now {b!r})")
    return found


def read_result(workdir: pathlib.Path) -> dict | None:
    """The result of a finished run, else None. Raises RunError where it cannot be read."""
    path = workdir / "result.json"
    try:
        return read_object(path) if path.exists() else None
    except (OSError, ValueError) as error:
        raise RunError(
            f"{path} cannot be read ({error}); remove that file alone, and the run's command goes on from its"
            " checkpoints and writes it anew."
        ) from error


def read_config(folder: pathlib.Path) -> dict:
    """The config.json of a run, its keys where this version has them. Raises RunError where it cannot be read."""
    config = read_json(folder / "config.json")
    moved = {key: config.pop(key) for key in MOVED if key in config}
    moved |= {"source": config["data"].pop("source")} if "source" in config.get("data", {}) else {}
    return config | {"run": RUN | moved | config.get("run", {})}


def read_json(path: pathlib.Path) -> dict:
    """A JSON file in a run's folder. Raises RunError where it cannot be read, or holds no dictionary."""
    try:
        return read_object(path)
    except (OSError, ValueError) as error:
        finished = (path.parent / "result.json").exists()
        repair = (
            "remove it and result.json alone, and the run's command goes on from its checkpoints to write both."
            if finished
            else "remove that file alone, and the run's command writes it anew and goes on."
        )
        raise RunError(f"{path} cannot be read ({error}); {repair}") from error


def read_object(path: pathlib.Path) -> dict:
    """A JSON object. Raises OSError or ValueError where the file holds none."""
    value = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(value, dict):
        raise ValueError(f"it holds a {type(value).__name__}, not a dictionary")
    return value


def find(
    name: str, workdir: pathlib.Path, config, prepared: Prepared, may_differ: tuple[str, ...] = ()
) -> tuple[pathlib.Path, dict]:
    """Folder and result of a finished run that a run builds on.

    Args:
      name: a run's folder, or a row of the table in `config.run.members`; by default of the table that `workdir` is in.
      may_differ: keys of `membership` that need not be equal.

    Raises:
      RunError: there is no such finished run, or it has other clips in train, valid or test than this config.
    """
    table = pathlib.Path(config.run.members or workdir / ".." / ".." / "..").resolve()
    in_table = table / name / config.protocol / f"split_{config.data.split_seed}"
    for folder in (pathlib.Path(name), in_table):
        if (result := read_result(folder)) is None:
            continue
        theirs, ours = membership(read_config(folder), result), membership(config.to_dict(), None, prepared)
        # Runs of earlier versions do not record all of it.
        compared = theirs.keys() & ours.keys() - set(may_differ)
        if differing := differences(*({key: of[key] for key in compared} for of in (theirs, ours))):
            raise RunError(
                f"{config.row} cannot use {folder}, which has other clips in train, valid and test:"
                f" {'; '.join(differing)}; train {name} on the same cut."
            )
        return folder, result
    raise RunError(
        f"{config.row} needs {name}, which has no finished run in {in_table}; train that row in the same table, or name"
        " its table's folder with --members."
    )


def membership(config: dict, result: dict | None, prepared: Prepared | None = None) -> dict:
    """All that decides which clips are in train, valid and test, by key.

    Args:
      config: as config.json has it. result: of a finished run, which has recorded its files and data. None: they are
        read from `config` and `prepared`.
    """
    data, protocol = config["data"], config["protocol"]
    keys = ("name", "variant", "split_seed", "test_fold", "exclude_classes")
    if result is None:
        recorded = checksums_of_files(data) | {"fingerprint": prepared.fingerprint()}
    else:
        recorded = result.get("data", {})
    return {
        "protocol": protocol,
        **{f"data.{key}": data[key] for key in keys if key in data},
        **{f"data.protocols.{name}": value for name, value in data.get("protocols", {}).items() if name == protocol},
        **{key: recorded[key] for key in ("fingerprint", *FILES) if key in recorded},
    }


def checksums_of_files(data) -> dict[str, str]:
    """Checksums of the files that cut the data, by key of config.data; "" where there is none."""
    return {key: durable.sha256(pathlib.Path(data[key])) if data[key] else "" for key in FILES}


def identity(data, prepared: Prepared, parts: dict[str, Part]) -> dict:
    """What a run's data is: checksums of the prepared clips, of the files that cut them, and of each part.

    data: the section of the config.
    """
    of_parts = {name: {"examples": len(part.id), "checksum": checksum(part)} for name, part in parts.items()}
    return {"fingerprint": prepared.fingerprint(), **checksums_of_files(data), "parts": of_parts}


def keep_identity(workdir: pathlib.Path, identity: dict) -> None:
    """Writes data.json, or compares it. Raises RunError where the run in `workdir` was begun on other data."""
    path = workdir / "data.json"
    # A run that failed before its first step has no config.json.
    has_begun = path.exists() and (workdir / "config.json").exists()
    begun = read_json(path) if has_begun else identity
    if begun != identity:
        parts = [name for name, part in identity["parts"].items() if begun.get("parts", {}).get(name) != part]
        raise RunError(
            f"{workdir} was begun on other data: {', '.join(parts) or 'the prepared clips'} differ from those of"
            " --data_dir now; choose another --workdir, or the data that it was begun on."
        )
    try:
        durable.make_folder(workdir)
        durable.write_text(path, json.dumps(identity, indent=1) + "\n")
    except OSError as error:
        raise RunError(f"--workdir={workdir} cannot be written ({error}); choose another folder.") from error
