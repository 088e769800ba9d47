"""From a config to a result: open the data, fit, judge."""

import contextlib
import functools
import itertools
import pathlib
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from audiojax import checkpoint, evaluate, grid, names, runs
from audiojax import mesh as meshes
from audiojax.data.open import open_data, open_parts, open_source
from audiojax.data.prepared import Prepared
from audiojax.data.windows import Part, class_shares, select
from audiojax.duration import duration
from audiojax.errors import ConfigError, NonFiniteError, RunError
from audiojax.evaluate import Outputs
from audiojax.state import Best
from audiojax.tasks.supervised import outputs_of
from audiojax.train import Trainer
from audiojax.writer import Writer, provenance


class Data(NamedTuple):
    """What a run reads. classes: names of the classes. notes: sentences on what is odd about the data or the run."""

    prepared: Prepared
    parts: dict[str, Part]
    classes: list[str]
    notes: list[str]


class Fitted(NamedTuple):
    """A trained config.

    prior_K: share of the training examples that carry each class. best: what validation chose. steps: steps done.
    """

    data: Data
    prior_K: np.ndarray
    task: Any
    trainer: Trainer
    best: Best
    steps: int

    def scores(self, name: str) -> Outputs:
        """Scores of a part with the chosen weights; NaN for a replica for which validation chose none."""
        scores = self.trainer.evaluator.scores(name, self.best.params, self.best.model_state)
        return evaluate.without(scores, ~self.trainer.chosen(self.best))


@runs.own_folder
def run(
    config,
    workdir: pathlib.Path,
    raw_dir: pathlib.Path | None,
    data_dir: pathlib.Path,
    leave: Callable[[Fitted, Writer], dict | None] | None = None,
    watch: Callable | None = None,
) -> dict:
    """Trains and evaluates one config in `workdir`; returns what result.json holds.

    A finished folder is left as it is; an unfinished one is continued.

    Args:
      leave: writes further files to the folder, and may return further entries of result.json; "test" among them are
        further metrics of test.
      watch: see `fit`.

    Raises:
      AudiojaxError: what is wrong, where, and what to do.
    """
    started_s = time.perf_counter()
    writer, result = runs.open_folder(config, workdir)
    if result:
        return result
    data = open_run(config, workdir, raw_dir, data_dir)
    prepare_s = time.perf_counter() - started_s
    fitted = fit(config, data, workdir, writer, watch=watch)
    tested_s = time.perf_counter()
    judged = judge(config, data.parts, fitted.scores, writer)
    left = (leave(fitted, writer) if leave else None) or {}
    judged["metrics"]["test"] |= left.pop("test", {})
    ended_s = time.perf_counter()
    result = facts(config, data) | judged | training(config, fitted) | left
    result["time_s"]["eval"] += ended_s - tested_s
    result["time_s"] = {"prepare": prepare_s} | result["time_s"]
    return runs.close_folder(writer, workdir, result)


