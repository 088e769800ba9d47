"""One step of each network: golden numbers, evaluation, the first layer, metrics and errors."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.special

from audiojax import losses
from audiojax.data.windows import Part
from audiojax.errors import ConfigError
from audiojax.tasks.supervised import Task, outputs_of
from tests.conftest import SMALL_MASKS, config_of

# Loss and gradient norm of two steps from seed 0 on the batch below. Update them when a change to the network, the
# initialisation, the front end or the randomness is intended; never to make a refactoring pass.
GOLDEN = {
    ("li_audioset", "fc1"): [5.697172, 24.781788, 5.493047, 24.31041],
    ("li_audioset", "fc2"): [7.619306, 53.608574, 5.912828, 45.93903],
    ("li_audioset", "lstm"): [22.204086, 8.318069, 21.472, 9.946262],
    ("fagan_gtzan", "cnn1d_gap"): [2.547882, 74.805763, 3.289319, 76.553947],
    ("ntu_freesound", "cnn2d_mfcc"): [2.885915, 10.901975, 1.674618, 7.92212],
    ("rit_nsynth", "simple"): [2.486176, 4.443113, 1.504184, 2.701755],
    ("rit_nsynth", "optimised_log_mel"): [4.5682, 106.479973, 1.706504, 41.296669],
}
SMALL = {
    ("li_audioset", "lstm"): {"model__lstm": (16, 8, 4), "model__dense": (16, 8)},
    ("fagan_gtzan", "cnn1d_gap"): {
        "frontend__mels": 16,
        "frontend__hop_samples": 128,
        "augment__features": (SMALL_MASKS, {"name": "mixup", "alpha": 1.0}),
        # Adam's first step has its full length also where a gradient is mere rounding: with 1e-4 the second gradient
        # differs by a thousandth between compilations.
        "optim__lr": 1e-6,
    },
    ("ntu_freesound", "cnn2d_mfcc"): {"frontend__coefficients": 16},
    ("rit_nsynth", "simple"): {"frontend__samples": 400},
    ("rit_nsynth", "optimised_log_mel"): {"frontend__mels": 16, "frontend__frames": 10},
}


def batch_of(study, classes=10):
    rng = np.random.default_rng(0)
    if study == "li_audioset":
        label = (rng.random((4, classes)) < 0.3).astype(np.uint8)
        x = rng.integers(0, 256, (4, 10, 128)).astype(np.uint8)
        length = jnp.array([10, 10, 3, 10])
        return {"input": jnp.asarray(x), "length": length, "label": jnp.asarray(label), "weight": jnp.ones(4)}
    audio = rng.integers(-3000, 3000, (4, 8000)).astype(np.int16)
    length, label = jnp.full(4, 8000), jnp.array([0, 3, 3, 9])
    return {"input": jnp.asarray(audio), "length": length, "label": label, "weight": jnp.ones(4)}


def task_of(study, row):
    return Task(config_of(study, row, **SMALL.get((study, row), {})), np.full(10, 0.2), total_steps=10)


@pytest.mark.parametrize(("study", "row"), GOLDEN)
def test_golden_numbers_of_two_steps(study, row):
    task, batch = task_of(study, row), batch_of(study)
    state, train_step = jax.jit(task.init)(jax.random.key(0), {}, batch), jax.jit(task.train_step)
    values = []
    for step in range(2):
        state, logs = train_step(state, batch, jax.random.fold_in(jax.random.key(0), step))
        values += [float(logs["loss"]), float(logs["grad_norm"])]
    np.testing.assert_allclose(values, GOLDEN[study, row], rtol=2e-4)


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ({"model__stages": (("pool", 40),)}, "model cnn on features .16, 128.: 16 steps are left for a pool of 40"),
        ({"model__stages": (("conv", 8, 3),)}, "there is no stage"),
        ({"model__stages": (("recurrent", 4),), "model__cell": "rnn"}, "there is no cell 'rnn'; cells: lstm, gru"),
    ],
)
def test_a_network_that_does_not_fit_is_refused(overrides, sentence):
    task = Task(config_of("fagan_gtzan", "cnn1d_gap", **overrides), np.full(10, 0.2), total_steps=10)
    with pytest.raises(ConfigError, match=sentence):
        jax.eval_shape(task.init, jax.random.key(0), {}, batch_of("fagan_gtzan"))


def test_augmentations_that_move_sound_past_the_end_of_a_clip_are_refused():
    roll = ({"name": "roll", "steps": 2, "stride": 100},)
    with pytest.raises(ConfigError, match="augment.waveform: 'roll' would move sound past the end of its clip"):
        Task(config_of("ntu_freesound", "cnn2d", augment__waveform=roll), np.full(10, 0.2), total_steps=10)


def test_a_step_is_the_optimiser_on_the_gradient_of_the_mean_loss():
    """`fc1` has no dropout: its step is written out with jax.grad, matrix products and optax.adam."""
    task, batch = task_of("li_audioset", "fc1"), batch_of("li_audioset")
    state = jax.jit(task.init)(jax.random.key(0), {}, batch)
    x = -2 + 4 / 255 * batch["input"].astype(jnp.float32)
    x = x * (jnp.arange(10) < batch["length"][:, None])[..., None]
    x = (x - x.mean((0, 1))) / jnp.sqrt(x.var((0, 1)) + 1e-5)

    def loss(w, b):
        logits = x.reshape(4, -1) @ w + b
        label = batch["label"]
        return -(label * jax.nn.log_sigmoid(logits) + (1 - label) * jax.nn.log_sigmoid(-logits)).sum(1).mean()

    (layer,) = state.params.values()
    params = (layer["Dense_0"]["kernel"], layer["Dense_0"]["bias"])
    expected_loss, grads = jax.value_and_grad(loss, argnums=(0, 1))(*params)
    norm = optax.tree.norm(grads)
    grads = jax.tree.map(lambda g: g * jnp.minimum(1, 5 / norm), grads)
    updates, _ = optax.adam(1e-4).update(grads, optax.adam(1e-4).init(params))
    new_state, logs = task.train_step(state, batch, jax.random.key(1))
    assert float(logs["loss"]) == pytest.approx(float(expected_loss), rel=1e-4)
    assert float(logs["grad_norm"]) == pytest.approx(float(norm), rel=1e-3)
    (new_layer,) = new_state.params.values()
    np.testing.assert_allclose(new_layer["Dense_0"]["kernel"], params[0] + updates[0], atol=1e-6)
    assert int(new_state.step) == 1


def test_evaluation_has_neither_randomness_nor_augmentation():
    task, batch = task_of("li_audioset", "lstm"), batch_of("li_audioset")
    state = jax.jit(task.init)(jax.random.key(0), {}, batch)
    eval_step = jax.jit(task.eval_step)
    one, two = (eval_step(*task.evaluated(state), batch) for _ in range(2))
    np.testing.assert_array_equal(one["score"], two["score"])
    alone = eval_step(*task.evaluated(state), jax.tree.map(lambda a: a[2:3], batch))
    np.testing.assert_allclose(alone["score"][0], one["score"][2], rtol=1e-5)


def test_weights_and_batch_statistics_are_averaged_together():
    small = SMALL["fagan_gtzan", "cnn1d_gap"] | {"model__stages": (("conv", 4, 3, 1), ("average",))}
    task = Task(config_of("fagan_gtzan", "cnn1d_gap", **small), np.full(10, 0.2), total_steps=10)
    batch, train_step = batch_of("fagan_gtzan"), jax.jit(task.train_step)
    states = [jax.jit(task.init)(jax.random.key(0), {}, batch)]
    for step in range(2):
        states.append(train_step(states[-1], batch, jax.random.key(step))[0])
    newer = 1 / (1 + np.exp(-1))  # share of the second of two; the time constant is one step, a tenth of 10
    mean = lambda old, new: (1 - newer) * old + newer * new
    expected = jax.tree.map(mean, *((state.params, state.model_state) for state in states[1:]))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), task.evaluated(states[2]), expected)


def test_classes_compete_in_evaluation_only():
    tasks = [
        Task(config_of("li_audioset", "fc2", task__competition=share), np.full(10, 0.2), total_steps=10)
        for share in (0.0, 0.5)
    ]
    batch = batch_of("li_audioset")
    states = [
        jax.jit(task.train_step)(jax.jit(task.init)(jax.random.key(0), {}, batch), batch, jax.random.key(1))[0]
        for task in tasks
    ]
    jax.tree.map(np.testing.assert_array_equal, *(task.evaluated(state) for task, state in zip(tasks, states)))
    alone, among = (task.eval_step(*task.evaluated(state), batch) for task, state in zip(tasks, states))
    expected = losses.compete(scipy.special.logit(alone["score"]), scipy.special.logit(np.full(10, 0.2)), 0.5)
    np.testing.assert_allclose(scipy.special.logit(among["score"]), expected, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(among["loss"], losses.sigmoid_cross_entropy.value(expected, batch["label"]), rtol=1e-3)
    assert np.abs(among["score"] - alone["score"]).max() > 0.01


def test_competition_of_a_softmax_is_refused():
    with pytest.raises(ConfigError, match="task.competition must be 0 with softmax_cross_entropy"):
        Task(config_of("fagan_gtzan", "cnn1d_gap", task__competition=0.5), np.full(10, 0.2), total_steps=10)


def test_a_mistyped_activation_lists_those_that_exist():
    stages = (("conv", 4, 3, 2, "leaky_rleu"), ("average",))
    config = config_of("fagan_gtzan", "cnn1d_gap", frontend__mels=16, frontend__hop_samples=128, model__stages=stages)
    task = Task(config, np.full(10, 0.2), total_steps=10)
    with pytest.raises(ConfigError, match="there is no activation 'leaky_rleu'; activations: celu, elu, .*leaky_relu"):
        jax.eval_shape(lambda key: task.init(key, {}, batch_of("fagan_gtzan")), jax.random.key(0))


def test_the_first_layer_is_what_the_first_convolution_gives():
    config = config_of(
        *("ntu_freesound", "cnn2d"),
        **dict(frontend__height=33, frontend__width=20, run__first_layer=True),
        model__stages=(("conv", 6, 3, 2), ("conv", 4, 3, 1), ("average",)),
    )
    task, batch = Task(config, np.full(10, 0.1), total_steps=10), batch_of("ntu_freesound")
    state = jax.jit(task.init)(jax.random.key(0), {}, batch)
    response = jax.jit(task.first_layer)(*task.evaluated(state), batch)
    kernel = next(layer["kernel"] for layer in state.params.values() if layer.get("kernel", np.zeros(0)).ndim == 4)
    x = task._features(batch["input"], batch["length"])
    axes = ("NHWC", "HWIO", "NHWC")
    expected = jax.lax.conv_general_dilated(x, kernel, (2, 2), "SAME", dimension_numbers=axes)
    assert response.shape == (4, 17, 10, 6)
    np.testing.assert_allclose(response, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("study", "row"), [("li_audioset", "fc2"), ("fagan_gtzan", "cnn1d_gap")])
def test_a_first_layer_without_images_is_refused_before_training(study, row):
    config = config_of(study, row, **SMALL.get((study, row), {}), run__first_layer=True)
    task = Task(config, np.full(10, 0.1), total_steps=10)
    with pytest.raises(ConfigError, match="run.first_layer: model .* does not begin with a 2D convolution"):
        jax.eval_shape(task.init, jax.random.key(0), {}, batch_of(study))


def test_a_report_has_metrics_of_windows_and_of_clips():
    names = np.array(["a", "a", "b", "c"])
    part = Part("test", 1, names, names, names, np.array([0, 0, 1, 1]), *[np.zeros(4, int)] * 4, np.zeros((4, 16)))
    score = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.7, 0.3]])
    found, classes = Task.report(part, {"score": score, "loss": np.array([1.0, 3.0, 2.0, 2.0])})
    assert found["accuracy"] == 0.5 and found["accuracy_group"] == pytest.approx(2 / 3)
    assert found["loss"] == 2.0 and found["loss_group"] == 2.0
    assert classes["support"].tolist() == [1, 2]
    assert {name.removesuffix("_group") for name in found} == set(Task.METRICS)
    intervals = Task.intervals(part, {"score": score, "loss": np.ones(4)})
    assert intervals.keys() <= found.keys() and "accuracy_group" in intervals


def test_an_ensemble_has_the_loss_of_its_probabilities():
    label = np.array([0, 1])
    found = outputs_of("sigmoid_cross_entropy", np.array([[0.0, 1.0], [0.0, 1.0]]), label)
    assert found["score"].shape == (1, 2, 2) and found["loss"].shape == (1, 2)
    assert found["loss"][0, 0] == pytest.approx(-2 * np.log(1e-7), rel=1e-2) and 0 <= found["loss"][0, 1] < 1e-6
