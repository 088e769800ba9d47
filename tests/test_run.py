"""Whole runs on small data: resume, sources, finished folders."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from audiojax import train, trained
from audiojax.errors import RunError
from audiojax.recipes import single
from tests.conftest import ROOT, SHARED_DATA, SMALL_LI_FLAGS, config_of, launch, launch_here, small_gtzan, small_li
from tests.outcome import assert_close, assert_same, outcome


def test_result_has_the_contract_of_the_design(reference):
    result = json.loads((reference / "result.json").read_text())
    for key in ("study", "row", "protocol", "seed", "replicas", "published", "metrics", "best_step", "examples"):
        assert key in result
    assert {"prepare", "compile", "train", "eval"} <= result["time_s"].keys()
    counted = {"train": 1900, "valid": 100, "test": 1000, "skipped": 0, "absent": {}, "changed": {}}
    assert result["examples"] == counted
    assert set(result["metrics"]) == {"train", "valid", "test"}
    assert {"loss", "mAP", "mAUC", "d_prime"} == set(result["metrics"]["test"])
    steps = [json.loads(line)["step"] for line in (reference / "metrics.jsonl").read_text().splitlines()]
    assert steps == [3, 6, 8, 8, 11, 14, 16, 16, 19, 22, 24, 24]
    assert any((reference / "tensorboard").iterdir())


def test_finished_run_is_left_alone(reference, data_dir):
    before = (reference / "result.json").stat().st_mtime_ns
    again = launch_here(*SMALL_LI_FLAGS, f"--workdir={reference}", f"--data_dir={data_dir}")
    assert again.returncode == 0 and "is finished" in again.stderr
    assert (reference / "result.json").stat().st_mtime_ns == before


def test_workdir_of_another_config_is_refused(reference, data_dir):
    other = launch_here(*SMALL_LI_FLAGS, "--config.seed=5", f"--workdir={reference}", f"--data_dir={data_dir}")
    assert other.returncode == 1
    assert "seed=0 (now 5)" in other.stderr and "Traceback" not in other.stderr


@pytest.mark.slow
@pytest.mark.parametrize("lines", [1, 4, 9])
def test_killed_run_ends_as_the_uninterrupted_one(reference, data_dir, tmp_path, lines):
    """SIGKILL once `lines` lines of metrics.jsonl are there: before the first checkpoint, between two, near the end."""
    workdir = tmp_path / "run"
    arguments = [sys.executable, "launch.py", *SMALL_LI_FLAGS, f"--workdir={workdir}", f"--data_dir={data_dir}"]
    killed = subprocess.Popen(arguments, cwd=ROOT, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    log = workdir / "metrics.jsonl"
    while killed.poll() is None and (not log.exists() or len(log.read_text().splitlines()) < lines):
        time.sleep(0.001)
    killed.kill()
    killed.wait()
    assert not (workdir / "result.json").exists()
    done = launch(*SMALL_LI_FLAGS, f"--workdir={workdir}", f"--data_dir={data_dir}")
    assert done.returncode == 0, done.stderr
    assert_same(outcome(workdir), outcome(reference))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted_run_saves_and_ends_as_the_uninterrupted_one(reference, data_dir, tmp_path, number):
    workdir = tmp_path / "run"
    arguments = [sys.executable, "launch.py", *SMALL_LI_FLAGS, f"--workdir={workdir}", f"--data_dir={data_dir}"]
    stopped = subprocess.Popen(arguments, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    log = workdir / "metrics.jsonl"
    while stopped.poll() is None and (not log.exists() or not log.read_text()):
        time.sleep(0.001)
    stopped.send_signal(number)
    _, stderr = stopped.communicate(timeout=120)
    assert stopped.returncode == 130, stderr
    assert f"stopped by {number.name}" in stderr and "the same command goes on" in stderr and "Traceback" not in stderr
    done = launch(*SMALL_LI_FLAGS, f"--workdir={workdir}", f"--data_dir={data_dir}")
    assert done.returncode == 0 and "resumed at step" in done.stderr
    assert_same(outcome(workdir), outcome(reference))


@pytest.mark.slow
def test_a_terminal_that_closes_leaves_a_run_that_is_saved(reference, data_dir, tmp_path):
    """Closing the other end of a pseudo-terminal sends SIGHUP, and whatever is written to it then fails."""
    code = (
        "import os, pty, select, sys\n"
        "log, *arguments = sys.argv[1:]\n"
        "child, terminal = pty.fork()\n"
        "if child == 0: os.execv(sys.executable, [sys.executable, *arguments])\n"
        "while not os.path.exists(log) or not os.path.getsize(log):\n"
        "    if select.select([terminal], [], [], 0.001)[0]: os.read(terminal, 2**16)\n"
        "os.close(terminal)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    workdir = tmp_path / "run"
    arguments = ["launch.py", *SMALL_LI_FLAGS, f"--workdir={workdir}", f"--data_dir={data_dir}"]
    shown = [sys.executable, "-c", code, str(workdir / "metrics.jsonl"), *arguments]
    closed = subprocess.run(shown, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert closed.stdout == "130\n", closed.stderr
    done = launch(*SMALL_LI_FLAGS, f"--workdir={workdir}", f"--data_dir={data_dir}")
    assert done.returncode == 0 and "resumed at step" in done.stderr
    assert_same(outcome(workdir), outcome(reference))


def test_a_hang_up_that_is_ignored_stays_ignored():
    """As nohup starts a program."""
    previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with train.StopSignals() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop.requested(at_evaluation=True)
    finally:
        signal.signal(signal.SIGHUP, previous)


def test_stream_trains_the_same_run_as_resident(reference, data_dir, tmp_path):
    single.run(small_li(run__source="stream"), tmp_path / "run", None, data_dir)
    assert_close(outcome(tmp_path / "run"), outcome(reference))


SHORT_WINDOWS = dict(seconds=7.0, hop_s=5.0, shortest_s=3.0)  # of 30 s tracks: the last ones reach past the end


@pytest.mark.slow
@pytest.mark.parametrize("pad", ["zeros", "repeat"])
def test_windows_are_the_same_from_both_sources(data_dir, tmp_path, pad):
    segment = SHORT_WINDOWS | {"pad": pad}
    for source in ("resident", "stream"):
        config = small_gtzan(data__segment=segment, run__source=source)
        single.run(config, tmp_path / source, None, data_dir)
    assert_same(outcome(tmp_path / "resident"), outcome(tmp_path / "stream"))


def test_segments_are_scored_alone_and_by_track(data_dir, tmp_path):
    result = single.run(small_gtzan(), tmp_path / "run", None, data_dir)
    with np.load(tmp_path / "run" / "predictions" / "test.npz") as saved:
        test = dict(saved)
    tracks = np.unique(test["id"])
    assert len(tracks) == 30 and len(test["id"]) == result["examples"]["test"] == 300
    assert sorted(test["offset"][test["id"] == tracks[0]]) == [66_150 * k for k in range(10)]
    mean = np.array([test["score"][test["id"] == track].mean(0) for track in tracks])
    truth = np.array([test["label"][test["id"] == track][0] for track in tracks])
    metrics, ci95 = result["metrics"]["test"], result["ci95"]["test"]
    assert metrics["accuracy"] == [(test["score"].argmax(1) == test["label"]).mean()]
    assert metrics["accuracy_group"] == [pytest.approx((mean.argmax(1) == truth).mean())]
    for metric in ("accuracy", "accuracy_group", "macro_f1_group"):
        [[low, high]] = ci95[metric]
        assert low <= metrics[metric][0] <= high


def test_fold_file_of_the_real_tracks_keeps_artists_apart(real_raw_dir, tmp_path):
    """The published artist-filtered folds, on the part of GTZAN that is here."""
    folds = SHARED_DATA / "gtzan_artist_filtered_folds.csv"
    config = small_gtzan(data__variant="released", data__split_file=str(folds), data__test_fold="1")
    result = single.run(config, tmp_path / "run", real_raw_dir, tmp_path / "data")
    note, *_ = result["notes"]
    assert "clips are not in it and left out" in note and result["examples"]["absent"] == {"all": 940}
    with open(folds) as file:
        fold_of = {line.split(",")[0]: line.split(",")[2].strip() for line in file}
    with np.load(tmp_path / "run" / "predictions" / "test.npz") as saved:
        assert {fold_of[clip] for clip in saved["id"]} == {"1"}


def test_subsets_are_scored_apart(data_dir, tmp_path):
    """Public and Private clips of FSDKaggle2018's test, verified and unverified ones of train."""
    config = config_of(
        "ntu_freesound",
        "cnn2d_mfcc",
        data__variant="stand_in",
        data__subset_weights={"unverified": 0.5},
        model__stages=(("image",), ("conv", 4, 3, 2), ("average",)),
        run__first_layer=True,
        **dict(frontend__hop_samples=2048, epochs=0.0, steps=2, eval_every=2),
    )
    result = single.run(config, tmp_path / "run", None, data_dir)
    judged = {"valid", "test", "test_public", "test_private"}
    assert result["metrics"].keys() == judged | {"train", "train_verified", "train_unverified"}
    for names in (("test", "test_public", "test_private"), ("train", "train_verified", "train_unverified")):
        whole, one, other = (result["metrics"][name]["map_at_3_group"][0] for name in names)
        assert min(one, other) <= whole <= max(one, other)
    assert result["ci95"].keys() == judged
    [(low, high)] = result["ci95"]["test_private"]["map_at_3_group"]
    assert low <= result["metrics"]["test_private"]["map_at_3_group"][0] <= high
    with np.load(tmp_path / "run" / "plots" / "first_layer.npz") as arrays:
        assert arrays["id"] == "test-00000-Acoustic_guitar" and arrays["response"].shape[-1] == 4


