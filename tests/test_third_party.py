"""The twins in other frameworks compute what our networks compute, with our weights."""

import importlib
import math

import jax
import numpy as np
import pytest

from audiojax import frontend
from audiojax.tasks import supervised
from tests.conftest import config_of
from tests.models.test_models import CLIPS, STUDIES

torch = pytest.importorskip("torch", reason="the extra `peers` is not installed")
pytorch = importlib.import_module("third_party.pytorch")

STAGES_1D = (("standardise",), ("conv", 6, 3, 2), ("pool", 2), ("recurrent", 3), ("dropout", 0.5), ("dense", 7))
IMAGE = (("image",), ("conv", 4, 3, 1), ("pool", 2))
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
    "2d to sequence": (config_of("fagan_gtzan", "rcnn2d", model__stages=STAGES_RCNN), (21, 14)),
    "decision": (config_of("beyond_audioset", "decision_level", model__hidden=(8, 7, 6)), (10, 12)),
    "multi": (config_of("beyond_audioset", "multi_level", model__hidden=(8, 7, 6)), (10, 12)),
}


@pytest.mark.parametrize("network", NETWORKS)
def test_pytorch_twin_gives_our_logits(network):
    config, shape = NETWORKS[network]
    model = supervised.build_model(config, np.zeros(5))
    x = jax.random.normal(jax.random.key(0), (4, *shape))
    variables = jax.jit(model.init, static_argnames="train")(jax.random.key(1), x, train=False)
    drawn = lambda v: np.abs(v + 0.3 * np.random.default_rng(v.size).standard_normal(v.shape)).astype(np.float32)
    variables = jax.tree.map(drawn, variables)  # Of new networks, biases and batch statistics are zeros and ones.
    twin = pytorch.build(config.model, shape, 5)
    pytorch.load(twin, variables["params"], variables.get("batch_stats", {}))
    with torch.no_grad():
        theirs = twin.eval()(torch.from_numpy(np.array(x))).numpy()
    np.testing.assert_allclose(model.apply(variables, x, train=False), theirs, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize(("study", "row"), [(study, row) for study in STUDIES for row in STUDIES[study].ROWS])
def test_pytorch_twin_of_every_row_has_its_parameters(study, row):
    config, (clip, classes) = config_of(study, row), CLIPS[study]
    features = supervised.named(frontend, "frontend", config.frontend)
    shape = jax.eval_shape(features, clip, np.array([clip.shape[1]])).shape[1:]
    with torch.device("meta"):
        twin = pytorch.build(config.model, shape, classes)
    # PyTorch's recurrent layers have a second bias, of which ours have no part (LSTM).
    second = sum(math.prod(p.shape) for name, p in twin.named_parameters() if "bias_hh" in name)
    stated = STUDIES[study].ROWS[row]["parameters"]
    assert sum(math.prod(p.shape) for p in twin.parameters()) - second == stated
