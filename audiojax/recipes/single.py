"""One row of a study: prepare, split, train, choose on validation, read test once, record."""

import importlib
import os
import pathlib
import pkgutil
import time
from collections.abc import Callable

import jax
import numpy as np
from jax.experimental import multihost_utils

from audiojax import console, evaluate, grid, metrics, tasks
from audiojax import mesh as meshes
from audiojax.checkpoint import Checkpoints
from audiojax.data import prepared as prepared_data
from audiojax.data import resident, splits
from audiojax.duration import duration
from audiojax.errors import ConfigError, DataError
from audiojax.evaluate import Scores, intervals
from audiojax.train import Trainer
from audiojax.writer import Writer, provenance, read_result


def run(config, workdir: pathlib.Path, raw_dir: pathlib.Path | None, data_dir: pathlib.Path) -> dict:
    """Trains and evaluates one config in `workdir`; returns what result.json holds.

    A finished folder is left as it is; an unfinished one is continued.

    Raises:
      AudiojaxError: what is wrong, where, and what to do.
    """
    started_s = time.perf_counter()
    writer = Writer(workdir, config.to_dict())
    if result := read_result(workdir):
        console.say(f"{workdir} is finished; to run it again choose another --workdir.")
        return result

    prepared = open_data(config.data, raw_dir, data_dir)
    parts, classes, notes = open_parts(config, prepared)
    total_steps, _ = duration(config, len(parts["train"].id))
    mesh = meshes.make_mesh(config.replicas, config.batch_size)
    source = open_source(config.data, prepared, parts, mesh)
    prior_K = splits.class_shares(parts["train"], len(classes))
    task = find_task(config.task.name)(config, prior_K, total_steps)
    prepare_s = time.perf_counter() - started_s

    checkpoints = Checkpoints(workdir / "checkpoints", config.keep)
    trainer = Trainer(config, task, source, parts, mesh, checkpoints, writer)
    best, steps = trainer.run()

    tested_s = time.perf_counter()
    scores_of = lambda name: trainer.evaluator.scores(name, best.params, best.model_state)
    judged = judge(config, parts, scores_of, writer)
    time_s = {"prepare": prepare_s} | trainer.time_s
    time_s["eval"] += time.perf_counter() - tested_s

    result = facts(config, prepared, parts, classes, notes) | judged
    result |= {
        "settings": {key: values.tolist() for key, values in grid.settings(config).items()},
        "best_step": trainer.best_steps(best).tolist(),
        "steps": steps,
        "parameters": sum(x.size for x in jax.tree.leaves(best.params)) // config.replicas,
        "time_s": time_s,
        "examples_per_s": steps * config.batch_size * config.replicas / max(time_s["train"], 1e-9),
    }
    writer.close()
    checkpoints.close()
    writer.result(result)
    console.say(f"results: {workdir / 'result.json'}")
    return result


def judge(config, parts: dict[str, splits.Part], scores_of: Callable[[str], Scores], writer: Writer) -> dict:
    """What result.json says of the scores of these parts (metrics, ci95, per_class); keeps the predictions.

    scores_of: a part's scores, by its name.
    """
    summaries, ci95, kept, by_class = {}, {}, slice(None), []
    for name, part in parts.items():
        scores = scores_of(name)
        summaries[name], by_class = evaluate.report(part, scores)
        if name == "train":
            continue
        if config.grid and name == "valid":  # Of a grid, predictions are kept of what validation prefers.
            chosen = metrics.best(summaries[name][config.select], config.select)
            kept = slice(chosen, chosen + 1)
        if len(scores.score) > 1 and not config.grid:
            together = evaluate.ensemble(scores, config.task.loss, part.label)
            summaries[f"{name}_ensemble"] = evaluate.report(part, together).summary
        ci95[name] = intervals(part, scores)
        writer.predictions(name, part, scores.score[kept])
        for subset in np.unique(part.subset) if len(np.unique(part.subset)) > 1 else ():
            inside = part.subset == subset
            own, own_part = Scores(*(values[:, inside] for values in scores)), splits.select(part, inside)
            summaries[f"{name}_{subset.lower()}"] = evaluate.report(own_part, own).summary
            ci95[f"{name}_{subset.lower()}"] = intervals(own_part, own)
    lists = [{name: values.tolist() for name, values in replica.items()} for replica in by_class[kept]]
    return {"metrics": summaries, "ci95": ci95, "per_class": {"test": lists}}


def facts(config, prepared: prepared_data.Prepared, parts: dict[str, splits.Part], classes, notes) -> dict:
    """What result.json says of the run that does not depend on how it came to its scores."""
    counts = {name: len(part.id) for name, part in parts.items()}
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
        "notes": notes,
        "classes": classes,
    } | provenance()


def open_data(config, raw_dir: pathlib.Path | None, data_dir: pathlib.Path) -> prepared_data.Prepared:
    """The data set of `config.data`; the first process prepares it where that has not been done."""
    name, variant = config.name, config.variant
    if jax.process_index() == 0 and prepared_data.find(name, variant, data_dir) is None:
        console.say(f"preparing {name} ({variant}) in {data_dir}")
        prepare = import_tensorflow("audiojax.data.prepare", f"{name} ({variant}) is not prepared in {data_dir}")
        prepare.prepare(name, variant, raw_dir, data_dir, config.strict)
    multihost_utils.sync_global_devices("prepared")
    prepared = prepared_data.find(name, variant, data_dir)
    if prepared is None:
        raise DataError(f"--data_dir={data_dir} is not shared by all hosts: {name} is not there.")
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


def open_parts(config, prepared: prepared_data.Prepared) -> tuple[dict[str, splits.Part], list[str], list[str]]:
    """Cuts the data by the config's protocol and checks the cut for leaks; also class names and what to note."""
    if config.protocol not in config.data.protocols:
        known = ", ".join(config.data.protocols)
        raise ConfigError(f"protocol={config.protocol!r} is unknown; protocols: {known}.")
    protocol = config.data.protocols[config.protocol]
    parts, classes, notes = splits.make_parts(prepared, protocol, config.data)
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
    if kind == "resident" or (kind == "auto" and resident.fits(prepared, parts)):
        return resident.Resident(prepared, parts, pad, mesh)
    pipeline = import_tensorflow("audiojax.data.pipeline", "data.source=stream reads by tf.data")
    return pipeline.Stream(prepared, parts, pad, mesh)


def find_task(name: str):
    """Class Task of tasks/NAME.py."""
    known = [module.name for module in pkgutil.iter_modules(tasks.__path__)]
    if name not in known:
        raise ConfigError(f"task.name={name!r} is unknown; tasks: {', '.join(known)}.")
    return importlib.import_module(f"audiojax.tasks.{name}").Task


def import_tensorflow(module: str, reason: str):
    """Imports a module that needs TensorFlow, at the moment that it is needed."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # Its notes on this machine's instructions are not ours.
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise DataError(f"{reason}, which needs TensorFlow, and that cannot be imported here ({error}).") from error
