"""Prepared data on disk: damage of any of its files, and whether it is of the release that is asked for."""

import json
import os
import pathlib
import shutil

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from audiojax.data import prepared, release, store
from audiojax.data.open import open_data
from audiojax.data.prepare import prepare
from audiojax.errors import DataError
from tests.conftest import config_of
from tests.data.releases import inputs_by_id, samples_of, track, write_files

NAME, VARIANT = "gtzan", "released"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A release of three tracks, prepared: the folder of releases and that of the data."""
    root = tmp_path_factory.mktemp("whole")
    write_files(root / "raw" / "gtzan", {f"pop/{n}.wav": track(n) for n in range(3)})
    prepare(NAME, VARIANT, root / "raw", root / "data", True)
    return root


@pytest.fixture
def copy(whole, tmp_path):
    """The same, to be damaged."""
    return pathlib.Path(shutil.copytree(whole, tmp_path / "copy"))


def open_all(root: pathlib.Path) -> None:
    """As a run opens its data."""
    prepared.find(NAME, VARIANT, root / "data").verify(whole=False)


def file_of(root: pathlib.Path, name: str) -> pathlib.Path:
    return prepared.folder_of(NAME, VARIANT, root / "data") / name


@hypothesis.settings(max_examples=60, deadline=None, suppress_health_check=list(hypothesis.HealthCheck))
@hypothesis.given(st.sampled_from(["all.inputs", "all.index.npz", "audiojax.json"]), st.data())
def test_any_flipped_bit_and_any_cut_is_named(whole, tmp_path_factory, name, data):
    root = pathlib.Path(shutil.copytree(whole, tmp_path_factory.mktemp("copy") / "copy"))
    path = file_of(root, name)
    content = bytearray(path.read_bytes())
    read = len(content) - (4_000 if name == "all.inputs" else 1)  # Behind the inputs lie zeros that no clip has.
    if data.draw(st.booleans(), "cut"):
        content = content[: data.draw(st.integers(0, len(content) - 1), "bytes left")]
    else:
        content[data.draw(st.integers(0, read - 1), "byte")] ^= 1 << data.draw(st.integers(0, 7), "bit")
    path.write_bytes(content)
    if name == "audiojax.json" and not_json_differs(whole, content):
        return open_all(root)
    with pytest.raises(DataError, match=r"is damaged.*delete .* and prepare gtzan again"):
        open_all(root)


def not_json_differs(whole: pathlib.Path, content: bytes) -> bool:
    """Whether a changed description still says the same, as where its last newline or indent has become another."""
    try:
        return json.loads(content) == json.loads(file_of(whole, "audiojax.json").read_bytes())
    except ValueError:
        return False


@pytest.mark.parametrize("name", ["all.inputs", "all.index.npz"])
def test_absent_file_is_named(copy, name):
    file_of(copy, name).unlink()
    with pytest.raises(DataError, match=f"{name} is damaged: it cannot be read"):
        open_all(copy)


def test_damage_is_said_by_clip_and_large_data_are_verified_on_demand(copy, monkeypatch):
    data = prepared.find(NAME, VARIANT, copy / "data")
    start = data.index("all").start[1]
    path = file_of(copy, "all.inputs")
    content = bytearray(path.read_bytes())
    content[2 * start + 7] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="the samples of 1 have changed since they were prepared"):
        open_all(copy)
    monkeypatch.setattr(prepared, "QUICK_BYTES", 0)
    open_all(copy)
    with pytest.raises(DataError, match="the samples of 1 have changed"):
        data.verify(whole=True)
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=f"has {len(content) // 2:,} bytes instead of {len(content):,}"):
        open_all(copy)


def test_what_a_killed_preparation_left_is_not_taken(copy):
    folder = prepared.folder_of(NAME, VARIANT, copy / "data")
    folder.rename(folder.with_name("3.0.0.incomplete0A1B2C"))
    assert prepared.find(NAME, VARIANT, copy / "data") is None
    prepare(NAME, VARIANT, copy / "raw", copy / "data", True)
    open_all(copy)


def section(**overrides):
    return config_of("fagan_gtzan", "cnn1d_gap", data__variant=VARIANT, **overrides)


def test_another_release_is_refused_however_it_differs(copy):
    source, opened = copy / "raw" / "gtzan", lambda raw: open_data(section(), raw, copy / "data")
    assert opened(copy / "raw").examples == opened(None).examples == {"all": 3}
    moved = copy / "elsewhere"
    shutil.copytree(copy / "raw", moved)  # with the times of its files
    (moved / "gtzan" / ".DS_Store").write_bytes(b"x")
    assert opened(moved).examples == {"all": 3}
    with pytest.raises(DataError, match="nowhere has no folder gtzan"):
        opened(copy / "nowhere")

    times = os.stat(source / "pop" / "1.wav")
    (source / "pop" / "1.wav").write_bytes(track(9))
    assert os.stat(source / "pop" / "1.wav").st_size == times.st_size
    with pytest.raises(DataError, match="was not prepared from .*names, sizes or times.*or leave --raw_dir out"):
        opened(copy / "raw")
    for change in (
        lambda: (moved / "gtzan" / "pop" / "3.wav").write_bytes(track(3)),
        lambda: (moved / "gtzan" / "pop" / "3.wav").rename(moved / "gtzan" / "pop" / "4.wav"),
        lambda: shutil.rmtree(moved / "gtzan" / "pop"),
    ):
        change()
        with pytest.raises(DataError, match="was not prepared from .*elsewhere.*but from .*raw"):
            opened(moved)


def test_interrupted_preparation_starts_afresh_where_the_release_was_mended(tmp_path):
    write_files(tmp_path / "raw" / "gtzan", {"pop/a.wav": track(1), "pop/b.wav": b"broken"})
    with pytest.raises(DataError, match="b.wav"):
        prepare(NAME, VARIANT, tmp_path / "raw", tmp_path / "data", True)
    write_files(tmp_path / "raw" / "gtzan", {"pop/a.wav": track(2), "pop/b.wav": track(3)})
    prepare(NAME, VARIANT, tmp_path / "raw", tmp_path / "data", True)
    data = prepared.find(NAME, VARIANT, tmp_path / "data")
    np.testing.assert_array_equal(inputs_by_id(data, "all")["a"], samples_of(2))


def test_links_that_lead_back_end(tmp_path):
    write_files(tmp_path / "raw", {"pop/a.wav": b"1"})
    (tmp_path / "raw" / "pop" / "loop").symlink_to(tmp_path / "raw")
    (tmp_path / "raw" / "pop" / "nowhere").symlink_to(tmp_path / "absent")
    one = release.fingerprint(tmp_path / "raw")
    assert (
        one == release.fingerprint(tmp_path / "raw") != release.fingerprint(tmp_path / "raw" / "pop" / "loop" / "pop")
    )


def test_index_is_of_the_clips_alone(whole):
    data = prepared.find(NAME, VARIANT, whole / "data")
    index = data.index("all")
    assert store.damaged_clips(index, data.inputs("all")) == [] and index.digest.shape == (3, 16)


def test_files_behind_every_link_count_under_its_name(tmp_path):
    """Whatever the order in which a file system lists its folders."""
    write_files(tmp_path, {"pop/a.wav": b"1"})
    for name in ("one", "two"):
        (tmp_path / name).symlink_to(tmp_path / "pop")
    both = release.fingerprint(tmp_path)
    (tmp_path / "two").unlink()
    assert release.fingerprint(tmp_path) != both