def test_early_stopping_freezes_what_was_best(data_dir, tmp_path):
    config = small_li(steps=400, eval_every=2, run__steps_per_call=2, early_stopping=3, select="loss", optim__lr=0.3)
    result = single.run(config, tmp_path / "run", None, data_dir)
    assert result["steps"] == result["best_step"][0] + 3 * 2 < 400


@pytest.mark.slow
def test_second_start_compiles_nothing(reference, data_dir, tmp_path):
    """Every program of a second run comes from the persistent cache."""
    code = (
        "import sys, jax, runpy\n"
        "missed = []\n"
        "jax.monitoring.register_event_listener(lambda e, **k: missed.append(e) if 'cache_misses' in e else None)\n"
        "sys.argv = ['launch.py'] + sys.argv[1:]\n"
        "try:\n  runpy.run_path('launch.py', run_name='__main__')\n"
        "finally:\n  print('missed', len(missed))\n"
    )
    run = [sys.executable, "-c", code, *SMALL_LI_FLAGS, f"--data_dir={data_dir}"]
    for attempt in range(2):
        done = subprocess.run(
            [*run, f"--workdir={tmp_path / str(attempt)}"], cwd=ROOT, capture_output=True, text=True, timeout=240
        )
        assert done.returncode == 0, done.stderr
    assert "missed 0" in done.stdout