def open_run(config, workdir: pathlib.Path, raw_dir: pathlib.Path | None, data_dir: pathlib.Path) -> Data:
    """The data of a config, cut by its protocol.

    data.label_file may be a file, the folder of a run that wrote labels, or a row of the table that `runs.find` finds.
    """
    prepared, section = open_data(config, raw_dir, data_dir), config.data
    if section.label_file and not pathlib.Path(section.label_file).is_file():
        if section.label_file.endswith(".csv"):
            raise ConfigError(f"data.label_file={section.label_file}: there is no such file.")
        section = section.copy_and_resolve_references()
        section.label_file = str(runs.find(section.label_file, workdir, config, prepared)[0] / runs.LABELS)
    data = Data(prepared, *open_parts(config, section, prepared))
    if jax.process_count() > 1:
        meshes.agree("the data", runs.identity(config.data, prepared, data.parts))
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

    Args:
      start_from: folder of a run of the same network; training starts with the weights that its validation chose.
        Default: config.start_from.
      watch: called at each evaluation with the data, the task, the writer, and the arguments of `Trainer.run`'s watch.
    """
    meshes.by_first(lambda: runs.keep_identity(workdir, runs.identity(config.data, data.prepared, data.parts)))
    total_steps, _ = duration(config, len(data.parts["train"].id))
    mesh = meshes.make_mesh(config.replicas, config.batch_size, config.run.cpu_devices)
    source = open_source(config, data.prepared, data.parts, mesh)
    prior_K = class_shares(data.parts["train"], len(data.classes))
    task = names.task(config.task.name)(config, prior_K, total_steps)
    if not start_from and config.get("start_from"):
        start_from = pathlib.Path(config.start_from)
    opened = checkpoint.Checkpoints(workdir / "checkpoints", config.run.keep, writer.sync_log)
    with opened as checkpoints, contextlib.closing(writer):
        if start_from and checkpoints.latest_step() is None:
            check_classes(start_from, config, data.classes)
        trainer = Trainer(config, task, source, data.parts, mesh, checkpoints, writer)
        best, steps = trainer.run(start_from, functools.partial(watch, data, task, writer) if watch else None)
    data.notes.extend(f"{config.row}, {config.protocol}: {sentence}" for sentence in trainer.divergences(best))
    return Fitted(data, prior_K, task, trainer, best, steps)


def check_classes(start_from: pathlib.Path, config, classes: list[str]) -> None:
    """Checks that a run to start from has the same classes; of an unfinished run, those that its config asks for.

    Raises:
      ConfigError: it has other classes. RunError: the folder holds no run.
    """
    if not (start_from / "config.json").exists():
        raise RunError(f"start_from={start_from} is no folder of a run.")
    theirs = (runs.read_result(start_from) or {}).get("classes")
    if theirs is None:
        sections, keys = (runs.read_config(start_from)["data"], config.data), ("name", "exclude_classes")
        differing = runs.differences(*({key: section[key] for key in keys} for section in sections), "data.")
    else:
        pairs = enumerate(itertools.zip_longest(theirs, classes))
        differing = [f"class {k} is {a!r} there and {b!r} here" for k, (a, b) in pairs if a != b]
    if differing:
        raise ConfigError(f"start_from={start_from} has other classes: {differing[0]}.")


def training(config, fitted: Fitted) -> dict:
    """Entries of result.json on the training."""
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


def judge(config, parts: dict[str, Part], scores_of: Callable[[str], Outputs], writer: Writer) -> dict:
    """Entries of result.json on the scores of these parts: metrics, ci95, per_class. Also writes the predictions.

    Named subsets of a part, such as verified clips, are also scored by themselves. A replica without scores has NaN for
    metrics, and is left out of predictions, classes and the ensemble.

    Args:
      scores_of: returns the scores of a part, by its name.

    Raises:
      NonFiniteError: in one of the parts, no replica has a finite loss for every example.
    """
    task = names.task(config.task.name)
    summaries, ci95, kept, by_class = {}, {}, [], []
    for name, part in parts.items():
        scores = scores_of(name)
        scored = np.flatnonzero(evaluate.has_scores(scores))
        if not len(scored):
            first = part.id[np.isnan(scores["loss"]).any(0).argmax()]
            raise NonFiniteError(f"what validation chose has no finite loss for all of {name}; see {first}.")
        summaries[name], by_class = evaluate.report(task, part, scores)
        if not config.grid:
            kept = scored
        elif name == "valid":  # A grid keeps the predictions of the settings that validation prefers.
            kept = [task.best(summaries[name][config.select], config.select)]
        if name != "train":
            ci95[name] = evaluate.intervals(task, part, scores)
            if "score" in scores:
                writer.predictions(name, part, scores["score"][kept])
                if len(scores["score"]) > 1 and not config.grid:
                    ensemble = outputs_of(config.task.loss, scores["score"][scored].mean(0), part.label)
                    summaries[f"{name}_ensemble"] = evaluate.report(task, part, ensemble).summary
        for subset in np.unique(part.subset) if len(np.unique(part.subset)) > 1 else ():
            if not subset:
                continue  # the rest, which has no name
            inside = part.subset == subset
            own, own_part = {key: values[:, inside] for key, values in scores.items()}, select(part, inside)
            summaries[f"{name}_{subset.lower()}"] = evaluate.report(task, own_part, own).summary
            if name != "train":
                ci95[f"{name}_{subset.lower()}"] = evaluate.intervals(task, own_part, own)
    lists = [{name: values.tolist() for name, values in by_class[replica].items()} for replica in kept]
    return {"metrics": summaries, "ci95": ci95, "per_class": {"test": lists}}


def facts(config, data: Data) -> dict:
    """Entries of result.json on the config, the data and the program."""
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
        "data": runs.identity(config.data, prepared, data.parts),
        "classes": data.classes,
    } | provenance(meshes.devices(config.run.cpu_devices))
