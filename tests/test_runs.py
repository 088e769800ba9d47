"""A run's folder: whose it is, what it holds, and what another run may use of it."""

import json
import os
import shutil

import pytest

from audiojax import command_line, experiment, lock, names, runs
from audiojax.data import prepared
from audiojax.data.prepare import prepare
from audiojax.errors import RunError
from configs import common
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
    data = experiment.open_run(config, workdir, None, data_dir)
    runs.keep_identity(workdir, runs.identity(config.data, data.prepared, data.parts))
    (workdir / "config.json").write_text(json.dumps(config.to_dict()))
    return data


def finished(config, workdir, root):
    """A folder that says of itself that it is a finished run of a config on the release."""
    data = begin(config, workdir, root / "data")
    (workdir / "result.json").write_text(json.dumps(experiment.facts(config, data)))
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
    folder, _ = runs.find(str(tmp_path), tmp_path / "a" / "b" / "c", gtzan(optim__lr=1.0, seed=3), data)
    assert folder == tmp_path
    changes = {key: str(release / of) if str(of).endswith(".csv") else of for key, of in changes.items()}
    with pytest.raises(RunError, match="has other clips in train, valid and test") as refused:
        runs.find(str(tmp_path), tmp_path / "a" / "b" / "c", gtzan(**changes), data)
    assert said in str(refused.value)


def test_another_content_of_a_file_that_cuts_the_data_is_another_cut(release, tmp_path):
    path = tmp_path / "folds.csv"
    shutil.copy(release / "folds.csv", path)
    config = gtzan(data__split_file=str(path), data__test_fold="1")
    data = finished(config, tmp_path, release)
    (tmp_path / "moved.csv").write_bytes(path.read_bytes())
    moved = gtzan(data__split_file=str(tmp_path / "moved.csv"), data__test_fold="1")
    assert runs.find(str(tmp_path), tmp_path / "a" / "b" / "c", moved, data)
    path.write_text(path.read_text().replace(",2\n", ",1\n", 1))
    with pytest.raises(RunError, match="split_file='[0-9a-f]{64}' \\(now '[0-9a-f]{64}'\\)"):
        runs.find(str(tmp_path), tmp_path / "a" / "b" / "c", config, data)
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
        runs.find(str(tmp_path / "one"), tmp_path / "a" / "b" / "c", gtzan(), data)


def test_a_start_that_failed_before_its_first_step_claims_no_data(release, tmp_path):
    for seed in (0, 1):
        config = gtzan(data__split_seed=seed)
        data = experiment.open_run(config, tmp_path, None, release / "data")
        runs.keep_identity(tmp_path, runs.identity(config.data, data.prepared, data.parts))
    assert runs.read_json(tmp_path / "data.json") == runs.identity(config.data, data.prepared, data.parts)


def test_a_key_that_a_config_lacks_counts_as_empty():
    old, new = {"seed": 1, "data": {"name": "a"}}, {"seed": 1, "start_from": "", "data": {"name": "a", "share": 0.0}}
    assert runs.differences(old, new) == runs.differences(new, old) == []
    assert runs.differences(old, new | {"start_from": "x"}) == ["start_from=None (now 'x')"]
    assert runs.differences(new, new | {"seed": 0}) == ["seed=1 (now 0)"]


@pytest.mark.parametrize("content", ["", "{", "[1]", "\0\0"])
def test_a_damaged_config_or_result_costs_that_file_alone(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(RunError, match="config.json cannot be read .*; remove that file alone"):
        runs.check_owner(tmp_path, {"seed": 1})
    (tmp_path / "result.json").write_text(content)
    with pytest.raises(RunError, match="remove it and result.json alone, .* goes on from its checkpoints"):
        runs.check_owner(tmp_path, {"seed": 1})
    if content != "[1]":
        with pytest.raises(RunError, match="result.json cannot be read .*; remove that file alone"):
            runs.read_result(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "5", "null", '"text"', b"\xff"])
