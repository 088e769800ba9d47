"""One row of a study: prepare, split, train, choose on validation, read test once, record."""

import contextlib
import functools
import importlib
import itertools
import json
import os
import pathlib
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from audiojax import checkpoint, console, durable, evaluate, grid, metrics, names
from audiojax import mesh as meshes
from audiojax.data import prepared as prepared_data
from audiojax.data import release, resident, splits
from audiojax.duration import duration
from audiojax.errors import ConfigError, DataError, NonFiniteError, RunError
from audiojax.evaluate import Scores, intervals
from audiojax.lock import own_folder
from audiojax.state import Best
from audiojax.train import Trainer
from audiojax.writer import Writer, differences, finite, provenance, read_object, read_result, to_write_config_anew

LABELS = "labels.csv"  # of a run that leaves labels for others
FILES = ("split_file", "group_file")  # keys of config.data that name files that cut the data


class Data(NamedTuple):
    """What a run reads. classes: their names. notes: sentences about what is odd."""

    prepared: prepared_data.Prepared
    parts: dict[str, splits.Part]
    classes: list[str]
    notes: list[str]


class Fitted(NamedTuple):
    """A config trained on data. prior_K: share of the training examples that each class labels. best: what validation
    chose. steps: done."""

    data: Data
    prior_K: np.ndarray
    task: Any
    trainer: Trainer
    best: Best
    steps: int

    def scores(self, name: str) -> Scores:
        """Scores of a part of the data by what validation chose; NaN of a replica of which it has chosen nothing."""
        scores = self.trainer.evaluator.scores(name, self.best.params, self.best.model_state)
        return evaluate.without(scores, ~self.trainer.chosen(self.best))


class Loaded(NamedTuple):
    """A finished run. best: what validation chose, with a leading axis of config.replicas, the replicas of which it has
    chosen anything."""

    config: ConfigDict
    result: dict
    task: Any
    best: Best


@own_folder
def run(
    config,
    workdir: pathlib.Path,
    raw_dir: pathlib.Path | None,
    data_dir: pathlib.Path,
    leave: Callable[[Fitted, Writer], dict | None] | None = None,
    watch: Callable | None = None,
) -> dict:
    """Trains and evaluates one config in `workdir`; returns what result.json holds.

    A finished folder is left as it is; an unfinished one is continued. leave: writes what else stays in the folder, and
    may return what else result.json says, "test" being further metrics of test; without it the answers of a first
    convolution of images. watch: of `fit`.

    Raises:
      AudiojaxError: what is wrong, where, and what to do.
    """
    started_s = time.perf_counter()
    writer, result = open_folder(config, workdir)
    if result:
        return result
    data = open_run(config, workdir, raw_dir, data_dir)
    prepare_s = time.perf_counter() - started_s
    fitted = fit(config, data, workdir, writer, watch=watch)
    tested_s = time.perf_counter()
    judged = judge(config, data.parts, fitted.scores, writer)
    left = (leave or leave_first_layer)(fitted, writer) or {}
    judged["metrics"]["test"] |= left.pop("test", {})
    ended_s = time.perf_counter()
    result = facts(config, data) | judged | training(config, fitted) | left
    result["time_s"]["eval"] += ended_s - tested_s
    result["time_s"] = {"prepare": prepare_s} | result["time_s"]
    return close_folder(writer, workdir, result)


def open_folder(config, workdir: pathlib.Path) -> tuple[Writer, dict | None]:
    """What writes a run's folder, and its result where it is finished, which is said. Its caller holds the lock."""
    if jax.process_count() > 1:
        program = {name: value for name, value in provenance([]).items() if name != "device"}
        meshes.agree("config and program", program | {"workdir": str(workdir), "config": config.to_dict()})
    writer, result = Writer(workdir, config.to_dict()), meshes.by_first(lambda: read_result(workdir))
    if result:
        console.say(f"{workdir} is finished; to run it again choose another --workdir.")
    return writer, result


def close_folder(writer: Writer, workdir: pathlib.Path, result: dict) -> dict:
    """Marks a run as finished, and says where its result is; returns what result.json holds."""
    result = finite(result)
    writer.close()
    writer.result(result)
    console.say(f"results: {workdir / 'result.json'}")
    return result


