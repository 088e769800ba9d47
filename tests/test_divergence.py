"""Replicas that diverge, beside others that do not; runs that go on from the weights of another."""

import functools
import json
import re
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from audiojax import evaluate, names, state, train, trained
from audiojax.data.windows import Part
from audiojax.errors import ConfigError, Interrupted, NonFiniteError, RunError
from audiojax.recipes import single
from audiojax.tasks import supervised
from tests import conftest
from tests.outcome import assert_same, outcome

small_li = functools.partial(conftest.small_li, run__steps_per_call=4)  # One program trains: calls are equally long.
WRONG_LR = 2e-3
GRID = (("optim.lr", (1e-3, WRONG_LR)),)


def spoil(monkeypatch, params=lambda step: False, loss=lambda step: False):
    """The replicas of a grid with the rate WRONG_LR get NaN for parameters or a logged loss at some steps done."""

    class Task(supervised.Task):
        def train_step(self, state, batch, key):
            state, logs = super().train_step(state, batch, key)
            wrong = state.settings["optim.lr"] == WRONG_LR
            spoiled = lambda when, tree: jax.tree.map(lambda x: jnp.where(wrong & when(state.step), jnp.nan, x), tree)
            return state.replace(params=spoiled(params, state.params)), logs | {"loss": spoiled(loss, logs["loss"])}

    monkeypatch.setattr(names, "task", lambda name: Task)


def spoil_seed(monkeypatch, wrong):
    """The replica of a seed begins with NaN for parameters."""

    class Task(supervised.Task):
        def init(self, key, settings, batch):
            state = super().init(key, settings, batch)
            spoiled = lambda x: jnp.where(jax.random.key_data(key)[-1] == wrong, jnp.nan, x)
            return state.replace(params=jax.tree.map(spoiled, state.params))

    monkeypatch.setattr(names, "task", lambda name: Task)


def test_a_seed_that_diverges_is_left_out_and_said(data_dir, tmp_path, monkeypatch, capfd):
    spoil_seed(monkeypatch, wrong=1)
    result = single.run(small_li(replicas=3), tmp_path / "all", None, data_dir)
    assert result == json.loads((tmp_path / "all" / "result.json").read_text())
    assert result["diverged"] == {"seed 1": {"step": 1, "quantity": "loss"}}
    [note] = [note for note in result["notes"] if "diverged" in note]
    assert note == (
        "fc2, honest: the replica with seed 1 diverged (loss was not finite at step 1): validation had chosen no step"
        " of it, and metrics, ensembles and predictions leave it out: they are of 2 of 3 replicas"
    )
    said = "loss is nan at step 1 of the replica with seed 1: validation no longer chooses it, and the others go on"
    assert capfd.readouterr().err.count(said) == 1
    for split in ("valid", "test"):
        for values in [*result["metrics"][split].values(), *result["ci95"][split].values()]:
            assert np.isfinite(np.array([values[0], values[2]], float)).all()
            assert values[1] in (None, [None, None])
    score = outcome(tmp_path / "all")[1]
    assert score.shape[0] == 2 and np.isfinite(score).all() and len(result["per_class"]["test"]) == 2
    assert np.isfinite(result["metrics"]["test_ensemble"]["mAUC"][0])
    log = [json.loads(line) for line in (tmp_path / "all" / "metrics.jsonl").read_text().splitlines()]
    assert all(of["train/loss"][1] is None and of["train/loss"][2] for of in log if "train/loss" in of)

    monkeypatch.undo()  # The others end as they would beside a healthy one.
    single.run(small_li(replicas=3), tmp_path / "healthy", None, data_dir)
    healthy, healthy_score, *_ = outcome(tmp_path / "healthy")
    assert healthy["diverged"] == {} and not any("diverged" in note for note in healthy["notes"])
    np.testing.assert_array_equal(score, healthy_score[[0, 2]])
    loaded = trained.load(tmp_path / "all")
    assert loaded.config.replicas == 2 and all(len(leaf) == 2 for leaf in jax.tree.leaves(loaded.best))


def test_a_setting_that_diverges_keeps_what_was_chosen_before(data_dir, tmp_path, monkeypatch):
    spoil(monkeypatch, params=lambda step: step >= 10)
    result = single.run(small_li(grid=GRID, replicas=2), tmp_path / "run", None, data_dir)
    assert result["diverged"] == {"replica 1": {"step": 11, "quantity": "loss"}}
    assert result["best_step"][1] == 8 and all(None not in of for of in result["metrics"]["test"].values())
    assert any("its scores are those of step 8, which validation had chosen" in note for note in result["notes"])


def test_a_replica_that_is_finite_again_is_never_chosen_again(data_dir, tmp_path, monkeypatch):
    config = small_li(grid=GRID, replicas=2, select="loss")
    assert single.run(config, tmp_path / "healthy", None, data_dir)["best_step"] == [24, 24]
    spoil(monkeypatch, loss=lambda step: step == 9)
    result = single.run(config, tmp_path / "run", None, data_dir)
    assert result["diverged"] == {"replica 1": {"step": 9, "quantity": "loss"}} and result["best_step"] == [24, 8]


