"""Shapes, parameter counts and values of the networks."""

import importlib

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from audiojax import names
from audiojax.models import cnn, layers
from audiojax.tasks.network import build_model
from tests.conftest import config_of

CLIPS = {  # a batch of one as the data set stores it, and how many classes it has
    "beyond_audioset": (jnp.zeros((1, 10, 128), jnp.uint8), 527),
    "beyond_freesound": (jnp.zeros((1, 88_200), jnp.int16), 41),
    "beyond_gtzan": (jnp.zeros((1, 66_150), jnp.int16), 10),
    "fagan_gtzan": (jnp.zeros((1, 66_150), jnp.int16), 10),
    "li_fig4": (jnp.zeros((1, 10, 128), jnp.uint8), 527),
    "li_audioset": (jnp.zeros((1, 10, 128), jnp.uint8), 527),
    "ntu_freesound": (jnp.zeros((1, 88_200), jnp.int16), 41),
    "rit_nsynth": (jnp.zeros((1, 64_000), jnp.int16), 10),
    "wang_gtzan": (jnp.zeros((1, 661_500), jnp.int16), 10),
    "beyond_gtzan_gan": (jnp.zeros((1, 88_200), jnp.int16), 10),
}
STUDIES = {study: importlib.import_module(f"configs.{study}") for study in CLIPS}
TRAINED = [  # rows that have a network of their own
    (study, row) for study, module in STUDIES.items() for row in module.ROWS if "model" in module.ROWS[row]["overrides"]
]


def network(config, classes):
    """The network of a row, a classifier's with output biases of 0."""
    if config.task.name == "gan":
        return build_model(config, classes=classes - len(config.data.exclude_classes))
    return build_model(config, np.zeros(classes) if config.task.name == "supervised" else None)


def counts(config, study):
    """Parameters of each layer."""
    clip, classes = CLIPS[study]
    if study == "wang_gtzan" and config.data.segment.seconds:
        clip = clip[:, : round(config.data.segment.seconds * 22_050)]
    label = [jnp.zeros(1, jnp.int32)] if config.task.name == "gan" else []
    features = names.function("frontend", "frontend", config.frontend)
    model = network(config, classes)
    init = lambda: model.init(jax.random.key(0), features(clip, jnp.array([clip.shape[1]])), *label, train=False)
    shapes = jax.eval_shape(init)["params"]
    return {name: sum(x.size for x in jax.tree.leaves(layer)) for name, layer in shapes.items()}


@pytest.mark.parametrize(("study", "row"), TRAINED)
def test_rows_state_the_parameters_that_they_have(study, row):
    stated = STUDIES[study].ROWS[row]["parameters"]
    assert sum(counts(config_of(study, row), study).values()) == stated


def test_rit_has_the_printed_parameters_layer_by_layer():
    counts_of = lambda row: counts(config_of("rit_nsynth", row), "rit_nsynth")
    assert counts_of("simple") == {"Conv_0": 192, "Conv_1": 8256, "Logits_0": 650}
    assert counts_of("optimised") == {
        "Conv_0": 192,
        "Conv_1": 4128,
        "Conv_2": 5980,
        "Dense_0": 8_827_608,
        "Logits_0": 250,
    }


def test_li_has_the_parameters_of_its_layers():
    count = lambda row: sum(counts(config_of("li_audioset", row), "li_audioset").values())
    assert count("fc1") == 1280 * 527 + 527
    assert count("fc2") == 1281 * 1024 + 1025 * 527
    lstm = sum(4 * units * (units + inputs + 1) for inputs, units in ((128, 512), (512, 256), (256, 128)))
    assert count("lstm") == lstm + 1281 * 2048 + 2049 * 1024 + 1025 * 527


