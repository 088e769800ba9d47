import json
import os
import pathlib
import threading

import jax
import numpy as np
import pytest

from audiojax import checkpoint, experiment
from audiojax.recipes import single
from audiojax.writer import Writer, finite, provenance
from tests.conftest import small_li


def test_what_is_not_finite_is_null():
    tree = {"a": [1.0, float("nan"), float("-inf")], "b": {"c": float("inf"), "d": "inf", "e": 3}, "f": (True, None)}
    assert json.loads(json.dumps(finite(tree), allow_nan=False)) == {
        "a": [1.0, None, None],
        "b": {"c": None, "d": "inf", "e": 3},
        "f": [True, None],
    }


def test_a_host_without_git_has_no_commit_and_goes_on(monkeypatch, tmp_path):
    assert provenance(jax.devices())["versions"]["jax"]
    monkeypatch.setenv("PATH", str(tmp_path))
    assert provenance(jax.devices())["commit"] is None


def test_everything_of_a_run_is_on_disk_before_its_result(data_dir, tmp_path, monkeypatch):
    fsync, replace, synced, then = os.fsync, os.replace, {}, []

    def note_sync(opened):
        synced[os.fstat(opened).st_ino] = os.fstat(opened).st_mtime_ns
        fsync(opened)

    def note_replace(old, new):
        if new.name == "result.json":
            whole = [path for path in new.parent.rglob("*") if not path.name.startswith(".")]
            then.extend((path, synced.get(path.stat().st_ino)) for path in [*whole, new.parent])
        replace(old, new)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(os, "replace", note_replace)
    single.run(small_li(), tmp_path / "run", None, data_dir)
    kinds = {path.relative_to(tmp_path / "run").parts[0] for path, _ in then if path != tmp_path / "run"}
    assert kinds == {"config.json", "data.json", "metrics.jsonl", "tensorboard", "checkpoints", "predictions"}
    for path, synced_ns in then:
        assert synced_ns is not None, path
        assert path.is_dir() or synced_ns == path.stat().st_mtime_ns, f"{path} is written after it is synced"


def test_the_log_is_on_disk_before_the_checkpoint_of_its_step(data_dir, tmp_path, monkeypatch):
    complete, lines = checkpoint.durable.rename, []
    log = tmp_path / "run" / "metrics.jsonl"
    sync_log = Writer.sync_log
    monkeypatch.setattr(Writer, "sync_log", lambda writer: (lines.append(log.read_text()), sync_log(writer)))

    def note(old, new):
        assert any(json.loads(line)["step"] == int(new.name) for line in lines[-1].splitlines())
        complete(old, new)

    monkeypatch.setattr(checkpoint.durable, "rename", note)
    single.run(small_li(), tmp_path / "run", None, data_dir)
    assert len(lines) >= 3


def test_a_run_that_fails_leaves_nothing_open(data_dir, tmp_path):
    """A table goes on in the same process."""

    def fail(data, task, writer, step, *_):
        if step == 16:
            raise KeyError("something")

    before = set(threading.enumerate())
    with pytest.raises(KeyError, match="something"):
        experiment.run(small_li(), tmp_path / "run", None, data_dir, watch=fail)
    opened = [os.path.realpath(path) for path in pathlib.Path("/proc/self/fd").iterdir()]
    assert not [path for path in opened if path.startswith(str(tmp_path))]
    names = [thread.name for thread in set(threading.enumerate()) - before]
    assert not [name for name in names if "checkpoint" in name or name.startswith("Thread-")]
    left = ["checkpoints", "config.json", "data.json", "metrics.jsonl", "tensorboard"]
    assert sorted(os.listdir(tmp_path / "run")) == left
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["8"]


def test_a_log_cut_short_or_overwritten_is_kept_as_far_as_it_can_be_read(tmp_path):
    writer = Writer(tmp_path, {})
    writer.begin(-1)
    for step in (1, 2, 3):
        writer.log(step, {"loss": [float(step)]})
    writer.close()
    with open(tmp_path / "metrics.jsonl", "ab") as file:
        file.write(b'\0\xff{"step": 2')
    writer = Writer(tmp_path, {})
    writer.begin(2)
    assert [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == [1, 2]
    writer.arrays("samples/step_2", audio=np.zeros(3))
    assert os.listdir(tmp_path / "samples") == ["step_2.npz"]


def test_the_commit_is_this_programs_own(monkeypatch, tmp_path):
    """Not that of the repository in whose hook it runs."""
    commit = provenance(jax.devices())["commit"]
    monkeypatch.setenv("GIT_DIR", str(tmp_path))
    assert provenance(jax.devices())["commit"] == commit
