"""Shapes, parameter counts and values of the networks."""

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from audiojax.models import layers
from audiojax.tasks import supervised
from tests.conftest import config_of


def counts(study, row, classes, x_shape):
    model = supervised.build_model(config_of(study, row), np.zeros(classes))
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros(x_shape), train=False))["params"]
    return {name: sum(x.size for x in jax.tree.leaves(layer)) for name, layer in shapes.items()}


def test_rit_has_the_printed_parameters_layer_by_layer():
    assert counts("rit_nsynth", "simple", 10, (1, 8000, 1)) == {"Conv_0": 192, "Conv_1": 8256, "Logits_0": 650}
    assert counts("rit_nsynth", "optimised", 10, (1, 8000, 1)) == {
        "Conv_0": 192,
        "Conv_1": 4128,
        "Conv_2": 5980,
        "Dense_0": 8_827_608,
        "Logits_0": 250,
    }


def test_li_has_the_parameters_of_its_layers():
    assert sum(counts("li_audioset", "fc1", 527, (1, 10, 128)).values()) == 1280 * 527 + 527
    assert sum(counts("li_audioset", "fc2", 527, (1, 10, 128)).values()) == 1281 * 1024 + 1025 * 527
    lstm = sum(4 * units * (units + inputs + 1) for inputs, units in ((128, 512), (512, 256), (256, 128)))
    assert (
        sum(counts("li_audioset", "lstm", 527, (1, 10, 128)).values()) == lstm + 1281 * 2048 + 2049 * 1024 + 1025 * 527
    )


def test_lstm_equals_flax_lstm_cell_in_values_and_gradients():
    x = jax.random.normal(jax.random.key(1), (3, 7, 5))
    layer = layers.LSTM(4, layers.initialiser("lecun_normal"), jnp.float32)
    params = layer.init(jax.random.key(0), x)["params"]
    input_kernel, bias = params["input"]["kernel"], params["input"]["bias"]
    hidden = params["recurrent"]["hidden"]["kernel"]
    cell_params = {}
    for gate, (wi, wh, b) in zip("ifgo", zip(*(jnp.split(w, 4, -1) for w in (input_kernel, hidden, bias)))):
        cell_params[f"i{gate}"] = {"kernel": wi}
        cell_params[f"h{gate}"] = {"kernel": wh, "bias": b}
    reference = flax.linen.RNN(flax.linen.LSTMCell(4))

    ours = lambda x: layer.apply({"params": params}, x)
    theirs = lambda x: reference.apply({"params": {"cell": cell_params}}, x)
    np.testing.assert_allclose(ours(x), theirs(x), rtol=1e-5, atol=1e-6)
    gradient = lambda f: jax.grad(lambda x: (f(x) ** 2).sum())(x)
    np.testing.assert_allclose(gradient(ours), gradient(theirs), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("shape", [(2, 11, 3), (2, 11, 9, 3)])
def test_max_pool_equals_flax_and_drops_the_remainder(shape):
    x = jax.random.normal(jax.random.key(0), shape)
    window = (4,) * (len(shape) - 2)
    np.testing.assert_array_equal(layers.max_pool(x, 4), flax.linen.max_pool(x, window, strides=window))


@pytest.mark.parametrize(("study", "row"), [("li_audioset", "fc2"), ("li_audioset", "lstm"), ("rit_nsynth", "simple")])
def test_bfloat16_computes_in_half_and_keeps_float32_parameters(study, row):
    x = jax.random.normal(jax.random.key(0), (4, 10, 128) if study == "li_audioset" else (4, 64, 1))
    full = supervised.build_model(config_of(study, row), np.zeros(6))
    half = supervised.build_model(config_of(study, row, dtype="bfloat16"), np.zeros(6))
    variables = half.init(jax.random.key(0), x, train=False)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    text = str(jax.make_jaxpr(lambda v: half.apply(v, x, train=False))(variables))
    assert "bf16" in text
    np.testing.assert_allclose(
        half.apply(variables, x, train=False), full.apply(variables, x, train=False), rtol=0.1, atol=0.05
    )


def test_batch_statistics_standardise_each_feature():
    x = 5 + 3 * jax.random.normal(jax.random.key(0), (64, 10, 4))

    class Standardise(flax.linen.Module):
        @flax.linen.compact
        def __call__(self, x, train):
            return layers.standardise(x, train)

    variables = Standardise().init(jax.random.key(0), x, train=True)
    assert "params" not in variables
    y, _ = Standardise().apply(variables, x, train=True, mutable=["batch_stats"])
    np.testing.assert_allclose(y.mean((0, 1)), 0, atol=1e-5)
    np.testing.assert_allclose(y.var((0, 1)), 1, rtol=1e-3)


def test_logits_begin_at_the_prior():
    model = supervised.build_model(config_of("li_audioset", "fc1"), np.array([-1.0, -4.0]))
    x = jnp.zeros((1, 10, 128))
    logits = model.apply(model.init(jax.random.key(0), x, train=False), x, train=False)
    np.testing.assert_allclose(logits, [[-1, -4]])
