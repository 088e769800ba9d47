"""A pass over a split: the scores of every example, in the order of its part."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from audiojax import losses, metrics
from audiojax import mesh as meshes
from audiojax.data import order
from audiojax.data.windows import Part


class Scores(NamedTuple):
    """score: float32 [replicas, N, classes], probabilities; None where a task has none. loss: float32 [replicas, N].

    Of a GAN, None for other tasks: fooled, bool [replicas, N], whether what it generates beside an example is taken for
    real; real and generated, float32 [replicas, N, pieces, D], embeddings of both.
    """

    score: np.ndarray | None
    loss: np.ndarray
    fooled: np.ndarray | None = None
    real: np.ndarray | None = None
    generated: np.ndarray | None = None


def ensemble(scores: Scores, loss: str, label: np.ndarray) -> Scores:
    """The replicas as one: the mean of their probabilities. loss: its name. label: as a part has it."""
    score_NK = scores.score.mean(0)
    return Scores(score_NK[None], losses.of_probabilities(loss, score_NK, label)[None])


def without(scores: Scores, missing_R: np.ndarray) -> Scores:
    """The scores with NaN for the losses and probabilities of some replicas, bool [replicas], that have none."""
    if not missing_R.any():
        return scores
    score, loss = (None if values is None else values.copy() for values in (scores.score, scores.loss))
    for values in (score, loss):
        if values is not None:
            values[missing_R] = np.nan
    return scores._replace(score=score, loss=loss)


def has_scores(scores: Scores) -> np.ndarray:
    """Which replicas have a loss and probabilities, if any are there, for every example: bool [replicas]."""
    has_loss = ~np.isnan(scores.loss).any(1)
    return has_loss if scores.score is None else has_loss & ~np.isnan(scores.score).any((1, 2))


def of_replicas(scores: Scores, chosen: np.ndarray) -> Scores:
    """The scores of the replicas at `chosen`, a mask or indices."""
    return Scores(*(None if values is None else values[chosen] for values in scores))


class Evaluator:
    """Scores parts of one data set with one task; every example counts once, whatever the batch size."""

    def __init__(self, task, source, parts, mesh: jax.sharding.Mesh, batch_size: int, replicas: int):
        shards = mesh.shape["data"]
        self._batch_size = -(-batch_size // shards) * shards
        self._source, self._parts, self._mesh, self._replicas = source, parts, mesh, replicas
        # In a program of its own, since it depends on a part's size: what follows is compiled once for all parts.
        self._take = jax.jit(source.take, out_shardings=jax.sharding.NamedSharding(mesh, meshes.EVALUATION))
        self._eval_step = self._compiled(task.eval_step)

    def scores(self, name: str, params: Any, model_state: Any) -> Scores:
        """Scores part `name` with weights that have a leading replica axis."""
        outputs = self._over(name, self._eval_step, params, model_state, np.arange(len(self._parts[name].id)))
        return Scores(**{"score": None} | outputs)

    def outputs(self, name: str, function: Callable, best, chosen: np.ndarray) -> dict[str, np.ndarray]:
        """What `function` of (params, model_state, batch) gives for the examples `chosen` of part `name`.

        best: has params and model_state, with a leading replica axis. The function returns a dict of arrays [B, ...],
        this one a dict of arrays [replicas, chosen, ...].
        """
        return self._over(name, self._compiled(function), best.params, best.model_state, chosen)

    def _compiled(self, function: Callable) -> Callable:
        def call(params, model_state, batch):
            one = lambda params, model_state: function(params, model_state, batch)
            with jax.sharding.use_abstract_mesh(self._mesh.abstract_mesh):  # Layers ask for it.
                return meshes.over_replicas(one, self._replicas)(params, model_state)

        return jax.jit(call, out_shardings=jax.sharding.NamedSharding(self._mesh, meshes.REPLICATED))

    def _over(self, name: str, call: Callable, params: Any, model_state: Any, chosen: np.ndarray) -> dict:
        rows = order.evaluation_rows(len(chosen), self._batch_size)
        data = self._source.data(name)
        feed = self._source.feed(name, range(len(rows)), lambda call: chosen[rows[call]], meshes.EVALUATION)
        outputs, pending = [], None
        for x in feed:
            # Read one behind: the device never waits, and no more than two batches are held.
            dispatched = call(params, model_state, self._take(data, x))
            outputs += [jax.device_get(pending)] if pending else []
            pending = dispatched
        outputs.append(jax.device_get(pending))
        # The last batch is padded; its surplus is cut off here.
        return {
            field: np.concatenate([output[field] for output in outputs], 1)[:, : len(chosen)] for field in outputs[0]
        }

    def report(self, name: str, scores: Scores) -> "Report":
        """What the scores of a part amount to."""
        return report(self._parts[name], scores)


class Report(NamedTuple):
    """Metrics of a part, each a list over replicas.

    summary: scalar metrics of its windows; where clips have several, also of the clips, with the suffix `_group`.
    by_class: what each class scores, one dictionary a replica; of the clips where these have several windows.
    """

    summary: dict[str, list[float]]
    by_class: list[dict[str, np.ndarray]]


def report(part: Part, scores: Scores) -> Report:
    """Scores of a part's windows, and of its clips by the mean of their windows' probabilities; without probabilities
    the mean loss, of a GAN also how far what it generates lies from the part. NaN for a replica without scores."""
    known_R = has_scores(scores)
    blank = lambda summary: {name: np.where(known_R, values, np.nan).tolist() for name, values in summary.items()}
    if scores.score is None:
        summary = {"loss": scores.loss.mean(1, dtype=np.float64).tolist()}
        if scores.generated is not None:
            summary["fooled"] = scores.fooled.mean(1).tolist()
            summary["frechet"] = [metrics.frechet(*both) for both in zip(scores.real, scores.generated)]
        return Report(blank(summary), [{} for _ in scores.loss])
    summaries, classes = [], []
    for score_NK, loss_N in zip(scores.score, scores.loss):
        by_class = metrics.by_class(score_NK, part.label)
        summary = metrics.summary(score_NK, part.label, loss_N, by_class)
        if pooled := metrics.pool(part.id, score_NK, loss_N):
            first, score_MK, loss_M = pooled
            by_class = metrics.by_class(score_MK, part.label[first])
            clips = metrics.summary(score_MK, part.label[first], loss_M, by_class)
            summary |= {f"{metric}_group": value for metric, value in clips.items()}
        summaries.append(summary)
        classes.append(by_class)
    return Report(blank({metric: [summary[metric] for summary in summaries] for metric in summaries[0]}), classes)


def clips(part: Part, scores: Scores) -> tuple[np.ndarray, np.ndarray]:
    """Of the first replica: a row of each clip, and the mean of its windows' probabilities [clips, classes]."""
    pooled = metrics.pool(part.id, scores.score[0], scores.loss[0])
    return pooled[:2] if pooled else (np.arange(len(part.id)), scores.score[0])


def select(scores: Scores, chosen: np.ndarray) -> Scores:
    """The scores of the examples at `chosen`, a mask or indices."""
    return Scores(*(None if values is None else values[:, chosen] for values in scores))


def intervals(part: Part, scores: Scores) -> dict[str, list[list[float]]]:
    """95 % confidence intervals of the metrics that are means over examples, [low, high] a replica.

    Groups are drawn, never single windows or clips: those of one group stand or fall together. NaN for a replica that
    has no scores.
    """
    each, known_R = [], has_scores(scores)
    for replica, loss_N in enumerate(scores.loss):
        score_NK = None if scores.score is None else scores.score[replica]
        found = metrics.intervals(score_NK, part.label, loss_N, part.group)
        if score_NK is not None and (pooled := metrics.pool(part.id, score_NK, loss_N)):
            first, score_MK, loss_M = pooled
            clips = metrics.intervals(score_MK, part.label[first], loss_M, part.group[first])
            found |= {f"{metric}_group": value for metric, value in clips.items()}
        each.append(found if known_R[replica] else dict.fromkeys(found, [np.nan, np.nan]))
    return {metric: [found[metric] for found in each] for metric in each[0]}