def test_validation_of_nan_marks_a_replica(data_dir, tmp_path, monkeypatch):
    spoil(monkeypatch, params=lambda step: step == 16)
    result = single.run(small_li(grid=GRID, replicas=2), tmp_path / "run", None, data_dir)
    assert result["diverged"] == {"replica 1": {"step": 16, "quantity": "valid mAUC"}}
    assert result["best_step"][1] == 8


def test_a_resumed_run_knows_what_has_diverged(data_dir, tmp_path, monkeypatch):
    spoil(monkeypatch, loss=lambda step: step == 9)
    config = small_li(grid=GRID, replicas=2)
    single.run(config, tmp_path / "whole", None, data_dir)
    with monkeypatch.context() as context:
        context.setattr(train.StopSignals, "requested", lambda self, at_evaluation: at_evaluation)
        for step in (8, 16, 24):
            with pytest.raises(Interrupted, match=f"step {step}"):
                single.run(config, tmp_path / "parts", None, data_dir)
    single.run(config, tmp_path / "parts", None, data_dir)
    assert_same(outcome(tmp_path / "parts"), outcome(tmp_path / "whole"))
    results = [outcome(tmp_path / name)[0] for name in ("parts", "whole")]
    assert results[0]["diverged"] == results[1]["diverged"] != {} and results[0]["notes"] == results[1]["notes"]


def test_early_stopping_counts_a_diverged_replica_as_stopped(data_dir, tmp_path, monkeypatch):
    spoil(monkeypatch, params=lambda step: step >= 3)
    sizes = dict(steps=400, eval_every=2, run__steps_per_call=2, early_stopping=3, select="loss", optim__lr=0.3)
    config = small_li(grid=(("optim.lr", (0.3, WRONG_LR)),), replicas=2, **sizes)
    result = single.run(config, tmp_path / "run", None, data_dir)
    assert result["steps"] == result["best_step"][0] + 3 * 2 < 400 and "replica 1" in result["diverged"]


def test_all_replicas_diverged_ends_the_run_with_a_way_on(data_dir, tmp_path, monkeypatch):
    spoil(monkeypatch, params=lambda step: step >= 10)
    grid = (("optim.lr", (WRONG_LR, WRONG_LR)),)
    sentence = (
        r"^all 2 replicas have diverged: loss is nan at step 11 of the replica with optim.lr=0.002; lower optim.lr or"
        r" set optim.clip_norm in a new --workdir, where --config.start_from=RUN, .*"
    )
    with pytest.raises(NonFiniteError, match=sentence):
        single.run(small_li(grid=grid, replicas=2), tmp_path / "run", None, data_dir)

    monkeypatch.undo()  # That way on: another optimiser, whose rate of 0 shows the first weights.
    onward = dict(start_from=str(tmp_path / "run"), optim__name="momentum", optim__average_share=0.1)
    config = small_li(replicas=2, steps=1, eval_every=1, optim__lr=0.0, **onward)
    single.run(config, tmp_path / "next", None, data_dir)
    before, after = (outcome_tree(tmp_path / name)["best"] for name in ("run", "next"))
    assert before["step"].tolist() == [8, 8]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), before["params"], after["params"])


def outcome_tree(workdir):
    """The arrays of a run's newest checkpoint, finished or not."""
    from audiojax import checkpoint

    return checkpoint.read(workdir / "checkpoints")


def test_d_prime_of_a_perfect_score_is_no_divergence(data_dir, tmp_path, monkeypatch):
    from audiojax import metrics

    monkeypatch.setattr(metrics, "d_prime", lambda mean_auc: np.inf)
    result = single.run(small_li(select="d_prime"), tmp_path / "run", None, data_dir)
    assert result["best_step"] == [8] and result["diverged"] == {}


def weights(replicas, width=3, score=0.0, value=1.0):
    """The parts of a checkpoint, of a dense layer."""
    leaf = lambda shift: np.arange(replicas, dtype=np.float32)[:, None] + np.full((replicas, width), value + shift)
    of = lambda shift: {"params": {"Dense_0": {"bias": leaf(shift).astype(np.float32)}}, "model_state": {}}
    return {"best": of(0.0) | {"score": np.full(replicas, score, np.float32)}, "state": of(10.0)}


def like(replicas, width=3):
    return {"Dense_0": {"bias": np.zeros((replicas, width), np.float32)}}, {}


