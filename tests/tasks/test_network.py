"""What all tasks share: the direction of metrics, and sentences for what cannot be built."""

import math

import jax
import numpy as np
import pytest

from audiojax import names
from audiojax.errors import ConfigError
from audiojax.tasks import gan, network, supervised
from audiojax.tasks.network import Network
from tests.conftest import config_of


@pytest.mark.parametrize("name", names.modules("tasks"))
def test_every_task_knows_the_loss_and_the_direction_of_its_metrics(name):
    task = names.task(name)
    assert task.sign("loss") == -1 and set(task.METRICS.values()) <= {1, -1}
    with pytest.raises(ConfigError, match="select='precision' is unknown; known: .*loss"):
        task.sign("precision")


def test_the_best_of_a_loss_is_the_lowest_and_of_an_accuracy_the_highest():
    values = [0.3, None, math.nan, 0.1, 0.9]
    assert Network.best(values, "loss") == 3
    assert supervised.Task.best(values, "accuracy_group") == 4 and supervised.Task.best(values, "loss_group") == 3
    assert gan.Task.best([math.inf, 2.0], "frechet") == 1


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (dict(dtype="float64"), "dtype='float64' is unknown; it must be float32 or bfloat16."),
        (dict(model__hiden=(8,)), "model mlp: .*unexpected keyword argument 'hiden'"),
    ],
)
def test_a_network_that_cannot_be_built_is_a_sentence(overrides, sentence):
    with pytest.raises(ConfigError, match=sentence):
        network.build_model(config_of("li_audioset", "fc2", **overrides), np.zeros(5))


def test_augmentations_are_applied_in_turn_and_their_number_may_be_zero():
    x, label = np.arange(6, dtype=np.int16).reshape(1, 6), np.array([1])
    same, _ = network.augmenter("augment.waveform", ())(jax.random.key(0), x, label)
    assert same is x
    roll = {"name": "roll", "steps": 2, "stride": 1}
    moved, _ = network.augmenter("augment.waveform", (roll, roll))(jax.random.key(1), x, label)
    assert sorted(np.asarray(moved[0] * 32768)) == list(range(6))