@pytest.mark.slow
def test_trains_without_tensorflow_from_prepared_arrays(data_dir, tmp_path):
    """A host where importing TensorFlow or TFDS fails trains all the same."""
    code = (
        "import sys, runpy\n"
        "for name in ('tensorflow', 'tensorflow_datasets', 'soundfile'): sys.modules[name] = None\n"
        "sys.argv = ['launch.py'] + sys.argv[1:]\n"
        "runpy.run_path('launch.py', run_name='__main__')\n"
    )
    run = [sys.executable, "-c", code, *SMALL_LI_FLAGS, f"--data_dir={data_dir}", f"--workdir={tmp_path / 'run'}"]
    done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "result.json").exists()


@pytest.mark.slow
def test_full_disk_while_saving_is_said_and_survived(reference, data_dir, tmp_path):
    """A file-size limit stands in for the full disk: whatever is larger cannot be written."""
    code = (
        "import resource, sys, runpy\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))\n"
        "sys.argv = ['launch.py'] + sys.argv[1:]\n"
        "runpy.run_path('launch.py', run_name='__main__')\n"
    )
    workdir = tmp_path / "run"
    run = [sys.executable, "-c", code, *SMALL_LI_FLAGS, f"--data_dir={data_dir}", f"--workdir={workdir}"]
    failed = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert failed.returncode == 1
    # Orbax's own thread prints its traceback as well, now before our sentence, now after it.
    [said] = [line for line in failed.stderr.splitlines() if line.startswith("audiojax: ")]
    assert "a checkpoint cannot be saved" in said and "free some space" in said
    done = launch(*SMALL_LI_FLAGS, f"--workdir={workdir}", f"--data_dir={data_dir}")
    assert done.returncode == 0, done.stderr
    assert_same(outcome(workdir), outcome(reference))


def test_a_damaged_checkpoint_of_a_finished_run_is_refused_and_trained_anew_from_the_one_before(
    reference, data_dir, tmp_path
):
    workdir = shutil.copytree(reference, tmp_path / "run")
    [largest] = sorted((workdir / "checkpoints" / "24").rglob("*"), key=lambda path: path.stat().st_size)[-1:]
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 4
    largest.write_bytes(content)
    with pytest.raises(
        RunError, match=f"damaged .*; remove {workdir / 'result.json'} and start that run's command again"
    ):
        trained.load(workdir)
    (workdir / "result.json").unlink()
    done = launch_here(*SMALL_LI_FLAGS, f"--workdir={workdir}", f"--data_dir={data_dir}")
    assert done.returncode == 0 and "24 is damaged" in done.stderr and "resumed at step 16" in done.stderr
    assert_same(outcome(workdir), outcome(reference))
    np.testing.assert_array_equal(trained.load(workdir).best.step, [24])


def test_non_finite_loss_stops_the_run_and_names_step_and_quantity(data_dir, tmp_path):
    from audiojax.errors import NonFiniteError

    with pytest.raises(NonFiniteError, match=r"(loss|grad_norm) is (nan|inf) at step \d+"):
        single.run(small_li(optim__name="sgd", optim__lr=1e30), tmp_path / "run", None, data_dir)
    assert not (tmp_path / "run" / "result.json").exists()


def test_unwritable_workdir_is_refused(data_dir, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be written"):
        single.run(small_li(), tmp_path / "file" / "run", None, data_dir)


@pytest.mark.parametrize("key", ["task.competition", "optim.average_share", "dtype"])
def test_a_run_of_another_version_is_said_when_it_is_loaded(tmp_path, key):
    config = small_li().to_dict()
    *sections, last = key.split(".")
    section = config
    for name in sections:
        section = section[name]
    del section[last]
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "result.json").write_text(json.dumps({"best_step": [1], "steps": 1, "classes": ["cat", "dog"]}))
    with pytest.raises(
        RunError, match=f"was trained by another version of audiojax, whose config.json has no .*{last}"
    ):
        trained.load(tmp_path)