def test_first_weights_are_those_that_validation_chose_or_the_newest():
    params, model_state = state.first_weights(weights(2), like(2), "RUN")
    assert params["Dense_0"]["bias"].tolist() == [[1.0] * 3, [2.0] * 3] and model_state == {}
    params, _ = state.first_weights(weights(2, score=-np.inf), like(2), "RUN")
    assert params["Dense_0"]["bias"].tolist() == [[11.0] * 3, [12.0] * 3]
    params, _ = state.first_weights(weights(1), like(3), "RUN")
    assert params["Dense_0"]["bias"].tolist() == [[1.0] * 3] * 3


@pytest.mark.parametrize(
    ("saved", "sentence"),
    [
        (weights(1, width=4), "start_from=RUN has another network: Dense_0.bias is (4,) there and (3,) here; take"),
        (weights(2), "start_from=RUN has 2 replicas and this run 3; set replicas=2, or take a run with one replica."),
        (weights(3, score=-np.inf, value=np.nan), "start_from=RUN: the newest weights of replica 0 are not finite"),
    ],
)
def test_weights_that_cannot_be_the_first_are_refused(saved, sentence):
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        state.first_weights(saved, like(3), "RUN")


def test_what_cannot_be_started_from_is_said(reference, data_dir, tmp_path):
    def refused(error, sentence, **overrides):
        with pytest.raises(error, match=sentence):
            single.run(small_li(**overrides), tmp_path / "run", None, data_dir)
        assert not (tmp_path / "run" / "config.json").exists()

    refused(RunError, "start_from=.*nowhere is no folder of a run", start_from=str(tmp_path / "nowhere"))
    assert not (tmp_path / "nowhere").exists()
    of = dict(start_from=str(reference))
    network = r"is of another network: Dense_0.bias is \(32,\) there and \(16,\) here"
    refused(ConfigError, network, model__hidden=(16,), **of)
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    config = small_li().to_dict()
    config["data"]["name"] = "gtzan"
    (unfinished / "config.json").write_text(json.dumps(config))
    other = "has other classes: data.name='gtzan' .now 'audioset'"
    refused(ConfigError, other, start_from=str(unfinished))
    config["data"]["name"] = "audioset"
    (unfinished / "config.json").write_text(json.dumps(config))
    refused(RunError, "has no checkpoint; train that run first", start_from=str(unfinished))
    classes = json.loads((reference / "result.json").read_text())["classes"]
    (unfinished / "result.json").write_text(json.dumps({"classes": [*classes[:3], "bells", *classes[4:]]}))
    refused(ConfigError, "has other classes: class 3 is 'bells' there and ", start_from=str(unfinished))


MANY = (("optim.lr", tuple(np.geomspace(1e-5, 1, 1000))), ("model.dropout", (0.1,) * 1000))


@pytest.mark.parametrize("grid", [(), MANY], ids=["seeds", "grid"])
def test_a_million_replicas_are_refused_before_anything_is_made_for_them(data_dir, tmp_path, grid):
    started_s = time.perf_counter()
    with pytest.raises(ConfigError, match=r"parameters × 1,000,000 need .* GB, and a device has .*fewer replicas"):
        single.run(small_li(replicas=1_000_000, grid=grid), tmp_path / "run", None, data_dir)
    assert time.perf_counter() - started_s < 30


def test_a_replica_without_scores_has_no_metrics(data_dir):
    rng = np.random.default_rng(0)
    score = rng.random((3, 40, 4)).astype(np.float32)
    part = Part(
        "test", 1, **{name: np.arange(40).astype(str) for name in ("id", "group", "subset")},
        **{name: np.zeros(40, int) for name in ("offset", "start", "length", "weight")}, label=np.arange(40) % 4,
        digest=np.zeros((40, 16), np.uint8),
    )  # fmt: skip
    scores, task = {"score": score, "loss": score[..., 0]}, supervised.Task
    jax.tree.map(np.testing.assert_array_equal, evaluate.without(scores, np.zeros(3, bool)), scores)
    blank = evaluate.without(scores, np.array([False, True, False]))
    assert evaluate.has_scores(blank).tolist() == [True, False, True]
    whole, without = (evaluate.report(task, part, found).summary for found in (scores, blank))
    for name, values in without.items():
        assert values[0] == whole[name][0] and values[2] == whole[name][2] and np.isnan(values[1])
    assert all(
        np.isnan(of[1]).all() and np.isfinite(of[0]).all() for of in evaluate.intervals(task, part, blank).values()
    )


def test_a_part_without_any_finite_scores_is_an_error(data_dir, tmp_path, monkeypatch):
    outputs = evaluate.Evaluator._over

    def one_wrong(self, name, call, *arguments):
        found = outputs(self, name, call, *arguments)
        if name == "test":
            found["loss"][:, 7] = np.nan
        return found

    monkeypatch.setattr(evaluate.Evaluator, "_over", one_wrong)
    with pytest.raises(NonFiniteError, match="what validation chose has no finite loss for all of test; see "):
        single.run(small_li(), tmp_path / "run", None, data_dir)
    assert not (tmp_path / "run" / "result.json").exists()
