"""Self-training: a network labels clips of which it is sure, but not too sure, and trains on them, repeatedly."""

import functools
import pathlib
import shutil
import time
from typing import NamedTuple

import numpy as np

from audiojax import console, evaluate, experiment, names, runs
from audiojax import mesh as meshes
from audiojax.data import labels
from audiojax.data.protocol import make_parts, relabel
from audiojax.data.windows import Part, select
from audiojax.errors import ConfigError, NonFiniteError
from audiojax.evaluate import Outputs
from audiojax.recipes import single
from audiojax.tasks.supervised import clips
from audiojax.writer import read_arrays

PSEUDO = "pseudo"  # subset of clips with predicted labels
HEADER = ("iteration", "epoch", "data", "train accuracy", "valid accuracy", "lower bound")


class Seed(NamedTuple):
    """The training of one seed.

    data: of the config; its train part has the clips that are labelled from the start. whole: all clips that may be
    trained on, with their own labels. pool: those of them without a label from the start.
    """

    config: object
    data: experiment.Data
    whole: Part
    pool: Part
    folder: pathlib.Path

    def iteration(self, number: int) -> pathlib.Path:
        """Folder of an iteration, counted from 0."""
        return self.folder / f"iteration_{number:02d}"


@runs.own_folder
def run(config, workdir: pathlib.Path, raw_dir: pathlib.Path | None, data_dir: pathlib.Path) -> dict:
    """Trains in iterations; returns what result.json holds.

    The first iteration trains on the config's training clips. Each later one also trains on clips that
    data.label_file and data.subset_weights leave out, with their predicted labels, where the probability of the label
    lies within bounds. Validation chooses the iteration that scores test. Seeds train one after the other, each with
    its own labels. An iteration that diverges does not count and ends its seed; a seed whose first iteration diverges
    has no scores.

    seed_N/iteration_M is a run's folder, whose labels.csv has the clips of that iteration, with the probability of
    predicted labels. An interrupted run resumes within its iteration.

    Config:
      recipe.iterations: their number, each with the config's duration and early stopping.
      recipe.warm_start: whether an iteration starts from the weights that validation chose in the one before.
      recipe.lower: the lower bound in the second iteration and in the last; in between it changes linearly.
      recipe.upper: the upper bound.
      recipe.agreeing: whether a predicted label must be the clip's own label.

    Raises:
      ConfigError: impossible bounds or iterations, a grid, or several labels a clip. NonFiniteError: the first
        iterations of all seeds diverge.
    """
    started_s = time.perf_counter()
    writer, result = runs.open_folder(config, workdir)
    if result:
        return result
    recipe = config.recipe
    fits = len(recipe.lower) == 2 and 0 <= min(recipe.lower) <= max(recipe.lower) <= recipe.upper <= 1
    if recipe.iterations < 1 or config.grid or not fits:
        raise ConfigError(
            f"recipe.iterations={recipe.iterations} must be at least 1, lower={recipe.lower} (two bounds) and"
            f" upper={recipe.upper} in order and within 0 … 1, and there must be no grid."
        )
    data = experiment.open_run(config, workdir, raw_dir, data_dir)
    if data.prepared.multi_label:
        raise ConfigError(f"self_training is for single labels, and {data.prepared.name} has several a clip.")
    whole = all_clips(config, data)
    pool = select(whole, ~np.isin(whole.id, data.parts["train"].id))
    if not len(pool.id):
        data.notes.append("train has no clip left that self-training could label")
    writer.begin(0)
    chosen, best_step, tables, trained, diverged = [], [], {}, [], {}
    time_s = {"prepare": time.perf_counter() - started_s}
    for number in range(config.replicas):
        own = config.copy_and_resolve_references().unlock()
        own.update(seed=config.seed + number, replicas=1)
        seed = Seed(own.lock(), data, whole, pool, workdir / f"seed_{own.seed}")
        lines, error = train(seed)
        if error:
            diverged[f"seed {own.seed}"] = error.mark | {"iteration": len(lines) + 1}
            left = f"its scores are of the {len(lines)} before" if lines else "it has no scores and is left out"
            data.notes.append(f"{config.row}: iteration {len(lines) + 1} of seed {own.seed} diverged ({error}): {left}")
            console.say(data.notes[-1])
        if not lines:
            chosen.append(None)
            best_step.append(0)
            continue
        best = names.task(config.task.name).best([line["valid"] for line in lines], config.select)
        fitted = iterate(seed, best)  # reads the weights of that finished iteration
        parts = {"train": "labelled", "valid": "valid", "test": "test"}
        chosen.append({name: fitted.scores(part) for name, part in parts.items()})
        tables[f"Iterations of seed {own.seed}; chosen: {best + 1}"] = {
            "header": HEADER,
            "lines": [line["trace"] for line in lines],
        }
        trained.append(experiment.training(seed.config, fitted))
        best_step += trained[-1]["best_step"]
        if len(trained) == 1 and config.run.first_layer:
            single.leave_first_layer(fitted, writer)
        for name in lines[0]["time_s"]:
            time_s[name] = time_s.get(name, 0.0) + sum(line["time_s"][name] for line in lines)
    if not trained:
        raise error
    scored = next(scores for scores in chosen if scores)
    blank = {name: evaluate.without(scores, np.ones(1, bool)) for name, scores in scored.items()}

    def scores_of(name: str) -> Outputs:
        return {key: np.concatenate([(scores or blank)[name][key] for scores in chosen]) for key in blank[name]}

    result = experiment.facts(config, data) | trained[0] | experiment.judge(config, data.parts, scores_of, writer)
    result |= {"best_step": best_step, "diverged": diverged, "tables": tables, "time_s": time_s}
    result["unlabelled"] = len(pool.id)
    return runs.close_folder(writer, workdir, result)


