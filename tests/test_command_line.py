"""What a user types wrong is answered in one sentence, without a traceback and before anything is prepared."""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import pytest

from audiojax import command_line, config_file
from audiojax.errors import ConfigError
from tests.conftest import ROOT, launch, launch_here

LI = "--config=configs/li_audioset.py:fc1"
WRONG = {
    "row": (
        ["--config=configs/li_audioset.py:fc3", "--workdir=x"],
        "no row 'fc3'; did you mean 'fc2'? rows: fc1, fc2, ",
    ),
    "rows": (["--config=configs/li_audioset.py", "--workdir=x", "--rows=fc3"], "has no 'fc3'; did you mean 'fc2'?"),
    "study": (
        ["--config=configs/lee.py:fc1", "--workdir=x"],
        "no such file; studies: configs/beyond_audioset.py, configs/beyond_freesound.py, configs/beyond_gtzan.py,"
        " configs/beyond_gtzan_gan.py, configs/fagan_gtzan.py, configs/li_audioset.py",
    ),
    "key": ([LI, "--workdir=x", "--config.optim.lrr=3"], "no such key; did you mean --config.optim.lr?"),
    "type": ([LI, "--workdir=x", "--config.optim.lr=high"], "could not convert string to float: 'high'"),
    "flag": ([LI, "--workdri=x"], "Unknown command line flag 'workdri'. Did you mean: workdir"),
    "argument": ([LI, "--workdir=x", "more"], "unexpected argument 'more'"),
    "two durations": (
        [LI, "--workdir=x", "--config.steps=5", "--config.epochs=2"],
        "--config.epochs=2 and --config.steps=5: the duration must be exactly one of epochs, steps and examples",
    ),
    "no duration": ([LI, "--workdir=x", "--config.epochs=0"], "exactly one of epochs, steps and examples"),
    "no workdir": ([LI], "--workdir is missing"),
    "empty workdir": ([LI, "--workdir="], "--workdir is missing"),
    "workdir a file": ([LI, "--workdir=launch.py/a/b"], "launch.py is no folder; choose another one"),
    "no home": ([LI, "--workdir=~no_such_user/a"], "there is no home folder for ~; set HOME"),
    "two files": ([LI, LI, "--workdir=x"], "--config is given twice"),
    "not UTF-8": ([LI, b"--workdir=caf\xe9"], "the argument --workdir=caf\\udce9 is not UTF-8"),
    "no config": (["--workdir=x"], "--config is missing"),
    "recipe": ([LI, "--workdir=x", "--config.recipe.name=soup"], "recipe.name='soup' is unknown; known: "),
    "model": ([LI, "--workdir=x", "--config.model.name=mlpp"], "did you mean 'mlp'?"),
    "protocol": ([LI, "--workdir=x", "--config.protocol=honst"], "known: honest, paper; did you mean 'honest'?"),
    "variant": ([LI, "--workdir=x", "--config.data.variant=stand_on"], "must be 'released' or 'stand_in'"),
    "key before the config": (["--config.seed=1", LI, "--workdir=x"], "put --config=FILE first"),
    "table's flags": ([LI, "--workdir=x", "--splits=3"], "--splits is for a table; leave :fc1 out of --config"),
    "bucket": ([LI, "--workdir=gs://bucket/run"], "--workdir=gs://bucket/run is no folder of this machine; mount it"),
    "bucket of data": ([LI, "--workdir=x", "--raw_dir=s3://data"], "--raw_dir=s3://data is no folder of this machine"),
    "replicas": ([LI, "--workdir=x", "--config.replicas=0"], "replicas=0 must be at least 1"),
}
LAUNCHED = ("row", "key", "not UTF-8")  # in a process as a user does; the others in this one


@pytest.mark.parametrize("mistake", WRONG)
def test_mistake_is_answered_in_one_sentence(mistake, tmp_path):
    flags, sentence = WRONG[mistake]
    start = launch if mistake in LAUNCHED else launch_here
    done = start(*flags, f"--data_dir={tmp_path}")
    assert done.returncode == 1
    [line] = done.stderr.strip().splitlines()
    assert line.startswith("audiojax: ") and sentence in line
    assert not any(tmp_path.iterdir())


