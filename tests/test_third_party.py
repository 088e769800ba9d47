"""The twins in other frameworks compute what our networks compute, with our weights."""

import functools
import importlib
import importlib.util
import math
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor

import jax
import numpy as np
import optax
import pytest

from audiojax import names
from audiojax.losses import sigmoid_cross_entropy
from audiojax.tasks.autoencoder import squared_error
from audiojax.tasks.network import build_model
from tests.conftest import config_of
from tests.models.test_models import CLIPS, STUDIES, TRAINED
from tests.models.test_models import network as network_of

pytestmark = pytest.mark.slow
needs_torch = pytest.mark.skipif(
    not importlib.util.find_spec("torch"), reason="PyTorch, of the extra `peers`, is not installed"
)
needs_keras = pytest.mark.skipif(
    not importlib.util.find_spec("keras"), reason="Keras, of the extra `peers`, is not installed"
)

STAGES_1D = (("standardise",), ("conv", 6, 3, 2), ("pool", 2), ("recurrent", 3), ("dropout", 0.5), ("dense", 7))
IMAGE = (("image",), ("conv", 4, 3, 1), ("pool", 2))
STAGES_VGG = (("conv", 4, 3, 2, "leaky_relu"), ("pool", 2), ("dense", 6, "selu"))
STAGES_2D = (*IMAGE, ("conv", 5, 3, 2), ("dense", 6))
STAGES_RCNN = (*IMAGE, ("sequence",), ("recurrent", 3), ("average",))
NETWORKS = {
    "fc2": (config_of("li_audioset", "fc2", model__hidden=(9,)), (10, 12)),
    "lstm": (config_of("li_audioset", "lstm", model__lstm=(8, 6), model__dense=(9, 5)), (10, 12)),
    "gcnn": (
        config_of("li_audioset", "gcnn", model__gated=(8, 6), model__filters=(7, 5), model__recurrent=(4, 3)),
        (10, 12),
    ),
    "optimised": (config_of("rit_nsynth", "optimised"), (60, 1)),
    "simple": (config_of("rit_nsynth", "simple"), (60, 1)),
    "1d": (config_of("fagan_gtzan", "rcnn1d_fc", model__stages=STAGES_1D), (41, 12)),
    "1d gru": (config_of("fagan_gtzan", "rcnn1d_fc", model__stages=STAGES_1D, model__cell="gru"), (41, 12)),
    "2d": (config_of("fagan_gtzan", "rcnn2d", model__stages=STAGES_2D), (21, 14)),
    "vgg": (config_of("ntu_freesound", "vgg_small", model__stages=STAGES_VGG), (21, 14, 1)),
    "autoencoder": (config_of("ntu_freesound", "autoencoder", model__filters=(4, 5), model__latent=7), (21, 14, 1)),
    "2d to sequence": (config_of("fagan_gtzan", "rcnn2d", model__stages=STAGES_RCNN), (21, 14)),
    "decision": (config_of("beyond_audioset", "decision_level", model__hidden=(8, 7, 6)), (10, 12)),
    "multi": (config_of("beyond_audioset", "multi_level", model__hidden=(8, 7, 6)), (10, 12)),
    "heads": (
        config_of(
            "beyond_audioset",
            "multi_level",
            model__pooling="heads",
            model__heads=3,
            model__hidden=(8, 7),
            model__levels=(1, 2),
            model__statistics=True,
            model__dense=(9, 6),
        ),
        (10, 12),
    ),
}


# Those of GANs have a file of their own, and none in Keras.
ONE_NETWORK = [(study, row) for study, row in TRAINED if config_of(study, row).task.name != "gan"]