def all_clips(config, data: experiment.Data) -> Part:
    """The training clips without data.label_file and data.subset_weights."""
    section = config.data.copy_and_resolve_references().unlock()
    section.label_file, section.subset_weights = "", {}
    parts, *_ = make_parts(data.prepared, section.protocols[config.protocol], section)
    return parts["train"]


def train(seed: Seed) -> tuple[list[dict], NonFiniteError | None]:
    """Trains the iterations that are not finished.

    Returns:
      the result of each iteration: "valid" (config.select), "trace" (see HEADER) and "time_s". Where one diverges, the
      results before it and its error.
    """
    config, lines = seed.config, []
    for number in range(config.recipe.iterations):
        folder = seed.iteration(number)
        line = meshes.by_first(functools.partial(runs.read_result, folder))
        if line is None:
            meshes.by_first(functools.partial(choose_once, seed, number))
            try:
                line = finish(seed, number, iterate(seed, number))
            except NonFiniteError as error:
                return lines, error
        lines.append(line)
        # Only the best iteration and the newest, from which the next one starts, keep their weights.
        best = names.task(config.task.name).best([line["valid"] for line in lines], config.select)
        old = [seed.iteration(other) / "checkpoints" for other in set(range(number)) - {best}]
        meshes.by_first(lambda old=old: [shutil.rmtree(path, ignore_errors=True) for path in old])
    return lines, None


def lower_bound(recipe, number: int) -> float:
    """Lower bound of the probabilities in iteration `number`, from 1."""
    return float(np.linspace(*recipe.lower, max(recipe.iterations - 1, 1))[number - 1])


def choose_once(seed: Seed, number: int) -> None:
    """Writes the label file of an iteration, unless an interrupted run has written it."""
    path = seed.iteration(number) / runs.LABELS
    if not path.exists():
        labels.write(path, choose(seed, number))


def choose(seed: Seed, number: int) -> list[dict]:
    """Rows of an iteration's label file: the clips labelled from the start, and the predictions of the iteration before
    that lie within the bounds."""
    part, classes, recipe = seed.data.parts["train"], seed.data.classes, seed.config.recipe
    first = np.unique(part.id, return_index=True)[1]
    rows = [
        {"clip": part.id[i], "label": classes[part.label[i]], "subset": part.subset[i], "weight": part.weight[i]}
        for i in first
    ]
    if number == 0 or not len(seed.pool.id):
        return rows
    path = seed.iteration(number - 1) / "predictions" / "pool.npz"
    id_N, score_NK = read_arrays(path, lambda of: (of["id"], of["score"]))
    label_N, probability_N = score_NK.argmax(1), score_NK.max(1)
    joins_N = (lower_bound(recipe, number) <= probability_N) & (probability_N <= recipe.upper)
    if recipe.agreeing:
        own = dict(zip(seed.pool.id, seed.pool.label))
        joins_N &= label_N == [own[clip] for clip in id_N]
    for i in np.flatnonzero(joins_N):
        chosen = {"clip": id_N[i], "label": classes[label_N[i]], "subset": PSEUDO, "weight": 1.0}
        rows.append(chosen | {"probability": f"{probability_N[i]:.6f}", "iteration": number + 1})
    return rows


def iterate(seed: Seed, number: int) -> experiment.Fitted:
    """Trains an iteration on its label file, from its newest checkpoint or the weights of the iteration before."""
    folder, config = seed.iteration(number), seed.config
    table = labels.read(folder / runs.LABELS, seed.data.classes)
    part, _ = relabel(seed.whole, table, seed.data.classes, folder / runs.LABELS)
    parts = {"train": part, "labelled": seed.data.parts["train"]}
    parts |= {name: seed.data.parts[name] for name in ("valid", "test")}
    parts |= {"pool": seed.pool} if len(seed.pool.id) else {}
    console.say(f"{config.row}, seed {config.seed}, iteration {number + 1}: {len(table):,} clips")
    start_from = seed.iteration(number - 1) if number and config.recipe.warm_start else None
    writer = runs.open_writer(config, folder)
    return experiment.fit(config, seed.data._replace(parts=parts), folder, writer, start_from)


def finish(seed: Seed, number: int, fitted: experiment.Fitted) -> dict:
    """Writes and returns the result.json of an iteration. Also writes its predictions of the pool."""
    config, trainer = seed.config, fitted.trainer
    writer = runs.open_writer(config, seed.iteration(number))
    summary = {name: trainer.evaluator.report(name, fitted.scores(name)).summary for name in ("train", "valid")}
    if len(seed.pool.id):
        first, score_MK = clips(seed.pool, fitted.scores("pool"))
        writer.predictions("pool", select(seed.pool, first), score_MK[None])
    accuracy = lambda name: f"{summary[name].get('accuracy_group', summary[name]['accuracy'])[0]:.4f}"
    id_N = fitted.data.parts["train"].id
    epoch = trainer.best_steps(fitted.best)[0] * config.batch_size / len(id_N)
    trace = [
        number + 1,
        f"{epoch:.3g}",
        f"{len(np.unique(id_N)):,}",
        accuracy("train"),
        accuracy("valid"),
        f"{lower_bound(config.recipe, number):.3f}" if number else "",
    ]
    line = {"valid": summary["valid"][config.select][0], "trace": list(map(str, trace)), "time_s": trainer.time_s}
    writer.result(line)
    return line