def test_gcnn_has_the_shapes_of_the_study():
    """The sheet's [N, 256, 128] between the convolutions and the recurrent layers: 256 steps of 128 features."""
    config = config_of("li_audioset", "gcnn")
    model = build_model(config, np.zeros(527))
    x = jnp.zeros((2, 10, 128))

    def outputs():
        variables = model.init(jax.random.key(0), x, train=False)
        return model.apply(variables, x, train=False, capture_intermediates=True, mutable=["intermediates"])

    logits, state = jax.eval_shape(outputs)
    shape_of = lambda name: state["intermediates"][name]["__call__"][0].shape
    assert shape_of("Conv_1") == (2, 10, 128, 128)  # 64 linear and 64 gates
    assert shape_of("BatchNorm_3") == (2, 5, 128, 256)
    assert shape_of("Bidirectional_0") == shape_of("Bidirectional_1") == (2, 256, 256)
    assert shape_of("Dense_0") == (2, 256, 527)
    assert logits.shape == (2, 527)
    with pytest.raises(ValueError, match="pools .2, 2. leave 2 of 10 steps, not one"):
        few = build_model(config_of("li_audioset", "gcnn", model__pools=(2, 2)), np.zeros(527))
        jax.eval_shape(lambda: few.init(jax.random.key(0), x, train=False))


def test_fagan_has_the_parameters_of_its_layers():
    """By hand, of the plainest row of each kind: a convolution has no bias, batch normalisation two values a filter."""
    count = lambda row: sum(counts(config_of("fagan_gtzan", row), "fagan_gtzan").values())
    conv = lambda width, inputs, filters: width * inputs * filters + 2 * filters
    cnn1d = sum(conv(3, i, f) for i, f in ((128, 128), (128, 128), (128, 256), (256, 256), (256, 512)))
    assert count("cnn1d_gap") == cnn1d + conv(1, 512, 512) + 5130
    assert count("cnn1d_fc") == cnn1d + conv(1, 4 * 512, 512) + 5130  # 130 frames, halved five times
    lstm = lambda inputs, units: 4 * units * (inputs + units + 1)
    assert count("lstm") == lstm(128, 128) + lstm(128, 128) + 259 * 128 * 10 + 10
    gru = lambda inputs, units: 3 * units * (inputs + units + 1) + units
    cells = config_of("fagan_gtzan", "lstm", model__cell="gru")
    assert sum(counts(cells, "fagan_gtzan").values()) == 2 * gru(128, 128) + 259 * 128 * 10 + 10


@pytest.mark.parametrize(
    "stages",
    [
        (("standardise",), ("conv", 4, 3, 2), ("pool", 2), ("recurrent", 3), ("dropout", 0.5), ("average",)),
        (("image",), ("conv", 4, 3, 1), ("pool", 4), ("sequence",), ("recurrent", 3), ("dense", 8)),
    ],
)
def test_every_kind_of_stage_gives_finite_logits_and_gradients(stages):
    config = config_of("fagan_gtzan", "rcnn2d", model__stages=stages)
    model = build_model(config, np.zeros(10))
    x = jax.random.normal(jax.random.key(0), (2, 40, 16))
    variables = jax.jit(model.init, static_argnames="train")(jax.random.key(1), x, train=False)

    def loss(params):
        both = {**variables, "params": params}
        rngs = {"dropout": jax.random.key(2)}
        logits = model.apply(both, x, train=True, rngs=rngs, mutable=["batch_stats"])[0]
        return (logits**2).sum(), logits

    gradient, logits = jax.jit(jax.grad(loss, has_aux=True))(variables["params"])
    assert logits.shape == (2, 10) and np.isfinite(logits).all()
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        assert np.isfinite(leaf).all() and (leaf != 0).any(), path