@functools.cache
def case(network: str) -> tuple[dict, tuple[int, ...], dict, np.ndarray, np.ndarray]:
    """Model section, shape of the features, variables, features and our logits (of an autoencoder its outputs)."""
    config, shape = NETWORKS[network]
    model = network_of(config, 5)
    x = np.array(jax.random.normal(jax.random.key(0), (4, *shape)))
    shapes = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(1), x)
    rng = np.random.default_rng(0)
    # Drawn, because biases and batch statistics of a new network are zeros and ones.
    params = jax.tree.map(lambda v: 0.3 * rng.standard_normal(v.shape, np.float32), shapes["params"])
    stats = jax.tree.map(lambda v: rng.uniform(0.5, 1.5, v.shape).astype(np.float32), shapes.get("batch_stats", {}))
    variables = {"params": params, "batch_stats": stats}
    return (
        config.model.to_dict(),
        shape,
        variables,
        x,
        together(jax.jit(functools.partial(model.apply, train=False))(variables, x)),
    )


def outputs_of(twin, x: np.ndarray) -> np.ndarray:
    """What a network of PyTorch makes of x, as `together` has it."""
    import torch

    outputs = twin(torch.from_numpy(x))
    return together(tuple(o.numpy() for o in outputs) if isinstance(outputs, tuple) else outputs.numpy())


def together(outputs) -> np.ndarray:
    """A network's output, or all of them flattened: [B, ...]."""
    if not isinstance(outputs, (tuple, list)):
        return np.array(outputs)
    return np.concatenate([np.array(output).reshape(len(output), -1) for output in outputs], axis=1)


def features_of(study: str, row: str) -> tuple[dict, tuple[int, ...], int]:
    """Model section, shape of the features and number of classes of a study's row."""
    config, (clip, classes) = config_of(study, row), CLIPS[study]
    features = names.function("frontend", "frontend", config.frontend)
    shape = jax.eval_shape(features, clip, np.array([clip.shape[1]])).shape[1:]
    return config.model.to_dict(), shape, classes


@needs_torch
@pytest.mark.parametrize("network", NETWORKS)
def test_pytorch_twin_gives_our_logits(network):
    import torch

    from third_party import pytorch

    model, shape, variables, x, ours = case(network)
    twin = pytorch.build(model, shape, 5)
    pytorch.load(twin, **variables)
    with torch.no_grad():
        theirs = outputs_of(twin.eval(), x)
    np.testing.assert_allclose(ours, theirs, rtol=2e-4, atol=2e-4)


@needs_torch
@pytest.mark.parametrize(
    ("row", "shape", "generator", "discriminator"),
    [
        (
            *("gan_cnn", (1003, 1), (("steps", 8), ("conv", 7, 3, 4), ("conv", 5, 3, 2), ("conv", 3, 4))),
            (("conv", 4, 12, 4), ("conv", 6, 12, 4)),
        ),
        ("gan_fcn", (57, 2), (("dense", 9), ("dense", 11)), (("dense", 9), ("dense", 7))),
        ("gan_fcn_4s_sigmoid", (57, 2), (("dense", 9),), (("dense", 7),)),
    ],
)
def test_pytorch_twins_of_gans_generate_and_judge_alike(row, shape, generator, discriminator):
    import torch

    from third_party import pytorch_cgan

    stages = dict(model__generator_stages=generator, model__discriminator_stages=discriminator)
    config = config_of("wang_gtzan", row, **stages)
    model, rng = build_model(config, classes=3), np.random.default_rng(0)
    x, noise = (rng.standard_normal(size, np.float32) for size in ((4, *shape), (4, config.model.latent)))
    label = np.array([0, 2, 1, 1])
    shapes = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), x, label)["params"]
    params = jax.tree.map(lambda v: 0.3 * rng.standard_normal(v.shape, np.float32), shapes)
    ours = model.apply({"params": params}, noise, label, shape, False, method="generate")
    logits = model.apply({"params": params}, x, label, False, method="discriminate")
    make, judge = pytorch_cgan.build(config.model.to_dict(), shape, 3)
    pytorch_cgan.load(make, judge, params)
    hot = torch.eye(3)[torch.from_numpy(label)]
    with torch.no_grad():
        theirs = make(torch.from_numpy(noise), hot).transpose(1, 2).numpy()
        their_logits = judge(torch.from_numpy(x).transpose(1, 2), hot).numpy()
    np.testing.assert_allclose(ours, theirs, rtol=2e-4, atol=2e-5)
    np.testing.assert_allclose(logits, their_logits, rtol=2e-4, atol=2e-5)


