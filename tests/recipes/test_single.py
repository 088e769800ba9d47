"""What a run may use of other runs and of data: whose clips they have, and a finished run as it was scored."""

import json
import shutil

import numpy as np
import pytest

from audiojax.data import prepared
from audiojax.data.prepare import prepare
from audiojax.errors import RunError
from audiojax.evaluate import Evaluator
from audiojax.recipes import single
from tests.conftest import config_of, small_li
from tests.data.releases import track, write_files

SEGMENT = dict(seconds=0.09, hop_s=0.0, shortest_s=0.09, pad="zeros")


def gtzan(**overrides):
    return config_of("fagan_gtzan", "cnn1d_gap", data__segment=SEGMENT, **overrides)


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    """A release of GTZAN tracks, prepared; a csv of folds and one of artists."""
    root = tmp_path_factory.mktemp("release")
    names = [f"{genre}.{k:05d}" for genre in ("blues", "rock") for k in range(6)]
    write_files(root / "raw" / "gtzan", {f"{n.split('.')[0]}/{n}.wav": track(k) for k, n in enumerate(names)})
    prepare("gtzan", "released", root / "raw", root / "data", True)
    (root / "folds.csv").write_text("clip,fold\n" + "".join(f"{n},{k % 3}\n" for k, n in enumerate(names)))
    (root / "artists.csv").write_text("clip,artist\n" + "".join(f"{n},{n[:7]}\n" for n in names))
    return root


def begin(config, workdir, data_dir):
    """A run's data, opened and noted as its own."""
    data = single.open_run(config, workdir, None, data_dir)
    single.keep_identity(workdir, single.identity(config, data))
    (workdir / "config.json").write_text(json.dumps(config.to_dict()))
    return data


def finished(config, workdir, root):
    """A folder that says of itself that it is a finished run of a config on the release."""
    data = begin(config, workdir, root / "data")
    (workdir / "result.json").write_text(json.dumps(single.facts(config, data)))
    return data.prepared


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"protocol": "paper"}, "protocol='honest' (now 'paper')"),
        ({"data__split_seed": 1}, "data.split_seed=0 (now 1)"),
        ({"data__variant": "stand_in"}, "data.variant='released' (now 'stand_in')"),
        ({"data__exclude_classes": ("jazz",)}, "data.exclude_classes=[] (now ['jazz'])"),
        ({"data__protocols__honest__test_fraction": 0.5}, "data.protocols.honest.test_fraction="),
        ({"data__group_file": "artists.csv"}, "group_file='' (now "),
        ({"data__split_file": "folds.csv", "data__test_fold": "1"}, "split_file='' (now "),
        ({"data__test_fold": "1"}, "data.test_fold='' (now '1')"),
    ],
)
def test_outputs_of_a_run_with_other_clips_in_train_valid_or_test_are_refused(release, tmp_path, changes, said):
    data = finished(gtzan(), tmp_path, release)
    folder, _ = single.find_run(str(tmp_path), tmp_path / "a" / "b" / "c", gtzan(optim__lr=1.0, seed=3), data)
    assert folder == tmp_path
    changes = {key: str(release / of) if str(of).endswith(".csv") else of for key, of in changes.items()}
    with pytest.raises(RunError, match="has other clips in train, valid and test") as refused:
        single.find_run(str(tmp_path), tmp_path / "a" / "b" / "c", gtzan(**changes), data)
    assert said in str(refused.value)


def test_another_content_of_a_file_that_cuts_the_data_is_another_cut(release, tmp_path):
    path = tmp_path / "folds.csv"
    shutil.copy(release / "folds.csv", path)
    config = gtzan(data__split_file=str(path), data__test_fold="1")
    data = finished(config, tmp_path, release)
    (tmp_path / "moved.csv").write_bytes(path.read_bytes())
    moved = gtzan(data__split_file=str(tmp_path / "moved.csv"), data__test_fold="1")
    assert single.find_run(str(tmp_path), tmp_path / "a" / "b" / "c", moved, data)
    path.write_text(path.read_text().replace(",2\n", ",1\n", 1))
    with pytest.raises(RunError, match="split_file='[0-9a-f]{64}' \\(now '[0-9a-f]{64}'\\)"):
        single.find_run(str(tmp_path), tmp_path / "a" / "b" / "c", config, data)
    with pytest.raises(RunError, match="was begun on other data: train, valid, test differ"):
        begin(config, tmp_path, release / "data")


def test_a_run_does_not_go_on_with_data_that_were_prepared_anew(release, tmp_path):
    """Of another release; the same release prepared again is the same data."""
    raw, workdir = tmp_path / "raw", tmp_path / "run"
    shutil.copytree(release / "raw", raw)
    begin(gtzan(), workdir, release / "data")
    prepare("gtzan", "released", raw, tmp_path / "again", True)
    begin(gtzan(), workdir, tmp_path / "again")
    (raw / "gtzan" / "rock" / "rock.00003.wav").write_bytes(track(77))
    prepare("gtzan", "released", raw, tmp_path / "other", True)
    with pytest.raises(RunError, match=r"run was begun on other data: train differ|valid differ|test differ"):
        begin(gtzan(), workdir, tmp_path / "other")
    data = prepared.find("gtzan", "released", tmp_path / "other")
    finished(gtzan(), tmp_path / "one", release)
    with pytest.raises(RunError, match="has other clips in train, valid and test: fingerprint="):
        single.find_run(str(tmp_path / "one"), tmp_path / "a" / "b" / "c", gtzan(), data)


def test_a_start_that_failed_before_its_first_step_claims_no_data(release, tmp_path):
    for seed in (0, 1):
        config = gtzan(data__split_seed=seed)
        data = single.open_run(config, tmp_path, None, release / "data")
        single.keep_identity(tmp_path, single.identity(config, data))
    assert single.read_json(tmp_path / "data.json") == single.identity(config, data)


def test_loaded_run_scores_as_its_result_says(data_dir, tmp_path):
    """Competition between classes goes by how frequent they are in training."""
    config = small_li("fc1", task__competition=0.5, optim__lr=3e-3, steps=8, eval_every=8)
    result = single.run(config, tmp_path, None, data_dir)
    loaded = single.load(tmp_path)
    data = single.open_run(config, tmp_path, None, data_dir)
    mesh = single.meshes.make_mesh(1, 64, 1)
    source = single.open_source(config.data, data.prepared, data.parts, mesh)
    evaluator = Evaluator(loaded.task, source, data.parts, mesh, 256, 1)
    scores = evaluator.scores("test", loaded.best.params, loaded.best.model_state)
    with np.load(tmp_path / "predictions" / "test.npz") as arrays:
        np.testing.assert_allclose(scores.score[0], arrays["score"], atol=1e-6)
    assert evaluator.report("test", scores).summary["mAUC"] == pytest.approx(result["metrics"]["test"]["mAUC"])
    path = tmp_path / "result.json"
    path.write_text(json.dumps({key: value for key, value in result.items() if key != "prior"}))
    with pytest.raises(RunError, match="does not say how frequent its classes are"):
        single.load(tmp_path)
