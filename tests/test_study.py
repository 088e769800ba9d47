"""A whole table: every run once, whatever interrupts it; what fails is said and tried again."""

import json
import os
import shutil
import subprocess
import sys
import time

import pytest

from audiojax import config_file, study
from audiojax.errors import ConfigError, RunError
from audiojax.recipes import single
from configs import beyond_gtzan, fagan_gtzan, li_audioset, ntu_freesound, rit_nsynth
from tests.conftest import ROOT, launch

SMALL = {"data.variant": "stand_in", "steps": 4, "eval_every": 2.0, "run.steps_per_call": 1, "batch_size": 64}
ALL = {"rows": [], "protocols": []}


def run(workdir, data_dir, chosen, splits=1, **overrides):
    study.run(li_audioset, plan(li_audioset, SMALL | overrides, chosen, splits, workdir), workdir, None, data_dir)


def plan(file, overrides, chosen, splits, workdir):
    return study.plan(file, file.get_config(), overrides, ALL | chosen, splits, workdir)


@pytest.mark.parametrize("name", config_file.studies())
def test_every_row_is_planned_under_both_protocols(name, tmp_path):
    file = config_file.load(config_file.find(name))
    runs = plan(file, {"epochs": 2.0}, {}, 2, tmp_path)
    folders = [folder.relative_to(tmp_path).parts for folder, _ in runs]
    protocols = [protocol for protocol in ("paper", "honest") if protocol in file.get_config().data.protocols]
    assert folders == [(row, p, cut) for row in file.ROWS for p in protocols for cut in ("split_0", "split_1")]
    for (row, protocol, cut), (_, config) in zip(folders, runs):
        assert (config.row, config.protocol) == (row, protocol) and config.data.split_seed == int(cut[-1])
        assert (config.epochs, config.steps, config.examples) == (2.0, 0, 0)


def test_a_duration_in_another_unit_keeps_the_number_of_evaluations(tmp_path):
    chosen = {"rows": ["optimised"], "protocols": ["paper"]}
    [(_, config)] = plan(rit_nsynth, {"steps": 800}, chosen, 1, tmp_path)  # its own: 10 epochs, an evaluation each
    assert (config.epochs, config.steps, config.eval_every) == (0.0, 800, 80.0)
    [(_, config)] = plan(rit_nsynth, {"steps": 800, "eval_every": 40.0}, chosen, 1, tmp_path)
    assert config.eval_every == 40.0


def test_a_file_that_cuts_the_data_is_for_honest_alone(tmp_path):
    config = fagan_gtzan.get_config()
    config.data.split_file = "folds.csv"
    overrides = {"data.split_file": "folds.csv"}
    runs = study.plan(fagan_gtzan, config, overrides, ALL | {"rows": ["lstm"]}, 1, tmp_path)
    assert [folder.parts[-2] for folder, _ in runs] == ["honest"]
    with pytest.raises(ConfigError, match="take --protocols=honest"):
        study.plan(fagan_gtzan, config, overrides, ALL | {"protocols": ["paper"]}, 1, tmp_path)


def test_protocols_that_a_study_lacks_are_not_planned(tmp_path):
    [(folder, config)] = plan(beyond_gtzan, {}, {}, 1, tmp_path)
    assert folder.parts[-2:] == ("honest", "split_0") and config.study == "beyond_gtzan"


def test_overrides_stand_above_the_rows_own_values(tmp_path):
    [(_, config)] = plan(rit_nsynth, {"optim.lr": 0.5}, {"rows": ["simple"], "protocols": ["paper"]}, 1, tmp_path)
    assert config.optim.lr == 0.5 and rit_nsynth.get_config("simple").optim.lr == 0.01
    [(_, config)] = plan(fagan_gtzan, {"model.cell": "gru"}, {"rows": ["lstm"], "protocols": ["paper"]}, 1, tmp_path)
    assert config.model.cell == "gru" and config.model.stages == fagan_gtzan.get_config("lstm").model.stages