def open_run(config, workdir: pathlib.Path, raw_dir: pathlib.Path | None, data_dir: pathlib.Path) -> Data:
    """The data of a config, cut by its protocol; data.label_file may be a file, the folder of a run that left one, or a
    row of the table that `workdir` lies in."""
    prepared = open_data(config.data, raw_dir, data_dir)
    section = config.data
    if section.label_file and not pathlib.Path(section.label_file).is_file():
        if section.label_file.endswith(".csv"):
            raise ConfigError(f"data.label_file={section.label_file}: there is no such file.")
        section = section.copy_and_resolve_references()
        section.label_file = str(find_run(section.label_file, workdir, config, prepared)[0] / LABELS)
    data = Data(prepared, *open_parts(config, section, prepared))
    if jax.process_count() > 1:
        meshes.agree("the data", identity(config, data))
    return data


def fit(
    config,
    data: Data,
    workdir: pathlib.Path,
    writer: Writer,
    start_from: pathlib.Path | None = None,
    watch: Callable | None = None,
) -> Fitted:
    """Trains a config on the parts of its data, from the newest checkpoint in `workdir`.

    start_from: folder of a run of the same network, whose chosen weights are the first ones of this run; without it
    that of the config. watch: called with the data, the task, the writer, and what `Trainer.run` calls it with.
    """
    meshes.by_first(lambda: keep_identity(workdir, identity(config, data)))
    total_steps, _ = duration(config, len(data.parts["train"].id))
    mesh = meshes.make_mesh(config.replicas, config.batch_size, config.cpu_devices)
    source = open_source(config.data, data.prepared, data.parts, mesh)
    prior_K = splits.class_shares(data.parts["train"], len(data.classes))
    task = names.task(config.task.name)(config, prior_K, total_steps)
    if not start_from and config.get("start_from"):
        start_from = pathlib.Path(config.start_from)
    opened = checkpoint.Checkpoints(workdir / "checkpoints", config.keep, writer.sync_log)
    with opened as checkpoints, contextlib.closing(writer):
        if start_from and checkpoints.latest_step() is None:
            check_classes(start_from, config, data.classes)
        trainer = Trainer(config, task, source, data.parts, mesh, checkpoints, writer)
        best, steps = trainer.run(start_from, functools.partial(watch, data, task, writer) if watch else None)
    data.notes.extend(f"{config.row}, {config.protocol}: {sentence}" for sentence in trainer.divergences(best))
    return Fitted(data, prior_K, task, trainer, best, steps)


def check_classes(start_from: pathlib.Path, config, classes: list[str]) -> None:
    """Checks that a run to start from has the same classes, where it is not finished as far as its config says.

    Raises:
      ConfigError: it has others. RunError: the folder is none of a run.
    """
    if not (start_from / "config.json").exists():
        raise RunError(f"start_from={start_from} is no folder of a run.")
    there = (read_result(start_from) or {}).get("classes")
    if there is None:
        sections = read_config(start_from)["data"], config.data
        keys = ("name", "exclude_classes")
        differing = differences(*({key: section[key] for key in keys} for section in sections), "data.")
    else:
        both = enumerate(itertools.zip_longest(there, classes))
        differing = [f"number {k} is {other!r} there and {own!r} here" for k, (other, own) in both if other != own]
    if differing:
        raise ConfigError(f"start_from={start_from} is of other classes: {differing[0]}.")


def leave_first_layer(fitted: Fitted, writer: Writer) -> None:
    """What a network of images has as its first convolution's answers to a test clip, in plots/first_layer.npz: id,
    response [H, W, filters], of the first replica."""
    kernel = fitted.best.params.get("Conv_0", {}).get("kernel")
    if kernel is None or kernel.ndim != 5:  # [replicas, height, width, channels, filters]
        return
    answers = lambda params, model_state, batch: {"response": fitted.task.first_layer(params, model_state, batch)}
    response = fitted.trainer.evaluator.outputs("test", answers, fitted.best, np.arange(1))["response"][0, 0]
    clip = fitted.data.parts["test"].id[0]
    writer.arrays("plots/first_layer", id=clip, response=response.astype(np.float16))


