"""A pass over a split: the scores of every example, in the order of its part."""

from typing import Any, NamedTuple

import jax
import numpy as np

from audiojax import mesh as meshes
from audiojax import metrics
from audiojax.data import order


class Scores(NamedTuple):
    """score: float32 [replicas, N, classes], probabilities. loss: float32 [replicas, N]."""

    score: np.ndarray
    loss: np.ndarray


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

    def by_class(self, name: str, scores: Scores) -> list[dict[str, np.ndarray]]:
        """What each class scores, a dictionary a replica."""
        return [metrics.by_class(score, self._parts[name].label) for score in scores.score]

    def summary(self, name: str, scores: Scores, by_class: list[dict[str, np.ndarray]]) -> dict[str, list[float]]:
        """Every scalar metric as a list over replicas."""
        label = self._parts[name].label
        each = [metrics.summary(score, label, loss, classes) for score, loss, classes in zip(*scores, by_class)]
        return {metric: [values[metric] for values in each] for metric in each[0]}
