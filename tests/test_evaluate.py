"""Reports over replicas, and a pass over a split whose last batch is not full."""

import types

import jax.numpy as jnp
import numpy as np
import pytest

from audiojax import evaluate, mesh
from audiojax.data.windows import Part
from audiojax.tasks.network import Network

EXAMPLES = 7


def part_of(examples=EXAMPLES):
    number = np.arange(examples)
    names, one = number.astype(str), np.ones(examples, int)
    digest = np.zeros((examples, 16), np.uint8)
    return Part("test", 1, names, names, names, number % 2, number, number, one, one, digest)


class Scale:
    """A task whose outputs tell which example and replica they are of."""

    @staticmethod
    def eval_step(params, model_state, batch):
        return {"loss": params * batch["input"], "score": jnp.stack([batch["input"], batch["input"]], 1)}

    report, intervals = Network.report, Network.intervals


class Source:
    """Examples 0, 1, 2, … as inputs."""

    @staticmethod
    def data(name):
        return jnp.arange(float(EXAMPLES))

    @staticmethod
    def feed(name, calls, rows, sharding):
        return iter([np.asarray(rows(call)) for call in calls])

    @staticmethod
    def take(data, rows):
        return {"input": data[rows]}


@pytest.mark.parametrize("batch_size", [1, 3, 7, 20])
def test_every_example_counts_once_and_in_order(batch_size):
    devices = mesh.make_mesh(2, 1, 1)
    evaluator = evaluate.Evaluator(Scale, Source, {"test": part_of()}, devices, batch_size, replicas=2)
    outputs = evaluator.scores("test", jnp.array([1.0, 10.0]), {})
    np.testing.assert_array_equal(outputs["loss"], [np.arange(7.0), 10 * np.arange(7.0)])
    assert outputs["score"].shape == (2, EXAMPLES, 2)
    assert evaluator.report("test", outputs).summary == {"loss": [3.0, 30.0]}


def test_some_examples_by_another_function():
    evaluator = evaluate.Evaluator(Scale, Source, {"test": part_of()}, mesh.make_mesh(1, 1, 1), 2, replicas=1)
    square = lambda params, model_state, batch: {"square": params * batch["input"] ** 2}
    best = types.SimpleNamespace(params=jnp.ones(1), model_state={})
    assert evaluator.outputs("test", square, best, np.array([5, 2, 3]))["square"].tolist() == [[25.0, 4.0, 9.0]]


def test_a_replica_with_a_missing_score_has_no_metrics():
    outputs = {"loss": np.ones((3, 7), np.float32), "score": np.ones((3, 7, 2), np.float32)}
    outputs["loss"][0, 3] = outputs["score"][2, 6, 1] = np.nan
    assert evaluate.has_scores(outputs).tolist() == [False, True, False]
    np.testing.assert_array_equal(evaluate.report(Scale, part_of(), outputs).summary["loss"], [np.nan, 1.0, np.nan])
    found = evaluate.intervals(Scale, part_of(), outputs)["loss"]
    assert found[1] == [1.0, 1.0] and np.isnan([found[0], found[2]]).all()


def test_outputs_without_some_replicas():
    outputs = {"loss": np.ones((2, 7), np.float32), "fooled": np.ones((2, 7), bool)}
    blank = evaluate.without(outputs, np.array([True, False]))
    assert np.isnan(blank["loss"][0]).all() and (blank["loss"][1] == 1).all() and blank["loss"].dtype == np.float32
    assert blank["fooled"] is outputs["fooled"] and evaluate.has_scores(outputs).all()