def training(config, fitted: Fitted) -> dict:
    """What result.json says of how a config was trained."""
    time_s = dict(fitted.trainer.time_s)
    return {
        "prior": fitted.prior_K.tolist(),
        "settings": {key: values.tolist() for key, values in grid.settings(config).items()},
        "best_step": fitted.trainer.best_steps(fitted.best).tolist(),
        "diverged": fitted.trainer.diverged(),
        "steps": fitted.steps,
        "parameters": sum(x.size for x in jax.tree.leaves(fitted.best.params)) // config.replicas,
        "time_s": time_s,
        "examples_per_s": fitted.steps * config.batch_size * config.replicas / max(time_s["train"], 1e-9),
    }


def judge(config, parts: dict[str, splits.Part], scores_of: Callable[[str], Scores], writer: Writer) -> dict:
    """What result.json says of the scores of these parts (metrics, ci95, per_class); keeps the predictions.

    scores_of: a part's scores, by its name. Subsets of a part, such as verified clips, are told apart. A replica that
    has no scores has NaN for metrics; predictions, classes and the ensemble leave it out.

    Raises:
      NonFiniteError: of a part no replica has a finite loss for every example.
    """
    summaries, ci95, kept, by_class = {}, {}, [], []
    for name, part in parts.items():
        scores = scores_of(name)
        scored = np.flatnonzero(evaluate.has_scores(scores))
        if not len(scored):
            first = part.id[np.isnan(scores.loss).any(0).argmax()]
            raise NonFiniteError(f"what validation chose has no finite loss for all of {name}; see {first}.")
        summaries[name], by_class = evaluate.report(part, scores)
        if not config.grid:
            kept = scored
        elif name == "valid":  # Of a grid, predictions are kept of what validation prefers.
            kept = [metrics.best(summaries[name][config.select], config.select)]
        if name != "train":
            ci95[name] = intervals(part, scores)
            if scores.score is not None:
                writer.predictions(name, part, scores.score[kept])
                if len(scores.score) > 1 and not config.grid:
                    together = evaluate.ensemble(evaluate.of_replicas(scores, scored), config.task.loss, part.label)
                    summaries[f"{name}_ensemble"] = evaluate.report(part, together).summary
        for subset in np.unique(part.subset) if len(np.unique(part.subset)) > 1 else ():
            if not subset:
                continue  # the rest, which has no name
            inside = part.subset == subset
            own, own_part = evaluate.select(scores, inside), splits.select(part, inside)
            summaries[f"{name}_{subset.lower()}"] = evaluate.report(own_part, own).summary
            if name != "train":
                ci95[f"{name}_{subset.lower()}"] = intervals(own_part, own)
    lists = [{name: values.tolist() for name, values in by_class[replica].items()} for replica in kept]
    return {"metrics": summaries, "ci95": ci95, "per_class": {"test": lists}}


def facts(config, data: Data) -> dict:
    """What result.json says of the run that does not depend on how it came to its scores."""
    counts, prepared = {name: len(part.id) for name, part in data.parts.items()}, data.prepared
    return {
        "study": config.study,
        "row": config.row,
        "protocol": config.protocol,
        "variant": config.data.variant,
        "seed": config.seed,
        "replicas": config.replicas,
        "published": config.published.to_dict(),
        "examples": counts
        | {"skipped": len(prepared.skipped), "absent": prepared.absent(), "changed": prepared.changes},
        "skipped": prepared.skipped,
        "notes": data.notes,
        "data": identity(config, data),
        "classes": data.classes,
    } | provenance(meshes.devices(config.cpu_devices))


def load(folder: pathlib.Path) -> Loaded:
    """A finished run of a single network, to be used without training.

    Raises:
      RunError: it is not finished, or cannot be read.
    """
    result = read_result(folder)
    if result is None or "best_step" not in result:
        raise RunError(f"{folder} holds no finished run; train it first.")
    if not result["best_step"]:
        raise RunError(f"{folder} is a run without weights of its own, such as an ensemble; take a run that trains.")
    config = ConfigDict(tuples(read_config(folder)))
    classes = len(result["classes"])
    if "prior" not in result and config.task.get("competition"):
        raise RunError(f"{folder} does not say how frequent its classes are, which its scores need; train it again.")
    prior_K = np.array(result.get("prior", [1 / classes] * classes))
    try:
        task = names.task(config.task.name)(config, prior_K, result["steps"])
    except (AttributeError, KeyError) as error:
        raise RunError(
            f"{folder} was trained by another version of audiojax, whose config.json has no {error}; take that version,"
            " or train it again."
        ) from error
    best = Best(**checkpoint.read(folder / "checkpoints", chosen=result["best_step"])["best"])
    chosen = np.flatnonzero(np.asarray(best.score) > -np.inf)
    if len(chosen) < config.replicas:
        best, config.replicas = jax.tree.map(lambda leaf: leaf[chosen], best), len(chosen)
    return Loaded(config, result, task, best)