def our_step(network: str, label: np.ndarray, loss_of) -> np.ndarray:
    """Our outputs after a step of Adam on the mean of loss_of(outputs, label)."""
    config, (_, _, variables, x, _) = NETWORKS[network][0], case(network)
    model = network_of(config, 5)
    apply = lambda params: model.apply(variables | {"params": params}, x, train=False)
    optimiser = optax.adam(0.01)

    @jax.jit
    def step(params):
        gradient = jax.grad(lambda params: loss_of(apply(params), label).mean())(params)
        return apply(optax.apply_updates(params, optimiser.update(gradient, optimiser.init(params))[0]))

    return together(step(variables["params"]))


LABEL = (np.random.default_rng(1).random((4, 5)) < 0.4).astype(np.float32)


@needs_torch
@pytest.mark.parametrize("network", ["fc2", "2d", "autoencoder"])  # Recurrent layers' second bias there learns too.
def test_pytorch_twin_trains_as_ours(network):
    import torch

    from third_party import pytorch

    model, shape, variables, x, _ = case(network)
    loss, loss_of, label = "sigmoid_cross_entropy", sigmoid_cross_entropy.value, LABEL
    if network == "autoencoder":
        loss, loss_of, label = "mean_squared_error", lambda outputs, x: squared_error(x, outputs[1]), x
    twin = pytorch.build(model, shape, 5).eval()  # without dropout and with the statistics that it has
    pytorch.load(twin, **variables)
    pytorch.trainer(twin, loss, 0.01)(torch.from_numpy(x), torch.from_numpy(label))
    with torch.no_grad():
        theirs = outputs_of(twin, x)
    np.testing.assert_allclose(our_step(network, label, loss_of), theirs, rtol=2e-3, atol=2e-3)


@needs_torch
@pytest.mark.parametrize(("study", "row"), ONE_NETWORK)
def test_pytorch_twin_of_every_row_has_its_parameters(study, row):
    import torch

    from third_party import pytorch

    with torch.device("meta"):
        twin = pytorch.build(*features_of(study, row))
    # PyTorch's recurrent layers have a second bias, of which ours have no part (LSTM).
    second = sum(math.prod(p.shape) for name, p in twin.named_parameters() if "bias_hh" in name)
    stated = STUDIES[study].ROWS[row]["parameters"]
    assert sum(math.prod(p.shape) for p in twin.parameters()) - second == stated


def in_keras(backend: str, cases: list[tuple], rows: list[tuple]) -> tuple[list[np.ndarray], list[int]]:
    """In a process of its own, for Keras has one back end a process: logits of the cases, parameters of the rows."""
    os.environ["KERAS_BACKEND"] = backend
    from third_party import keras

    logits = []
    for model, shape, variables, x, _ in cases:
        twin = keras.build(model, shape, 5)
        keras.load(twin, **variables)
        # Called as it is, it would be compiled operation by operation in JAX; TensorFlow needs longer to trace it.
        logits.append(together(twin(x) if backend == "tensorflow" else twin.predict(x, verbose=0)))
    counts = [sum(math.prod(w.shape) for w in keras.build(*row).trainable_weights) for row in rows]
    return logits, counts


@needs_keras
@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_keras_twins_give_our_logits_and_have_our_parameters(backend):
    # What a back end decides is in these; TensorFlow's, the faster to start, has all networks and all rows.
    networks = list(NETWORKS) if backend == "tensorflow" else ["gcnn", "1d gru", "2d", "multi"]
    cases = [case(network) for network in networks]
    rows = [features_of(*row) for row in ONE_NETWORK] if backend == "tensorflow" else []
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        logits, counts = process.submit(in_keras, backend, cases, rows).result()
    for network, (*_, ours), theirs in zip(networks, cases, logits):
        np.testing.assert_allclose(ours, theirs, rtol=2e-4, atol=2e-4, err_msg=network)
    assert counts == [STUDIES[study].ROWS[row]["parameters"] for study, row in ONE_NETWORK][: len(counts)]