@pytest.mark.parametrize(
    ("overrides", "chosen", "splits", "sentence"),
    [
        ({}, {"rows": ["fc3"]}, 1, "--rows: li_audioset has no 'fc3'; did you mean 'fc2'"),
        ({}, {"protocols": ["fair"]}, 1, "--protocols: li_audioset has no 'fair'"),
        ({"steps": 3, "epochs": 3.0}, {}, 1, "exactly one of epochs, steps and examples"),
        ({}, {}, 0, "--splits=0 must be at least 1"),
        ({"data.split_file": "folds.csv"}, {}, 2, "1 where data.split_file makes the cut"),
        ({"protocol": "paper"}, {}, 1, "of a table choose the --protocols"),
        ({"frontend.samples": 3}, {}, 1, "--config.frontend.samples: no row has such a key, fc1 for one"),
    ],
)
def test_what_cannot_be_planned_is_said(tmp_path, overrides, chosen, splits, sentence):
    config = li_audioset.get_config()
    config.data.split_file = overrides.get("data.split_file", "")
    with pytest.raises(ConfigError, match=sentence):
        study.plan(li_audioset, config, overrides, ALL | chosen, splits, tmp_path)


def test_a_key_of_some_rows_leaves_the_others_as_they_are(tmp_path, capsys):
    chosen = {"rows": ["raw_cnn1d", "cnn2d"], "protocols": ["honest"]}
    [(_, plain), (_, images)] = plan(ntu_freesound, {"frontend.height": 64, "epochs": 2.0}, chosen, 1, tmp_path)
    assert images.frontend.height == 64 and plain.epochs == images.epochs == 2.0
    assert plain.frontend == ntu_freesound.get_config("raw_cnn1d").frontend
    assert "--config.frontend.height is no key of raw_cnn1d: there all stays as it is" in capsys.readouterr().err


def test_what_fails_is_said_and_the_rest_goes_on(data_dir, tmp_path):
    broken = tmp_path / "fc1" / "paper" / "split_0"
    broken.mkdir(parents=True)
    (broken / "checkpoints").write_text("not a folder")
    chosen = {"rows": ["fc1", "fc2"], "protocols": ["paper"]}
    with pytest.raises(RunError, match=r"1 of 2 runs failed \(fc1/paper/split_0: .*cannot be written"):
        run(tmp_path, data_dir, chosen)
    other = tmp_path / "fc2" / "paper" / "split_0" / "result.json"
    finished = other.stat().st_mtime_ns
    text = (tmp_path / "table.md").read_text()
    assert "| fc2 |" in text and (tmp_path / "report.html").exists()

    (broken / "checkpoints").unlink()
    run(tmp_path, data_dir, chosen)
    assert (broken / "result.json").exists() and other.stat().st_mtime_ns == finished


@pytest.mark.slow
def test_what_is_damaged_or_of_other_settings_fails_alone_and_before_the_training(data_dir, tmp_path, capsys):
    """fc1's paper folder is another config's, its honest result is empty, fc2's predictions are damaged."""
    chosen = {"rows": ["fc1", "fc2"]}
    run(tmp_path, data_dir, chosen | {"protocols": ["honest"]})
    other = tmp_path / "fc1" / "paper" / "split_0"
    other.mkdir(parents=True)
    (other / "config.json").write_text('{"seed": 3}')
    result = tmp_path / "fc1" / "honest" / "split_0" / "result.json"
    result.write_text("")
    predictions = tmp_path / "fc2" / "honest" / "split_0" / "predictions" / "test.npz"
    predictions.write_text("[]")
    capsys.readouterr()
    with pytest.raises(RunError, match="2 of 4 runs failed") as caught:
        run(tmp_path, data_dir, chosen)
    said = str(caught.value)
    assert "fc1/paper/split_0 belongs to a run with" in said
    assert f"{result} cannot be read" in said and "remove that file alone" in said
    assert f"the report lacks what is damaged: {predictions} cannot be read" in said
    shown = capsys.readouterr().err
    assert (
        shown.index("fc1/paper/split_0 failed: ") < shown.index("fc1/honest/split_0 failed: ") < shown.index("run 1 of")
    )
    assert (tmp_path / "fc2" / "paper" / "split_0" / "result.json").exists()
    assert "| fc2 |" in (tmp_path / "table.md").read_text() and "test.npz" in (tmp_path / "report.html").read_text()

    result.unlink()
    predictions.parent.parent.joinpath("result.json").unlink()
    predictions.unlink()
    shutil.rmtree(other)
    run(tmp_path, data_dir, chosen)
    assert result.exists() and predictions.exists()


