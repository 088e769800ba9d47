"""Checkpoints: kept, complete before they count, checked before they are used, restored on any devices."""

import errno
import json
import os
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from audiojax import checkpoint, durable
from audiojax import mesh as meshes
from audiojax.checkpoint import MANIFEST, Checkpoints
from audiojax.errors import RunError
from tests.test_mesh import in_processes


def tree_of(step: int) -> dict:
    """Something like a run's state; the best step is the last even one."""
    weights = jax.random.normal(jax.random.key(step), (2, 300))
    return {"state": {"weights": weights}, "best": {"step": jnp.full(2, step // 2 * 2), "average": None}}


LIKE = jax.tree.map(jnp.zeros_like, tree_of(0))


def saved(folder: pathlib.Path, steps: range, keep: int = 2) -> pathlib.Path:
    with Checkpoints(folder, keep) as checkpoints:
        for step in steps:
            checkpoints.save(step, tree_of(step), {"time_s": {"train": float(step)}})
        checkpoints.wait()
    return folder


def assert_restores(folder: pathlib.Path, step: int) -> None:
    with Checkpoints(folder, 2) as checkpoints:
        assert checkpoints.latest_step() == step
        tree, progress = checkpoints.restore(LIKE)
    jax.tree.map(np.testing.assert_array_equal, tree, tree_of(step))
    assert progress == {"time_s": {"train": float(step)}}


def names(folder: pathlib.Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.fixture(scope="session")
def two(tmp_path_factory) -> pathlib.Path:
    """The folder of two checkpoints, of the steps 2 and 3."""
    return saved(tmp_path_factory.mktemp("run") / "checkpoints", range(1, 4))


@pytest.fixture
def folder(two, tmp_path) -> pathlib.Path:
    """A copy of it."""
    return shutil.copytree(two, tmp_path / "checkpoints")


def flip(path: pathlib.Path, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[bit // 8 % len(content)] ^= 1 << bit % 8
    path.write_bytes(content)


def test_the_newest_are_kept_each_with_a_manifest_of_all_its_files(two):
    assert names(two) == {"2", "3"}
    files = {str(path.relative_to(two / "3")) for path in (two / "3").rglob("*") if path.is_file()}
    assert json.loads((two / "3" / MANIFEST).read_text()).keys() == files - {MANIFEST}
    assert_restores(two, 3)


def test_any_flipped_bit_is_seen(folder):
    for number, name in enumerate(checkpoint.fingerprints(folder / "3")):
        path = folder / "3" / name
        whole, bits = path.read_bytes(), 8 * path.stat().st_size
        if path.name == MANIFEST:
            continue  # A bit of its white space changes nothing.
        for bit in {0, bits - 1, number * 7919 % bits}:
            flip(path, bit)
            assert checkpoint.damage(folder / "3").startswith(f"{name} is missing or has changed")
            path.write_bytes(whole)
    assert checkpoint.damage(folder / "3") is None


DAMAGES = {
    "bit": lambda path: flip(next(path.glob("tree/d/*")), 4567),
    "cut": lambda path: os.truncate(next(path.glob("tree/d/*")), 100),
    "empty": lambda path: (path / "progress" / "metadata").write_text(""),
    "missing": lambda path: (path / "tree" / "_METADATA").unlink(),
    "no manifest": lambda path: (path / MANIFEST).unlink(),
    "empty manifest": lambda path: (path / MANIFEST).write_text(""),
    "zeros for a manifest": lambda path: (path / MANIFEST).write_bytes(bytes(500)),
    "another manifest": lambda path: (path / MANIFEST).write_text("[1]"),
    "empty folder": lambda path: (shutil.rmtree(path), path.mkdir()),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_one_before_a_damaged_one_is_taken_and_its_step_can_be_saved_again(folder, damage, capsys):
    DAMAGES[damage](folder / "3")
    assert_restores(folder, 2)
    assert f"{folder / '3'} is damaged" in (said := capsys.readouterr().err) and "renamed to damaged_3" in said
    assert names(folder) == {"2", "damaged_3"}
    saved(folder, range(3, 4))
    assert_restores(folder, 3)
    DAMAGES[damage](folder / "3")
    assert_restores(folder, 2)
    assert names(folder) == {"2", "damaged_3", "damaged_3_2"}


def test_where_all_are_damaged_nothing_is_moved_and_nothing_trained_anew_in_silence(folder):
    for step in ("2", "3"):
        DAMAGES["bit"](folder / step)
    for _ in range(2):
        with pytest.raises(RunError, match=f"all checkpoints in {folder} are damaged .*move that folder away") as error:
            Checkpoints(folder, 2)
        with pytest.raises(RunError, match=f"all checkpoints in {folder} are damaged .*move that folder and .*result"):
            checkpoint.read(folder)
        assert "\n" not in str(error.value) and names(folder) == {"2", "3"}


def test_checkpoints_from_before_there_were_manifests_go_on(folder, capsys):
    for path in folder.glob("*/" + MANIFEST):
        path.unlink()
    assert_restores(folder, 3)
    assert "used without a check" in capsys.readouterr().err
    saved(folder, range(4, 5))
    DAMAGES["bit"](folder / "4")
    assert_restores(folder, 3)


def test_one_that_does_not_fit_is_not_called_damaged(folder):
    with Checkpoints(folder, 2) as checkpoints, pytest.raises(RunError, match="of another network") as error:
        checkpoints.restore({"state": jnp.zeros(3)})
    assert "damaged" not in str(error.value) and "\n" not in str(error.value)


def test_what_a_kill_leaves_half_written_is_removed(folder):
    for name in ("partial_4.orbax-checkpoint-tmp", "partial_4", "5.orbax-checkpoint-tmp"):
        shutil.copytree(folder / "3", folder / name)
    assert_restores(folder, 3)
    assert names(folder) == {"2", "3"}


def test_everything_is_on_disk_before_a_checkpoint_counts_and_that_before_older_ones_go(tmp_path, monkeypatch):
    done, log = [], tmp_path / "log"
    fsync, rename, rmtree = os.fsync, os.rename, shutil.rmtree
    path_of = lambda opened: pathlib.Path(os.readlink(f"/proc/self/fd/{opened}"))
    monkeypatch.setattr(os, "fsync", lambda opened: (done.append(("sync", path_of(opened))), fsync(opened)))
    monkeypatch.setattr(os, "rename", lambda old, new: (done.append(("rename", pathlib.Path(new))), rename(old, new)))
    monkeypatch.setattr(shutil, "rmtree", lambda path: (done.append(("remove", path)), rmtree(path)))
    log.write_text("a line")
    with Checkpoints(tmp_path / "checkpoints", 1, lambda: durable.sync(log)) as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, tree_of(step), {})
        checkpoints.wait()
        folder = tmp_path / "checkpoints"
        counts = done.index(("rename", folder / "2"))
        partial = folder / "partial_2"
        whole = [folder / "2", *(folder / "2").rglob("*")]
        synced = {path for kind, path in done[:counts] if kind == "sync"}
        assert {partial / path.relative_to(folder / "2") for path in whole} | {log} <= synced
        assert done[counts + 1] == ("sync", folder)
        assert ("remove", folder / "partial_1") in done[counts + 2 :] and names(folder) == {"2"}


def test_a_failed_save_says_what_failed_and_ends_at_once(folder):
    with Checkpoints(folder, 2) as checkpoints, pytest.raises(RunError, match="step 2 is kept: another run writes"):
        shutil.move(folder / "3", folder / "damaged_3")
        (folder / "partial_3").mkdir()
        checkpoints.save(3, tree_of(3), {})
    shutil.rmtree(folder)
    with Checkpoints(folder, 2) as checkpoints, pytest.raises(RunError, match="no earlier one exists"):
        folder.rmdir()
        folder.write_text("in the way")
        checkpoints.save(1, tree_of(1), {})
        checkpoints.wait()


@pytest.mark.parametrize(
    "number, advice",
    [
        (errno.ENOSPC, "free some space"),
        (errno.EDQUOT, "free some space"),
        (errno.EACCES, "make it writable"),
        (errno.EROFS, "make it writable"),
        (errno.EEXIST, "another run writes there"),
        (errno.EIO, "repair that"),
    ],
)
def test_what_failed_decides_what_to_do(number, advice):
    try:
        try:
            raise OSError(number, os.strerror(number))
        except OSError as error:
            raise ValueError("Failed to write\nmuch more") from error
    except ValueError as error:
        assert advice in checkpoint.explain(error)[1]
    reason, found = checkpoint.explain(ValueError(f"INTERNAL: [OS error: {os.strerror(number)}] [a='b']\nmore"))
    assert advice in found and "\n" not in reason


def test_of_a_finished_run_an_older_one_serves_where_it_holds_the_chosen_weights(folder, capsys):
    flip(next((folder / "3").glob("tree/d/*")), 99)
    tree = checkpoint.read(folder, chosen=[2, 2])
    np.testing.assert_array_equal(tree["state"]["weights"], tree_of(2)["state"]["weights"])
    assert "step 2 holds the same chosen weights" in capsys.readouterr().err
    for chosen in ([3, 3], None):
        with pytest.raises(RunError, match="result.json .*goes on from step 2"):
            checkpoint.read(folder, chosen=chosen)
    assert names(folder) == {"2", "3"}


def restore_and_save(folder: pathlib.Path, step: int, cpu_devices: int) -> None:
    """Restores what `step - 1` has saved, on a mesh of so many devices of each process, and saves `step`."""
    mesh = meshes.make_mesh(2, 8, cpu_devices)
    values = lambda step: np.arange(step, step + 600, dtype=np.float32).reshape(2, 300)
    put = lambda step: meshes.put({"w": values(step)}, mesh, meshes.STATE)
    shards = lambda tree: {str(shard.index): np.asarray(shard.data) for shard in tree["w"].addressable_shards}
    assert mesh.size == cpu_devices * jax.process_count()
    with Checkpoints(folder, 1) as checkpoints:
        assert checkpoints.latest_step() == (step - 1 or None)
        if step > 1:
            tree, progress = checkpoints.restore(put(0))
            jax.tree.map(np.testing.assert_array_equal, shards(tree), shards(put(step - 1)))
            assert tree["w"].sharding == put(0)["w"].sharding and progress == {"step": step - 1}
            on_host = checkpoint.read(folder)["w"]
            assert isinstance(on_host, np.ndarray)
            np.testing.assert_array_equal(on_host, values(step - 1))
        checkpoints.save(step, put(step), {"step": step})
        checkpoints.wait()


def test_it_is_restored_on_whatever_devices_and_processes_there_are(tmp_path):
    """On 1, 2 and 1 devices, on 8 of two processes, then on 2 and 1 again."""
    folder = tmp_path / "c"
    for step, cpu_devices in enumerate((1, 2, 1), 1):
        restore_and_save(folder, step, cpu_devices)
    code = f"from tests import test_checkpoint as test; test.restore_and_save(test.pathlib.Path({str(folder)!r}), 4, 4)"
    for done in in_processes(code, cpu_devices=4):
        assert done.returncode == 0, done.stderr
    for step, cpu_devices in enumerate((2, 1), 5):
        restore_and_save(folder, step, cpu_devices)