def test_what_holds_no_json_object_is_one_sentence(tmp_path, text):
    for name in ("config.json", "result.json"):
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(RunError, match="result.json cannot be read .*; remove that file alone"):
        runs.read_result(tmp_path)
    for read in (runs.read_config, lambda folder: runs.check_owner(folder, {})):
        with pytest.raises(RunError, match="config.json cannot be read"):
            read(tmp_path)


def test_a_finished_folder_needs_no_lock_and_others_have_it_while_they_run(tmp_path):
    @runs.own_folder
    def run(config, workdir, raw_dir):
        return sorted(os.listdir(workdir)) + [config, raw_dir]

    assert run("config", workdir=tmp_path / "run", raw_dir=1) == [lock.LOCK, "config", 1]
    (tmp_path / "result.json").write_text('{"steps": 1}')
    with lock.hold(tmp_path):
        assert run(2, tmp_path, 3) == [lock.LOCK, "result.json", 2, 3]


def test_every_recipe_locks_its_folder(tmp_path):
    with lock.hold(tmp_path):
        for recipe in names.modules("recipes"):
            with pytest.raises(RunError, match="is in use by process"):
                names.recipe(recipe)(small_li(), tmp_path, None, tmp_path)


def test_neutral_values_are_those_that_configs_begin_with():
    """A new key whose neutral value is not empty must be added to `runs.NEUTRAL`, one of `run` to `runs.RUN`."""
    config, values = common.base().to_dict(), {}
    for key in command_line.flat_keys(common.base()):
        value = config
        for name in key.split("."):
            value = value[name]
        if value and not isinstance(value, dict) and not key.startswith("run."):
            values[key] = value
    assert values == runs.NEUTRAL
    assert config["run"] == runs.RUN


def written(config, folder, change=lambda config: None):
    """A folder that was begun with a config, changed."""
    begun = config.to_dict()
    change(begun)
    (folder / "config.json").write_text(json.dumps(begun))
    return folder


def test_a_folder_belongs_to_the_keys_that_change_a_number(tmp_path):
    written(small_li(), tmp_path)
    runs.check_owner(tmp_path, small_li(run__source="stream", run__keep=9, run__cpu_devices=2).to_dict())
    with pytest.raises(RunError, match="belongs to a run with optim.lr=0.0002 \\(now 0.5\\)"):
        runs.check_owner(tmp_path, small_li(optim__lr=0.5).to_dict())


def test_a_folder_of_an_earlier_version_is_continued(tmp_path):
    def earlier(config):
        del config["run"], config["task"]["competition"], config["dtype"], config["augment"], config["grid"]
        config["data"]["source"], config["published"] = "stream", {"test": {"mAUC": 0.5}}
        config |= {"cpu_devices": 4, "keep": 3, "steps_per_call": 8}

    written(small_li(), tmp_path, earlier)
    runs.check_owner(tmp_path, small_li().to_dict())
    moved = {"cpu_devices": 4, "keep": 3, "steps_per_call": 8, "source": "stream"}
    assert runs.read_config(tmp_path)["run"] == runs.RUN | moved
    with pytest.raises(RunError, match="dtype='float32' \\(now 'bfloat16'\\)"):
        runs.check_owner(tmp_path, small_li(dtype="bfloat16").to_dict())


def test_a_run_that_is_built_on_is_found_in_the_table_that_members_names(release, tmp_path):
    folder = tmp_path / "table" / "cnn1d_gap" / "honest" / "split_0"
    folder.mkdir(parents=True)
    data = finished(gtzan(), folder, release)
    elsewhere = tmp_path / "elsewhere"
    assert runs.find("cnn1d_gap", elsewhere, gtzan(run__members=str(tmp_path / "table")), data)[0] == folder
    assert (
        runs.find("cnn1d_gap", folder.parent.parent.parent / "other" / "honest" / "split_0", gtzan(), data)[0] == folder
    )
    with pytest.raises(RunError, match="needs cnn1d_gap, which has no finished run in .*--members"):
        runs.find("cnn1d_gap", elsewhere, gtzan(), data)