@pytest.mark.slow
@pytest.mark.parametrize(("steps", "stages"), [(501, 1), (130, 3)])
def test_gradients_through_pools_are_those_of_flax_in_a_compiled_network(steps, stages, monkeypatch):
    """In a whole network, where XLA may compute a pool's input twice and round it in two ways."""
    x = jax.random.normal(jax.random.key(1), (4, steps, 16))
    blocks = (("conv", 128, 3, 1), ("pool", 2)) * stages
    options = {"classes": 10, "output_bias": (0.0,) * 10, "kernel_init": "glorot_uniform", "dtype": jnp.float32}
    model = cnn.Model(stages=(*blocks, ("average",)), **options)
    variables = model.init(jax.random.key(0), x, train=False)

    def squares(params):
        logits, _ = model.apply(variables | {"params": params}, x, train=True, mutable=["batch_stats"])
        return (logits**2).sum()

    grads = jax.jit(jax.grad(squares))(variables["params"])
    monkeypatch.setattr(cnn, "max_pool", lambda x, width: flax.linen.max_pool(x, (width,), (width,)))
    expected = jax.jit(jax.grad(lambda params: squares(params)))(variables["params"])
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4 * np.abs(b).max())
    jax.tree.map(close, grads, expected)


@pytest.mark.parametrize(
    ("study", "row", "small"),
    [
        ("li_audioset", "fc2", {}),
        ("li_audioset", "lstm", {"model__lstm": (16, 8), "model__dense": (16,)}),
        ("beyond_audioset", "multi_level", {"model__hidden": (8, 8, 8), "model__dense": (16,)}),
        ("beyond_audioset", "multi_head", {"model__hidden": (8,), "model__dense": (16,)}),
        ("rit_nsynth", "simple", {}),
    ],
)
def test_bfloat16_computes_in_half_and_keeps_float32_parameters(study, row, small):
    x = jax.random.normal(jax.random.key(0), (4, 64, 1) if study == "rit_nsynth" else (4, 10, 128))
    full = build_model(config_of(study, row, **small), np.zeros(6))
    half = build_model(config_of(study, row, **small, dtype="bfloat16"), np.zeros(6))
    apply = lambda model: jax.jit(lambda variables: model.apply(variables, x, train=False))(variables)
    variables = jax.jit(lambda key: half.init(key, x, train=False))(jax.random.key(0))
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    text = str(jax.make_jaxpr(lambda v: half.apply(v, x, train=False))(variables))
    assert "bf16" in text
    np.testing.assert_allclose(apply(half), apply(full), rtol=0.1, atol=0.05)


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


@pytest.mark.parametrize(
    ("study", "row", "rtol"),
    [
        ("li_audioset", "fc1", 1e-7),
        ("li_audioset", "lstm", 1e-7),
        ("li_audioset", "gcnn", 1e-7),
        ("beyond_audioset", "decision_level", 1e-6),  # by way of probabilities
        ("beyond_audioset", "multi_level", 1e-7),
        ("fagan_gtzan", "rcnn1d_gap", 1e-7),
        ("rit_nsynth", "simple", 1e-7),
    ],
)
def test_logits_begin_at_the_prior(study, row, rtol):
    model = build_model(config_of(study, row), np.array([-1.0, -4.0]))
    x = jnp.zeros((1, 10, 128))
    logits = jax.jit(lambda: model.apply(model.init(jax.random.key(0), x, train=False), x, train=False))()
    np.testing.assert_allclose(logits, [[-1, -4]], rtol)


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ({"levels": (1, 4)}, "levels .1, 4. must be among 1 … 3, the hidden layers"),
        ({"pooling": "mean"}, "there is no pooling 'mean'; poolings: feature, heads, decision"),
        ({"pooling": "heads"}, "heads=0 must be above 0 for pooling 'heads', and 0 for the others"),
        ({"heads": 2}, "heads=2 must be above 0 for pooling 'heads', and 0 for the others"),
        ({"pooling": "decision"}, "it takes no statistics and no dense layers"),
    ],
)
def test_attention_that_cannot_be_is_said(overrides, sentence):
    model = build_model(config_of("beyond_audioset", "multi_level"), np.zeros(5)).clone(**overrides)
    with pytest.raises(ValueError, match=sentence):
        jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 10, 128)), train=False))
