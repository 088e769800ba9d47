"""A finished run as a model."""

import json

import numpy as np
import pytest

from audiojax import experiment, trained
from audiojax import mesh as meshes
from audiojax.data.open import open_source
from audiojax.errors import RunError
from audiojax.evaluate import Evaluator
from audiojax.recipes import single
from tests.conftest import small_li


def test_loaded_run_scores_as_its_result_says(data_dir, tmp_path):
    """Competition between classes goes by how frequent they are in training."""
    config = small_li("fc1", task__competition=0.5, optim__lr=3e-3, steps=8, eval_every=8)
    result = single.run(config, tmp_path, None, data_dir)
    loaded = trained.load(tmp_path)
    data = experiment.open_run(config, tmp_path, None, data_dir)
    mesh = meshes.make_mesh(1, 64, 1)
    source = open_source(config, data.prepared, data.parts, mesh)
    evaluator = Evaluator(loaded.task, source, data.parts, mesh, 256, 1)
    scores = evaluator.scores("test", loaded.best.params, loaded.best.model_state)
    with np.load(tmp_path / "predictions" / "test.npz") as arrays:
        np.testing.assert_allclose(scores["score"][0], arrays["score"], atol=1e-6)
    assert evaluator.report("test", scores).summary["mAUC"] == pytest.approx(result["metrics"]["test"]["mAUC"])
    path = tmp_path / "result.json"
    path.write_text(json.dumps({key: value for key, value in result.items() if key != "prior"}))
    with pytest.raises(RunError, match="does not say how frequent its classes are"):
        trained.load(tmp_path)
