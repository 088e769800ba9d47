"""Runs a task's `eval_step` over a split, and reports the task's metrics for every replica."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from audiojax import mesh as meshes
from audiojax.data import order
from audiojax.data.windows import Part

Outputs = dict[str, np.ndarray]  # what `eval_step` returns, for all replicas and examples: [replicas, N, ...] each


class Report(NamedTuple):
    """Metrics of a part.

    summary: each metric as a list over replicas. by_class: scores of each class, one dictionary a replica.
    """

    summary: dict[str, list[float]]
    by_class: list[dict[str, np.ndarray]]


def report(task, part: Part, outputs: Outputs) -> Report:
    """The metrics that the task reports for these outputs; NaN for a replica without scores."""
    each = [task.report(part, own) for own in by_replica(outputs)]
    known_R = has_scores(outputs)
    value = lambda replica, metric: each[replica][0][metric] if known_R[replica] else np.nan
    summary = {metric: [value(replica, metric) for replica in range(len(each))] for metric in each[0][0]}
    return Report(summary, [by_class for _, by_class in each])


def intervals(task, part: Part, outputs: Outputs) -> dict[str, list[list[float]]]:
    """The 95 % confidence intervals that the task reports, [low, high] a replica; NaN for a replica without scores."""
    each = [task.intervals(part, own) for own in by_replica(outputs)]
    known_R = has_scores(outputs)
    return {
        metric: [own[metric] if known else [np.nan, np.nan] for own, known in zip(each, known_R)] for metric in each[0]
    }


def by_replica(outputs: Outputs) -> list[Outputs]:
    """The outputs [N, ...] of each replica."""
    return [{name: values[replica] for name, values in outputs.items()} for replica in range(len(outputs["loss"]))]


def has_scores(outputs: Outputs) -> np.ndarray:
    """Which replicas have a loss, and probabilities where the task gives any, for every example: bool [replicas]."""
    known = [~np.isnan(outputs[name]) for name in ("loss", "score") if name in outputs]
    return np.all([values.reshape(len(values), -1).all(1) for values in known], 0)


def without(outputs: Outputs, missing_R: np.ndarray) -> Outputs:
    """The outputs with NaN for the losses and probabilities of the replicas in missing_R, bool [replicas]."""
    blank = lambda values: np.where(missing_R.reshape(-1, *[1] * (values.ndim - 1)), np.nan, values)
    return outputs | {name: blank(outputs[name]) for name in ("loss", "score") if name in outputs}


class Evaluator:
    """Evaluates parts of one data set with one task. Every example counts once, whatever the batch size."""

    def __init__(self, task, source, parts: dict[str, Part], mesh: jax.sharding.Mesh, batch_size: int, replicas: int):
        shards = mesh.shape["data"]
        self._batch_size = -(-batch_size // shards) * shards
        self._task, self._source, self._parts, self._mesh, self._replicas = task, source, parts, mesh, replicas
        # Gathering a batch depends on the size of a part. In a program of its own, the rest is compiled once.
        self._take = jax.jit(source.take, out_shardings=jax.sharding.NamedSharding(mesh, meshes.EVALUATION))
        self._eval_step = self._compiled(task.eval_step)

    def scores(self, name: str, params: Any, model_state: Any) -> Outputs:
        """The outputs of part `name`. The weights have a leading replica axis."""
        return self._over(name, self._eval_step, params, model_state, np.arange(len(self._parts[name].id)))

    def outputs(self, name: str, function: Callable, best, chosen: np.ndarray) -> Outputs:
        """The outputs of a function in place of `eval_step`, for the examples `chosen` (indices) of part `name`.

        function: of (params, model_state, batch); returns a dictionary of arrays [B, ...]. best: has params and
        model_state, with a leading replica axis.
        """
        return self._over(name, self._compiled(function), best.params, best.model_state, chosen)

    def report(self, name: str, outputs: Outputs) -> Report:
        """The metrics of part `name`."""
        return report(self._task, self._parts[name], outputs)

    def _compiled(self, function: Callable) -> Callable:
        def call(params, model_state, batch):
            one = lambda params, model_state: function(params, model_state, batch)
            with jax.sharding.use_abstract_mesh(self._mesh.abstract_mesh):  # Layers read it.
                return meshes.over_replicas(one, self._replicas)(params, model_state)

        return jax.jit(call, out_shardings=jax.sharding.NamedSharding(self._mesh, meshes.REPLICATED))

    def _over(self, name: str, call: Callable, params: Any, model_state: Any, chosen: np.ndarray) -> Outputs:
        rows = order.evaluation_rows(len(chosen), self._batch_size)
        data = self._source.data(name)
        feed = self._source.feed(name, range(len(rows)), lambda call: chosen[rows[call]], meshes.EVALUATION)
        outputs, pending = [], None
        for x in feed:
            # A batch is read after the next one is dispatched: the device never waits, and holds two batches at most.
            dispatched = call(params, model_state, self._take(data, x))
            outputs += [jax.device_get(pending)] if pending else []
            pending = dispatched
        outputs.append(jax.device_get(pending))
        # The last batch is padded: its surplus is cut off.
        return {
            field: np.concatenate([output[field] for output in outputs], 1)[:, : len(chosen)] for field in outputs[0]
        }
