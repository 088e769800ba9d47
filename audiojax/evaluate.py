"""A pass over a split: the scores of every example, in the order of its part."""

from typing import Any, NamedTuple

import jax
import numpy as np

from audiojax import losses, metrics
from audiojax import mesh as meshes
from audiojax.data import order
from audiojax.data.splits import Part


class Scores(NamedTuple):
    """score: float32 [replicas, N, classes], probabilities. loss: float32 [replicas, N]."""

    score: np.ndarray
    loss: np.ndarray


def ensemble(scores: Scores, loss: str, label: np.ndarray) -> Scores:
    """The replicas as one: the mean of their probabilities. loss: its name. label: as a part has it."""
    score_NK = scores.score.mean(0)
    return Scores(score_NK[None], losses.of_probabilities(loss, score_NK, label)[None])


class Evaluator:
    """Scores parts of one data set with one task; every example counts once, whatever the batch size."""

    def __init__(self, task, source, parts, mesh: jax.sharding.Mesh, batch_size: int, replicas: int):
        shards = mesh.shape["data"]
        self._batch_size = -(-batch_size // shards) * shards
        self._source, self._parts, self._mesh = source, parts, mesh

        def call(params, model_state, data, x):
            batch = source.take(data, x)
            one = lambda params, model_state: task.eval_step(params, model_state, batch)
            return meshes.over_replicas(one, replicas)(params, model_state)

        everywhere = jax.sharding.NamedSharding(mesh, meshes.REPLICATED)
        self._call = jax.jit(call, out_shardings=everywhere)

    def scores(self, name: str, params: Any, model_state: Any) -> Scores:
        """Scores part `name` with weights that have a leading replica axis."""
        examples = len(self._parts[name].id)
        rows = order.evaluation_rows(examples, self._batch_size)
        data = self._source.data(name)
        feed = self._source.feed(name, range(len(rows)), lambda call: rows[call], meshes.EVALUATION)
        outputs = [self._call(params, model_state, data, x) for x in feed]
        # The last batch is padded; its surplus is cut off here.
        joined = (np.concatenate([np.asarray(output[field]) for output in outputs], 1) for field in Scores._fields)
        return Scores(*(field[:, :examples] for field in joined))

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
    """Scores of a part's windows, and of its clips by the mean of their windows' probabilities."""
    summaries, classes = [], []
    for score_NK, loss_N in zip(*scores):
        by_class = metrics.by_class(score_NK, part.label)
        summary = metrics.summary(score_NK, part.label, loss_N, by_class)
        if pooled := metrics.pool(part.id, score_NK, loss_N):
            first, score_MK, loss_M = pooled
            by_class = metrics.by_class(score_MK, part.label[first])
            clips = metrics.summary(score_MK, part.label[first], loss_M, by_class)
            summary |= {f"{metric}_group": value for metric, value in clips.items()}
        summaries.append(summary)
        classes.append(by_class)
    return Report({metric: [summary[metric] for summary in summaries] for metric in summaries[0]}, classes)


def intervals(part: Part, scores: Scores) -> dict[str, list[list[float]]]:
    """95 % confidence intervals of the metrics that are means over examples, [low, high] a replica.

    Groups are drawn, never single windows or clips: those of one group stand or fall together.
    """
    each = []
    for score_NK, loss_N in zip(*scores):
        found = metrics.intervals(score_NK, part.label, loss_N, part.group)
        if pooled := metrics.pool(part.id, score_NK, loss_N):
            first, score_MK, loss_M = pooled
            clips = metrics.intervals(score_MK, part.label[first], loss_M, part.group[first])
            found |= {f"{metric}_group": value for metric, value in clips.items()}
        each.append(found)
    return {metric: [found[metric] for found in each] for metric in each[0]}
