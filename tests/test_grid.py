"""Grids of settings: their combinations, and that each ends where a single run does."""

import jax
import numpy as np
import pytest

from audiojax import grid
from audiojax.errors import ConfigError
from audiojax.recipes import single
from tests.conftest import config_of, small_li
from tests.outcome import outcome

DROPOUTS = (("optim.lr", (1e-4, 1e-3)), ("model.dropout", (0.0, 0.3, 0.6)))


def test_every_combination_is_a_replica():
    settings = grid.settings(config_of("li_audioset", "fc2", grid=DROPOUTS, replicas=6))
    np.testing.assert_allclose(settings["optim.lr"], [1e-4, 1e-4, 1e-4, 1e-3, 1e-3, 1e-3])
    np.testing.assert_allclose(settings["model.dropout"], [0, 0.3, 0.6, 0, 0.3, 0.6])
    assert grid.settings(config_of("li_audioset", "fc2")) == {}


@pytest.mark.parametrize(
    ("study", "row", "pairs", "sentence"),
    [
        ("li_audioset", "fc2", DROPOUTS, "grid has 6 combinations, but replicas=2; set replicas=6."),
        (
            "li_audioset",
            "fc2",
            (("batch_size", (1, 2)),),
            "'batch_size' with values .* cannot differ; keys that can: optim.lr",
        ),
        ("li_audioset", "fc2", (("optim.lr", ("fast",)),), "grid=.* must be pairs such as .*: could not convert"),
        ("li_audioset", "fc2", (3,), "grid=.* must be pairs such as"),
        ("li_audioset", "fc2", (("optim.lr", 0.1),), "a key without a list of numbers"),
        ("li_audioset", "fc2", (("optim.lr", ()),), "a key without a list of numbers"),
        (
            "rit_nsynth",
            "simple",
            (("task.positive_weight", (1.0, 2.0)),),
            "cannot differ; keys that can: optim.lr, model.dropout",
        ),
    ],
)
def test_a_grid_that_cannot_be_trained_is_refused(study, row, pairs, sentence):
    with pytest.raises(ConfigError, match=sentence):
        grid.settings(config_of(study, row, grid=pairs, replicas=2))


def test_a_grid_on_the_command_line_sets_the_replicas_and_forbids_its_keys():
    config = config_of("li_audioset", "fc2", grid=DROPOUTS)
    grid.settle(config, {"grid": DROPOUTS})
    assert config.replicas == 6
    with pytest.raises(ConfigError, match="--config.optim.lr has no effect on fc2, whose grid sets it"):
        grid.settle(config, {"optim.lr": 0.1})


def test_a_grid_of_a_row_sets_the_replicas_unless_the_command_line_has():
    config = config_of("li_fig4", "lstm")
    grid.settle(config, {})
    assert config.replicas == len(grid.settings(config)["optim.lr"]) == 8
    config.replicas = 3
    grid.settle(config, {"replicas": 3})
    assert config.replicas == 3


def test_a_combination_trains_as_its_single_run_does(data_dir, tmp_path):
    steps = dict(steps=30, eval_every=30, run__steps_per_call=10)
    pairs = (("optim.lr", (1e-3, 3e-3)), ("model.dropout", (0.5,)), ("task.positive_weight", (3.0,)))
    single.run(small_li("fc2", grid=pairs, replicas=2, seed=7, **steps), tmp_path / "all", None, data_dir)
    result, score, tree, _ = outcome(tmp_path / "all")
    assert result["settings"]["model.dropout"] == [0.5, 0.5]
    assert "test_ensemble" not in result["metrics"]
    replica = 1  # validation prefers it: only its predictions are saved
    assert np.argmax(result["metrics"]["valid"]["mAUC"]) == replica and len(result["per_class"]["test"]) == 1
    values = {key.replace(".", "__"): values[replica] for key, values in result["settings"].items()}
    single.run(small_li("fc2", seed=7, **steps, **values), tmp_path / "single", None, data_dir)
    _, score_1, tree_1, _ = outcome(tmp_path / "single")
    close = lambda a, b: np.testing.assert_allclose(a[replica], b[0], rtol=1e-4, atol=1e-5)
    jax.tree.map(close, tree["state"]["params"], tree_1["state"]["params"])
    np.testing.assert_allclose(score, score_1, rtol=1e-3, atol=1e-5)
