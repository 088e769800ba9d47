"""Preparation: what is absent, and what was interrupted."""

import json
import os
import pathlib
import subprocess
import sys
import time

import numpy as np
import pytest

from audiojax.data import prepared, store
from audiojax.data.prepare import prepare
from audiojax.errors import ConfigError, DataError
from tests.conftest import ROOT
from tests.data.releases import encode, inputs_by_id, prepared_after, samples_of, track, write_files


def test_absent_release_is_said(tmp_path):
    with pytest.raises(DataError, match="has no folder nsynth"):
        prepared_after("nsynth", tmp_path, tmp_path)
    (tmp_path / "nsynth").mkdir()
    with pytest.raises(DataError, match="neither nsynth-SPLIT/ nor"):
        prepared_after("nsynth", tmp_path, tmp_path)
    with pytest.raises(ConfigError, match="data.name='nsinth' is unknown; known: .*nsynth"):
        prepare("nsinth", "released", tmp_path, tmp_path, True)


def test_killed_preparation_goes_on_where_it_stopped(tmp_path):
    """After SIGKILL nothing passes for prepared data; the second start reads only what is missing; the bytes agree."""
    folder = tmp_path / "raw" / "gtzan" / "genres" / "rock"
    write_files(folder, {f"{n:03d}.wav": encode(samples_of(n, 200_000), 48_000) for n in range(100)})
    prepare("gtzan", "released", tmp_path / "raw", tmp_path / "whole", True)
    killed = tmp_path / "killed"
    code = (
        "import pathlib, sys\nfrom audiojax.data.prepare import prepare\n"
        "prepare('gtzan', 'released', pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), True)\n"
    )
    journal = killed / "gtzan" / "released" / "partial" / "all.journal"
    command = [sys.executable, "-c", code, tmp_path / "raw", killed]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as first:
        while first.poll() is None and not (journal.exists() and journal.read_bytes().count(b"\n") > 3):
            time.sleep(0.001)
        first.kill()
    assert prepared.find("gtzan", "released", killed) is None
    done = [json.loads(line)["what"] for line in journal.read_text().split("\n")[:-1]]
    assert 3 < len(done) < 100
    for path in done[:-1]:  # The last one's samples may be half-written.
        content, times = bytearray(pathlib.Path(path).read_bytes()), os.stat(path)
        content[-1000:] = b"not to be read again".ljust(1000)
        pathlib.Path(path).write_bytes(content)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    prepare("gtzan", "released", tmp_path / "raw", killed, True)
    one, two = (prepared.find("gtzan", "released", path) for path in (tmp_path / "whole", killed))
    for path in (store.inputs_path, store.index_path):
        assert path(one.folder, "all").read_bytes() == path(two.folder, "all").read_bytes()
    assert one.examples == two.examples == {"all": 100} and one.changes == two.changes == {"resampled": 100}
    assert [path.name for path in (killed / "gtzan" / "released").iterdir()] == ["3.0.0"]


def test_killed_preparation_of_another_release_starts_afresh(tmp_path):
    write_files(tmp_path / "one" / "gtzan", {"pop/a.wav": track(1), "pop/b.wav": b"broken"})
    write_files(tmp_path / "two" / "gtzan", {"pop/a.wav": track(2)})
    with pytest.raises(DataError):
        prepared_after("gtzan", tmp_path / "one", tmp_path, strict=True)
    data = prepared_after("gtzan", tmp_path / "two", tmp_path, strict=True)
    np.testing.assert_array_equal(inputs_by_id(data, "all")["a"], samples_of(2))


def describe(folder):
    """Writes the description of a prepared data set into `folder`."""
    folder.mkdir(parents=True)
    fields = dict(name="gtzan", variant="released", input="audio", step_shape=(), input_dtype="int16")
    fields |= dict(sample_rate_hz=1, longest=1, multi_label=False, classes=[], examples={}, released_examples={})
    prepared.Prepared(folder=folder, **fields, skipped=[], changes={}).save()


def test_only_data_of_this_version_are_found(tmp_path):
    for version in ("2.0.0", "10.0.0", "3.0.0 (copy)", "3.0.0.incomplete1A2B", "99.old"):
        describe(tmp_path / "gtzan" / "released" / version)
    assert prepared.find("gtzan", "released", tmp_path) is None
    describe(tmp_path / "gtzan" / "released" / prepared.VERSION)
    assert prepared.find("gtzan", "released", tmp_path).folder.name == prepared.VERSION


@pytest.mark.parametrize("value", ["", None])
def test_an_empty_data_folder_of_the_environment_is_none(monkeypatch, value):
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    if value is not None:
        monkeypatch.setenv("TFDS_DATA_DIR", value)
    assert prepared.default_data_dir() == pathlib.Path("~/tensorflow_datasets").expanduser()
