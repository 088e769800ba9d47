"""Ensembles of finished runs."""

import json

import numpy as np
import pytest
import sklearn.metrics

from audiojax import study, trained
from audiojax.data.windows import Part
from audiojax.errors import ConfigError, RunError
from audiojax.recipes import ensemble, single
from configs import beyond_audioset
from tests.conftest import small_li

SMALL = {"steps": 8, "eval_every": 8}


@pytest.fixture(scope="module")
def members(data_dir, tmp_path_factory):
    """A table's folder with two finished rows, one of them of two seeds."""
    root = tmp_path_factory.mktemp("table")
    for row, replicas in (("fc1", 1), ("fc2", 2)):
        config = small_li(row, replicas=replicas, optim__lr=3e-3, **SMALL)
        single.run(config, root / row / "honest" / "split_0", None, data_dir)
    return root


def run(root, data_dir, name="mean", mean="arithmetic", members=("fc1", "fc2"), **overrides):
    config = small_li("fc1", **SMALL, **overrides).unlock()
    config.row = name
    config.recipe = {"name": "ensemble", "members": members, "mean": mean}
    folder = root / name / "honest" / "split_0"
    return ensemble.run(config.lock(), folder, None, data_dir), folder


def predictions(folder, part="test"):
    with np.load(folder / "predictions" / f"{part}.npz") as arrays:
        return dict(arrays)


def test_arithmetic_mean_of_all_seeds_is_a_run_like_any_other(members, data_dir):
    result, folder = run(members, data_dir)
    own, one, two = (
        predictions(path) for path in (folder, *(members / r / "honest" / "split_0" for r in ("fc1", "fc2")))
    )
    np.testing.assert_allclose(own["score"], (one["score"] + two["score"].sum(0)) / 3, rtol=1e-6)
    by_sklearn = sklearn.metrics.roc_auc_score(own["label"], own["score"], average="macro")
    assert result["metrics"]["test"]["mAUC"] == [pytest.approx(by_sklearn, rel=1e-6)]
    by_sklearn = sklearn.metrics.log_loss(own["label"].ravel(), own["score"].ravel()) * own["label"].shape[1]
    assert result["metrics"]["test"]["loss"] == [pytest.approx(by_sklearn, rel=1e-3)]
    assert json.loads((folder / "result.json").read_text())["weights"] == pytest.approx([1 / 3] * 3)
    before = (folder / "result.json").stat().st_mtime_ns
    run(members, data_dir)
    assert (folder / "result.json").stat().st_mtime_ns == before


def test_an_ensemble_has_no_network_to_load(members, data_dir):
    _, folder = run(members, data_dir)
    with pytest.raises(RunError, match="split_0 is a run without weights of its own, such as an ensemble"):
        trained.load(folder)


def test_members_may_be_folders_and_weights_are_those_of_least_loss_on_validation(members, data_dir):
    folders = tuple(str(members / row / "honest" / "split_0") for row in ("fc1", "fc2"))
    weighted, _ = run(members, data_dir, "weighted", "weighted", folders)
    equal, _ = run(members, data_dir)
    losses = [result["metrics"]["valid"]["loss"][0] for result in (weighted, equal)]
    singles = [json.loads((members / r / "honest/split_0/result.json").read_text()) for r in ("fc1", "fc2")]
    alone = [loss for result in singles for loss in result["metrics"]["valid"]["loss"]]
    assert losses[0] <= losses[1] + 1e-6 and losses[0] <= min(alone) + 1e-3
    assert sum(weighted["weights"]) == pytest.approx(1) and min(weighted["weights"]) >= 0


def test_geometric_means():
    two = np.array([[[0.2, 0.8]], [[0.5, 0.5]]])
    both = ensemble.mean(two, np.array([0.5, 0.5]), geometric=True, several_labels=False)
    np.testing.assert_allclose(both, [[1 / 3, 2 / 3]], rtol=1e-6)  # sqrt(0.1) : sqrt(0.4)
    odds = ensemble.mean(two[..., :1], np.array([0.5, 0.5]), geometric=True, several_labels=True)
    np.testing.assert_allclose(odds, [[1 / 3]], rtol=1e-6)  # sqrt(1/4 · 1) : 1


def test_weights_find_the_member_that_knows():
    rng = np.random.default_rng(0)
    label = rng.integers(0, 3, 200)
    knows, guesses = 0.9 * np.eye(3)[label] + 0.1 / 3, rng.dirichlet(np.ones(3), 200)
    weights = ensemble.fit_weights(np.stack([guesses, knows]), label)
    assert weights[1] > 0.95


def test_what_cannot_be_averaged_is_said(members, data_dir):
    with pytest.raises(ConfigError, match="recipe.mean='harmonic' must be one of arithmetic, geometric, weighted"):
        run(members, data_dir, "wrong", "harmonic")
    with pytest.raises(RunError, match="other needs lstm, which has no finished run in .*; train that row in"):
        run(members, data_dir, "other", members=("fc1", "lstm"))
    folder = (str(members / "fc1/honest/split_0"),)
    with pytest.raises(RunError, match=r"cut cannot use .*, which has other clips in .*: data.split_seed=0 \(now 1\)"):
        run(members, data_dir, "cut", members=folder, data__split_seed=1)
    with pytest.raises(RunError, match="other clips in .*: data.protocols.honest.valid_fraction=0.05 .now 0.2."):
        run(members, data_dir, "share", members=folder, data__protocols__honest__valid_fraction=0.2)


def scored(folder, classes=2):
    """A run's predictions of three examples, and the part that they are of."""
    label, number = np.array([0, 1, 1]), np.zeros(3, np.int64)
    id_N = np.array(["a", "b", "c"])
    part = Part("all", 1, id_N, id_N, id_N, label, number, number, number, number, number)
    (folder / "predictions").mkdir(exist_ok=True)
    columns = dict(id=part.id, offset=part.offset, label=part.label, score=np.full((3, classes), 1 / classes))
    np.savez(folder / "predictions" / "test.npz", **columns)
    return part


DAMAGE = {
    "empty": lambda content: b"",
    "cut": lambda content: content[: len(content) // 2],
    "cut at its end": lambda content: content[:-10],
    "another file": lambda content: b"<html>",
    "zeros": lambda content: bytes(len(content)),
    "bytes flipped": lambda content: bytes(byte ^ (255 * (n % 97 == 0)) for n, byte in enumerate(content)),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_predictions_are_said(tmp_path, damage):
    part, path = scored(tmp_path), tmp_path / "predictions" / "test.npz"
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    with pytest.raises(RunError, match="test.npz cannot be read .*; remove it and result.json of that run"):
        ensemble.read_scores(tmp_path, "test", part, 2)


def test_predictions_of_other_classes_are_said(tmp_path):
    part = scored(tmp_path, classes=3)
    with pytest.raises(RunError, match="test.npz has other classes than this test"):
        ensemble.read_scores(tmp_path, "test", part, 2)


def test_a_table_plans_members_before_their_ensemble(tmp_path):
    chosen = {"rows": [], "protocols": ["honest"]}
    runs = study.plan(beyond_audioset, beyond_audioset.get_config(), {}, chosen, 1, tmp_path)
    assert [config.row for _, config in runs][-1] == "ensemble"
    assert runs[-1][1].recipe.members == ("decision_level", "multi_level", "multi_head")
    assert {config.row for _, config in runs[:-1]} == {"decision_level", "feature_level", "multi_level", "multi_head"}
    assert beyond_audioset.ROWS["ensemble"]["parameters"] == 14_378_045
