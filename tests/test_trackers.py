"""Trackers get a run's metrics from its writer; TensorBoard's files hold them."""

import json
import os
import struct
import subprocess
import sys

import jax
import pytest

from audiojax import names, trackers
from audiojax.errors import ConfigError
from audiojax.writer import Writer
from tests.conftest import ROOT


class Recorder:
    """Records the calls of a writer."""

    calls = []

    def __init__(self, workdir):
        self.calls.append(("made", workdir))

    def begin(self, step):
        self.calls.append(("begin", step))

    def log(self, step, values):
        self.calls.append(("log", step, values))

    def sync(self):
        self.calls.append(("sync",))

    def close(self):
        self.calls.append(("close",))


@pytest.fixture
def recorder(monkeypatch):
    Recorder.__module__ = trackers.__name__
    monkeypatch.setattr(trackers, "Recorder", Recorder, raising=False)
    Recorder.calls.clear()
    return Recorder.calls


def test_a_new_class_is_a_tracker_that_a_config_can_name(tmp_path, recorder):
    writer = Writer(tmp_path, {"run": {"trackers": ["recorder"]}})
    writer.begin(3)
    writer.log(4, {"loss": [1.0, float("inf")]})
    writer.sync_log()
    writer.close()
    logged = ("log", 4, {"loss": [1.0, float("inf")]})
    assert recorder == [("made", tmp_path), ("begin", 3), logged, ("sync",), ("close",)]
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {"step": 4, "loss": [1.0, None]}
    assert sorted(os.listdir(tmp_path)) == ["config.json", "metrics.jsonl"]


def test_only_the_first_process_writes_and_tracks(tmp_path, recorder, monkeypatch):
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    writer = Writer(tmp_path, {"run": {"trackers": ["recorder"]}})
    writer.begin(-1)
    writer.log(1, {"loss": [1.0]})
    writer.result({})
    writer.close()
    assert recorder == [] and os.listdir(tmp_path) == []


def test_an_unknown_tracker_is_refused_with_those_that_exist(tmp_path):
    with pytest.raises(ConfigError, match="run.trackers='clock' is unknown; known: .*tensorboard"):
        Writer(tmp_path, {"run": {"trackers": ("clock",)}})
    assert names.tracker("tensorboard") is trackers.TensorBoard


def records(path) -> bytes:
    """The records of an event file, checksums left out."""
    content, found = path.read_bytes(), b""
    while content:
        [size] = struct.unpack("<Q", content[:8])
        found, content = found + content[12 : 12 + size], content[16 + size :]
    return found


def test_tensorboard_has_a_curve_for_each_replica_and_purges_what_a_resumed_run_repeats(tmp_path):
    contents = []
    for step in (-1, 5):
        writer = Writer(tmp_path, {})
        writer.begin(step)
        writer.log(6, {"valid/loss": [1.0, float("nan")], "train/loss": [2.0]})
        writer.close()
        writer.close()
        contents.append(records(max((tmp_path / "tensorboard").iterdir())))  # Names begin with the time.
    assert b"valid/loss/replica_0" in contents[0] and b"train/loss" in contents[0]
    assert b"replica_1" not in contents[0]  # Its value is not finite.
    purge = b"\x10\x06\x3a\x02\x08\x01"  # step 6, session log START
    assert purge in contents[1] and purge not in contents[0]


def test_tensorboard_is_not_started_without_metrics(tmp_path):
    writer = Writer(tmp_path, {})
    writer.begin(0)
    writer.close()
    writer.result({})
    assert sorted(os.listdir(tmp_path)) == ["config.json", "metrics.jsonl", "result.json"]


def test_tensorboard_starts_without_pytorch_and_leaves_it_importable(tmp_path):
    (tmp_path / "torch.py").write_text("print('imported')")
    code = (
        "import pathlib; from audiojax.trackers import summary_writer;"
        f"summary_writer(pathlib.Path({str(tmp_path / 'events')!r}), 0).close(); print('started'); import torch"
    )
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=True)
    assert done.stdout.split() == ["started", "imported"]
    assert list((tmp_path / "events").glob("events.*"))