def read_config(folder: pathlib.Path) -> dict:
    """The config.json of a run. Raises RunError where it cannot be read."""
    return read_json(folder / "config.json")


def read_json(path: pathlib.Path) -> dict:
    """A JSON file of a run. Raises RunError where it cannot be read, or holds no dictionary."""
    try:
        return read_object(path)
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read ({error}); {to_write_config_anew(path.parent)}") from error


def tuples(tree):
    """The same with tuples for lists, which JSON has in their place."""
    if isinstance(tree, dict):
        return {key: tuples(value) for key, value in tree.items()}
    return tuple(map(tuples, tree)) if isinstance(tree, list) else tree


def find_run(
    name: str, workdir: pathlib.Path, config, prepared: prepared_data.Prepared, apart_from: tuple[str, ...] = ()
) -> tuple[pathlib.Path, dict]:
    """Folder and result of a finished run: `name` itself, or that row of the table that `workdir` lies in.

    apart_from: keys of `membership` that may differ.

    Raises:
      RunError: neither is finished, or it has other clips in train, valid or test than this config.
    """
    table = (workdir / ".." / ".." / "..").resolve()
    beside = table / name / config.protocol / f"split_{config.data.split_seed}"
    for folder in (pathlib.Path(name), beside):
        if (result := read_result(folder)) is None:
            continue
        own, wanted = membership(read_config(folder), result), membership(config.to_dict(), None, prepared)
        # Runs of earlier versions do not say all of it.
        compared = own.keys() & wanted.keys() - set(apart_from)
        differing = differences(*({key: of[key] for key in compared} for of in (own, wanted)))
        if differing:
            raise RunError(
                f"{config.row} cannot use {folder}, which has other clips in train, valid and test:"
                f" {'; '.join(differing)}; train {name} on the same cut."
            )
        return folder, result
    raise RunError(
        f"{config.row} needs {name}, which has no finished run, neither there nor in {beside}; train it first."
    )


def membership(config: dict, result: dict | None, prepared: prepared_data.Prepared | None = None) -> dict:
    """All that decides which clips are in train, valid and test, of a finished run or of a config and its data.

    config: as config.json has it. result: None of a run that is not finished; the files and data are read then.
    """
    data, protocol = config["data"], config["protocol"]
    keys = ("name", "variant", "split_seed", "test_fold", "exclude_classes")
    own = lambda: identity_of_files(data) | {"fingerprint": prepared.fingerprint()}
    known = own() if result is None else result.get("data", {})
    return {
        "protocol": protocol,
        **{f"data.{key}": data[key] for key in keys if key in data},
        **{f"data.protocols.{name}": value for name, value in data.get("protocols", {}).items() if name == protocol},
        **{key: known[key] for key in ("fingerprint", *FILES) if key in known},
    }


def identity_of_files(data) -> dict[str, str]:
    """The checksums of the files that cut the data, by key; "" where there is none."""
    return {key: durable.sha256(pathlib.Path(data[key])) if data[key] else "" for key in FILES}


def identity(config, data: Data) -> dict:
    """What a run's data are: checksums of the prepared clips, of the files that cut them, and of each part."""
    parts = {name: {"examples": len(part.id), "checksum": splits.checksum(part)} for name, part in data.parts.items()}
    return {"fingerprint": data.prepared.fingerprint(), **identity_of_files(config.data), "parts": parts}


def keep_identity(workdir: pathlib.Path, known: dict) -> None:
    """Writes data.json, or compares it. Raises RunError where the run in `workdir` was begun on other data."""
    path = workdir / "data.json"
    # A run that failed before its first step has no config.json.
    has_begun = path.exists() and (workdir / "config.json").exists()
    begun = read_json(path) if has_begun else known
    if begun != known:
        parts = [name for name, part in known["parts"].items() if begun.get("parts", {}).get(name) != part]
        raise RunError(
            f"{workdir} was begun on other data: {', '.join(parts) or 'the prepared clips'} differ from those of"
            " --data_dir now; choose another --workdir, or the data that it was begun on."
        )
    try:
        durable.make_folder(workdir)
        durable.write_text(path, json.dumps(known, indent=1) + "\n")
    except OSError as error:
        raise RunError(f"--workdir={workdir} cannot be written ({error}); choose another folder.") from error