LATER = {
    "raw_dir": (["--raw_dir=/nowhere"], "--raw_dir=/nowhere has no folder audioset"),
    "data set": (["--config.data.name=audioste"], "nsynth; did you mean 'audioset'?"),
}
ON_DATA = {
    "batch": (["--config.batch_size=4000"], "batch_size=4000 must be between 1 and the 1900"),
    "loss": (["--config.task.loss=hinge"], "task.loss='hinge' is unknown"),
    "front end": (["--config.frontend.name=dequantize"], "frontend.name='dequantize' is unknown"),
    "front end's arguments": (["--config.frontend.name=waveform"], "takes no 'high'"),
    "source": (["--config.run.source=river"], "run.source='river' must be 'auto' or 'resident' or 'stream'"),
    "no front end": (["--config.frontend.name=stft"], "frontend.name='stft' is unknown"),
    "initialiser": (["--config.model.kernel_init=glorot"], "kernel_init='glorot' is not in flax.linen.initializers"),
    "augmentation": (["--config.augment.features=({'name':'mixup'},)"], "augment.features.name='mixup' needs 'alpha'"),
    "classes": (["--config.data.exclude_classes=('/m/09x0r',)"], "data.exclude_classes is for single labels"),
    "fold": (["--config.data.test_fold=2"], "data.test_fold='2' needs data.split_file"),
    "grid": (["--config.grid=(('optim.lr',0.1),)"], "grid=(('optim.lr', 0.1),) must be pairs such as"),
    "metric": (["--config.select=mUAC"], "select='mUAC' is unknown"),
    "type": (["--config.dtype=float64"], "dtype='float64' is unknown"),
}


@pytest.mark.parametrize("mistake", [*LATER, *ON_DATA])
def test_mistake_found_later_is_answered_in_one_sentence_too(mistake, tmp_path, data_dir):
    flags, sentence = (LATER | ON_DATA)[mistake]
    stand_in = ["--config.data.variant=stand_in"] if mistake in ON_DATA else []
    folder = data_dir if mistake in ON_DATA else tmp_path / "data"
    few = ["--config.steps=2", "--config.epochs=0"]
    done = launch_here(LI, *few, *stand_in, *flags, f"--workdir={tmp_path / 'run'}", f"--data_dir={folder}")
    assert done.returncode == 1
    assert sentence in done.stderr.strip().splitlines()[-1] and "Traceback" not in done.stderr
    assert not (tmp_path / "run" / "result.json").exists()


@pytest.mark.parametrize("study", config_file.studies())
def test_list_prints_rows_and_published_numbers(study):
    done = launch_here(f"--config={study}", "--list")
    assert done.returncode == 0
    for row, settings in config_file.load(config_file.find(study)).ROWS.items():
        numbers = [value for scores in settings["published"].values() for value in scores.values()]
        assert all(text in done.stdout for text in (row, *(f"{number:.4g}" for number in numbers)))


@pytest.mark.parametrize("study", config_file.studies())
def test_every_row_has_a_config_that_is_json_and_locked(study):
    file = config_file.load(config_file.find(study))
    for row in file.ROWS:
        config = config_file.config_of(file, row)
        assert json.loads(json.dumps(config.to_dict()))["row"] == row
        with pytest.raises((AttributeError, KeyError)):
            config.batchsize = 3


def catches(process: subprocess.Popen, number: int) -> bool:
    """Whether a process has a handler for a signal."""
    status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(r"SigCgt:\s*(\w+)", status)[1], 16) >> (number - 1) & 1 == 1


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("wait_s", [0, 1.5])
def test_a_signal_while_it_starts_is_answered_at_once(tmp_path, wait_s):
    """In the imports, or the preparation of the data that follows them."""
    command = [sys.executable, "launch.py", LI, f"--workdir={tmp_path / 'run'}", f"--data_dir={tmp_path}"]
    started = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while started.poll() is None and not catches(started, signal.SIGTERM):
        time.sleep(0.01)
    time.sleep(wait_s)
    started.terminate()
    _, stderr = started.communicate(timeout=60)
    assert started.returncode == 130
    assert stderr.splitlines()[-1] == "audiojax: stopped by SIGTERM; the same command goes on."


def test_the_repositorys_studies_are_found_from_elsewhere(tmp_path):
    command = [sys.executable, ROOT / "launch.py", "--config=configs/rit_nsynth.py", "--list"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and "rit_nsynth: published" in done.stdout


def test_a_workdir_that_cannot_be_written_is_said_before_anything_is_done(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)
    with pytest.raises(ConfigError, match=f"--workdir={tmp_path}/a/b: you may not write to {tmp_path}; choose another"):
        command_line.check_workdir(tmp_path / "a" / "b")
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(ConfigError, match="link is no folder; choose another one"):
        command_line.check_workdir(tmp_path / "link" / "run")
    (tmp_path / "mine").mkdir()
    command_line.check_workdir(tmp_path / "mine" / "run")
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["link", "mine"]