def test_an_unforeseen_error_goes_to_the_log_of_its_run(data_dir, tmp_path, monkeypatch, capsys):
    train = single.run

    def fails(config, folder, *arguments):
        if config.row == "fc1":
            raise ZeroDivisionError("by nothing")
        return train(config, folder, *arguments)

    monkeypatch.setattr(single, "run", fails)
    log = tmp_path / "fc1" / "paper" / "split_0" / "error.log"
    with pytest.raises(
        RunError, match="1 of 2 runs failed .*unforeseen ZeroDivisionError: by nothing; its traceback is"
    ) as e:
        run(tmp_path, data_dir, {"rows": ["fc1", "fc2"], "protocols": ["paper"]})
    assert str(log) in str(e.value) and "raise ZeroDivisionError" in log.read_text()
    assert "Traceback" not in capsys.readouterr().err
    assert (tmp_path / "fc2" / "paper" / "split_0" / "result.json").exists()


def test_a_file_elsewhere_trains_its_own_rows(data_dir, tmp_path):
    """A copy of a study under its own name, with another rate."""
    text = (ROOT / "configs" / "li_audioset.py").read_text()
    path = tmp_path / "li_audioset.py"
    path.write_text(text + "\n\nfor settings in ROWS.values():\n    settings['overrides'] |= {'optim': {'lr': 0.25}}\n")
    file = config_file.load(path)
    chosen = ALL | {"rows": ["fc1"], "protocols": ["paper"]}
    workdir = tmp_path / "runs"
    planned = study.plan(file, config_file.config_of(file), SMALL, chosen, 1, workdir)
    study.run(file, planned, workdir, None, data_dir)
    config = json.loads((tmp_path / "runs" / "fc1" / "paper" / "split_0" / "config.json").read_text())
    assert config["optim"]["lr"] == 0.25 and config["study"] == "li_audioset"
    assert f"--config={path}:fc1" in (tmp_path / "runs" / "report.html").read_text()
    assert "optim.lr" not in (tmp_path / "runs" / "table.md").read_text()


@pytest.mark.slow
def test_killed_table_does_nothing_twice_and_leaves_nothing_out(data_dir, tmp_path):
    """SIGKILL while the second of four runs trains."""
    flags = [
        *("--config=configs/li_audioset.py", "--rows=fc1", "--splits=2", "--replicas=2"),
        *(f"--config.{key}={value}" for key, value in SMALL.items()),
        *(f"--workdir={tmp_path}", f"--data_dir={data_dir}"),
    ]
    results = [tmp_path / "fc1" / p / f"split_{s}" / "result.json" for p in ("paper", "honest") for s in (0, 1)]
    command = [sys.executable, "launch.py", *flags]
    said = tmp_path / "said"
    with open(said, "w") as file:
        killed = subprocess.Popen(command, cwd=ROOT, env=os.environ, stdout=file, stderr=file)
    log, deadline_s = results[1].parent / "metrics.jsonl", time.monotonic() + 240
    while killed.poll() is None and time.monotonic() < deadline_s and not (log.exists() and log.read_text()):
        time.sleep(0.001)
    finished_early = killed.poll() is not None
    killed.kill()
    killed.wait()
    assert not finished_early and log.exists(), said.read_text()
    assert results[0].exists() and not results[-1].exists()
    before = results[0].stat().st_mtime_ns

    done = launch(*flags)
    assert done.returncode == 0, done.stderr
    assert results[0].stat().st_mtime_ns == before
    found = [json.loads(path.read_text()) for path in results]
    assert all(result["replicas"] == 2 and result["steps"] == 4 for result in found)
    assert "± " in (tmp_path / "table.md").read_text()
    listed = launch("--config=configs/li_audioset.py", "--list", f"--workdir={tmp_path}")
    assert "675,087" in listed.stdout and "honest mAUC" in listed.stdout


def test_where_every_run_fails_for_one_reason_it_is_said_once(tmp_path):
    workdir = tmp_path / "new"
    with pytest.raises(
        RunError, match=r"2 of 2 runs failed \(fc1/paper/split_0, fc1/honest/split_0: .*no folder audios"
    ):
        settings = SMALL | {"data.variant": "released"}
        planned = plan(li_audioset, settings, {"rows": ["fc1"]}, 1, workdir)
        study.run(li_audioset, planned, workdir, tmp_path, tmp_path / "data")
    assert "No run is finished yet" in (workdir / "table.md").read_text()