def open_data(config, raw_dir: pathlib.Path | None, data_dir: pathlib.Path) -> prepared_data.Prepared:
    """The data set of `config.data`; the first process prepares it where that has not been done."""
    name, variant = config.name, config.variant

    def make_ready():
        source = release.find_release(name, raw_dir) if variant == "released" else None
        prepared = prepared_data.find(name, variant, data_dir)
        if prepared is None:
            console.say(f"preparing {name} ({variant}) in {data_dir}")
            prepare = import_tensorflow("audiojax.data.prepare", f"{name} ({variant}) is not prepared in {data_dir}")
            prepare.prepare(name, variant, raw_dir, data_dir, config.strict)
        elif source:
            release.check_release(prepared, source)
        if prepared:
            prepared.verify(whole=False)

    meshes.by_first(make_ready)
    prepared = prepared_data.find(name, variant, data_dir)
    meshes.agree(f"--data_dir={data_dir}", {name: "prepared" if prepared else "absent"})
    if prepared.skipped and config.strict:
        what, why = prepared.skipped[0]
        raise DataError(
            f"{prepared.folder} was prepared without {len(prepared.skipped)} unreadable items (first: {what}: {why});"
            " repair the release and delete that folder, or pass --config.data.strict=False."
        )
    for what, why in prepared.skipped:
        console.say(f"left out: {what}: {why}")
    for change, count in prepared.changes.items():
        console.say(f"{name}: {count:,} examples {change}")
    for split, count in prepared.absent().items():
        total = prepared.released_examples[split]
        console.say(
            f"{name} {split}: {total - count:,} of the release's {total:,} examples are here, {count:,} are absent"
        )
    return prepared


def open_parts(config, data, prepared: prepared_data.Prepared) -> tuple[dict[str, splits.Part], list[str], list[str]]:
    """Cuts the data by the config's protocol and checks the cut for leaks; also class names and what to note.

    data: the config's section, or what takes its place.
    """
    if config.protocol not in data.protocols:
        known = ", ".join(data.protocols)
        raise ConfigError(f"protocol={config.protocol!r} is unknown; protocols: {known}.")
    protocol = data.protocols[config.protocol]
    parts, classes, notes = splits.make_parts(prepared, protocol, data)
    apart = ("segment",) if protocol.get("unit") == "segment" else ("id",)
    splits.check_leaks(parts, ("id", "group") if config.protocol == "honest" else apart)
    for note in notes:
        console.say(note)
    sizes = ", ".join(f"{name} {len(part.id):,} ({part.split})" for name, part in parts.items())
    console.say(f"{config.study} {config.row}, {config.protocol} protocol: {sizes}")
    return parts, classes, notes


def open_source(data, prepared: prepared_data.Prepared, parts: dict[str, splits.Part], mesh: jax.sharding.Mesh):
    """The source that data.source asks for; `auto` is resident where the data fits in device memory."""
    kind = data.source
    if kind not in ("auto", "resident", "stream"):
        raise ConfigError(f"data.source={kind!r} is unknown; sources: auto, resident, stream.")
    pad = data.segment.pad if any((part.length < part.steps).any() for part in parts.values()) else "none"
    # Hosts may have more or less memory, and all must do the same.
    if kind == "resident" or (kind == "auto" and meshes.by_first(lambda: resident.fits(prepared, parts, mesh))):
        return resident.Resident(prepared, parts, pad, mesh)
    pipeline = import_tensorflow("audiojax.data.pipeline", "data.source=stream reads by tf.data")
    return pipeline.Stream(prepared, parts, pad, mesh)


def import_tensorflow(module: str, reason: str):
    """Imports a module that needs TensorFlow, at the moment that it is needed."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # Its notes on this machine's instructions are not ours.
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise DataError(f"{reason}, which needs TensorFlow, and that cannot be imported here ({error}).") from error
