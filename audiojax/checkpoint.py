"""Saving and restoring a run, by Orbax: in the background, on disk, and checked before it is used."""

import concurrent.futures
import contextlib
import errno
import json
import os
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging

from audiojax import console, durable
from audiojax import mesh as meshes
from audiojax.errors import RunError

MANIFEST = "manifest.json"  # in a checkpoint's folder: bytes and sha256 of each of its files
PARTIAL, DAMAGED = "partial_", "damaged_"  # before the step, in the name of a folder that is no checkpoint
FREE_SPACE = "free some space and start the same command again"
ALLOW_WRITING = "make it writable for this user and start the same command again"
ANOTHER_RUN = "another run writes there: wait for it or choose another --workdir"
ADVICE = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), FREE_SPACE),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), ALLOW_WRITING),
    **dict.fromkeys((errno.EEXIST, errno.ENOTEMPTY), ANOTHER_RUN),
}

# What Orbax logs as an error it also raises, and then it is said in a sentence.
logging.get_absl_logger().addFilter(lambda record: "orbax" not in record.pathname)


class Checkpoints:
    """The checkpoints of the run that writes `folder`, newest `keep` of them, each a folder named after its step.

    A checkpoint is written as partial_STEP. It is renamed once all of it is on disk, with its manifest, and older ones
    are deleted after that.
    """

    def __init__(self, folder: pathlib.Path, keep: int, sync_log: Callable[[], None] = lambda: None):
        """Finds the newest whole checkpoint; moves damaged ones that are newer aside, and says so.

        sync_log: called in the background before a checkpoint counts, so that what was logged up to it is on disk.

        Raises:
          RunError: the folder cannot be written, or it has checkpoints and all of them are damaged.
        """
        self._folder, self._keep, self._sync_log = folder, keep, sync_log
        self._step = meshes.by_first(self._open)
        # A folder that cannot be made is an error at once; made in the background it is waited for, for 300 s.
        in_background = ocp.AsyncOptions(create_directories_asynchronously=False)
        handler = ocp.CompositeCheckpointHandler(composite_options=ocp.CompositeOptions(async_options=in_background))
        self._checkpointer = ocp.AsyncCheckpointer(handler, async_options=in_background)
        self._worker = concurrent.futures.ThreadPoolExecutor(1, "checkpoint")
        self._saving: concurrent.futures.Future | None = None

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_) -> None:
        """Ends what writes in the background. What failed there has been said by `wait`."""
        self._worker.shutdown()
        with contextlib.suppress(Exception):
            self._checkpointer.close()

    def save(self, step: int, tree: Any, progress: dict) -> None:
        """Saves a pytree of arrays and JSON-able values while training goes on.

        Raises:
          RunError: this one, or the one before that was still being written, cannot be saved.
        """
        self.wait()
        arguments = ocp.args.Composite(tree=ocp.args.StandardSave(tree), progress=ocp.args.JsonSave(progress))
        partial = self._folder.absolute() / f"{PARTIAL}{step}"
        self._guard(lambda: self._checkpointer.save(partial, args=arguments))
        self._saving = self._worker.submit(self._complete, step)

    def wait(self) -> None:
        """Returns once everything is on disk. Raises RunError where that failed."""
        saving, self._saving = self._saving, None
        if saving:
            self._guard(saving.result)

    def latest_step(self) -> int | None:
        """The step of the newest whole checkpoint as the run began, None where there was none."""
        return self._step

    def restore(self, like: Any) -> tuple[Any, dict]:
        """That checkpoint, with the structure, types and shardings of `like`, and its JSON part."""
        return restore(self._folder / str(self._step), like)

    def _open(self) -> int | None:
        """Readies the folder; the step of its newest whole checkpoint, None where it has none."""
        try:
            durable.make_folder(self._folder)
            for path in {*self._folder.glob(f"{PARTIAL}*"), *self._folder.glob("*.orbax-checkpoint-tmp")}:
                shutil.rmtree(path)
        except OSError as error:
            raise RunError(f"{self._folder} cannot be written ({error}); choose another --workdir.") from error
        step, damaged = newest(self._folder)
        if damaged and step is None:
            raise RunError(
                f"all checkpoints in {self._folder} are damaged ({listed(damaged)}); move that folder away and start"
                " the same command again, which trains from the beginning."
            )
        for number, reason in damaged.items():
            aside = move_aside(self._folder / str(number))
            console.say(f"{self._folder / str(number)} is damaged ({reason}): moved to {aside.name}, not used.")
        if step is not None and not (self._folder / str(step) / MANIFEST).exists():
            console.say(f"{self._folder / str(step)} has no {MANIFEST}: whether it is damaged cannot be checked.")
        return step

    def _complete(self, step: int) -> None:
        """In the background: once Orbax is done, makes a checkpoint count and deletes older ones."""
        self._checkpointer.wait_until_finished()
        if jax.process_index() != 0:
            return
        partial = self._folder / f"{PARTIAL}{step}"
        manifest = {str(path.relative_to(partial)): fingerprint(path) for path in files(partial)}
        (partial / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
        durable.sync_tree(partial)
        self._sync_log()
        durable.rename(partial, self._folder / str(step))
        for old in steps(self._folder)[: -self._keep]:
            doomed = self._folder / f"{PARTIAL}{old}"  # What is left of it after a kill is no checkpoint.
            os.rename(self._folder / str(old), doomed)
            shutil.rmtree(doomed)

    def _guard(self, operation: Callable[[], Any]) -> None:
        try:
            operation()
        except Exception as error:  # What a full disk raises depends on the layer that met it.
            found = steps(self._folder)
            kept = f"step {found[-1]} is kept" if found else "no earlier one exists"
            reason, advice = explain(error)
            raise RunError(f"a checkpoint cannot be saved in {self._folder} ({reason}); {kept}: {advice}.") from error


def read(folder: pathlib.Path, like: Any = None, chosen: list[int] | None = None) -> Any:
    """The tree of the newest checkpoint of a finished run, whose `checkpoints` are in `folder`; changes nothing there.

    like: as of `Checkpoints.restore`; without it dictionaries of host arrays. chosen: the steps that the run's result
    says were chosen, one a replica: where the newest checkpoint is damaged, an older one that chose the same serves.

    Raises:
      RunError: no whole checkpoint of the weights that the result is of.
    """
    step, damaged = newest(folder)
    result = folder.parent / "result.json"
    if step is None and not damaged:
        raise RunError(f"{folder} has no checkpoint; train that run first.")
    if step is None:
        raise RunError(
            f"all checkpoints in {folder} are damaged ({listed(damaged)}); move that folder and {result} away and start"
            " that run's command again, which trains from the beginning."
        )
    tree = restore(folder / str(step), like)[0] if chosen or not damaged else None
    if damaged and (tree is None or np.asarray(tree["best"]["step"]).tolist() != chosen):
        raise RunError(
            f"the newest checkpoints in {folder} are damaged ({listed(damaged)}), and step {step} is not where that run"
            f" ended; remove {result} and start that run's command again, which goes on from step {step}."
        )
    if damaged:
        console.say(f"{folder}: damaged ({listed(damaged)}); step {step} holds the same chosen weights and is used.")
    return tree


def listed(damaged: dict[int, str]) -> str:
    """What is wrong with each checkpoint, in a line."""
    return "; ".join(f"{step}: {reason}" for step, reason in damaged.items())


def restore(path: pathlib.Path, like: Any = None) -> tuple[Any, dict]:
    """Tree and JSON part of a checkpoint. like: the structure, types and shardings of the tree, on any devices; without
    it dictionaries of host arrays.

    Raises:
      RunError: it cannot be restored, of an undamaged one because it is of another network or version.
    """
    try:
        with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
            if like is None:
                saved = ocp.PyTreeCheckpointer().metadata(path.absolute() / "tree").item_metadata.tree
                on_host = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), saved)
                tree = ocp.args.PyTreeRestore(restore_args=on_host)
            else:
                tree = ocp.args.StandardRestore(jax.tree.map(ocp.utils.to_shape_dtype_struct, like))
            arguments = ocp.args.Composite(tree=tree, progress=ocp.args.JsonRestore())
            restored = checkpointer.restore(path.absolute(), args=arguments)
    except Exception as error:  # What Orbax raises depends on the layer that met it.
        unchecked = "" if (path / MANIFEST).exists() else " or is damaged"
        raise RunError(
            f"{path} cannot be restored ({explain(error)[0]}); it is of another network or version of audiojax"
            f"{unchecked}: choose another --workdir, or move it out of {path.parent} to go on without it."
        ) from error
    return restored["tree"], restored["progress"]


def newest(folder: pathlib.Path) -> tuple[int | None, dict[int, str]]:
    """The step of the newest whole checkpoint, None where there are none; what is wrong with newer ones, by step.

    A checkpoint without a manifest counts as whole where none before it has one: it was saved before there were any.
    """
    found, damaged = steps(folder), {}
    for step in reversed(found):
        path = folder / str(step)
        if (path / MANIFEST).exists():
            reason = damage(path)
        elif any((folder / str(older) / MANIFEST).exists() for older in found if older < step):
            reason = f"{MANIFEST} is missing"
        else:
            reason = None
        if reason is None:
            return step, damaged
        damaged[step] = reason
    return None, damaged


def damage(path: pathlib.Path) -> str | None:
    """What is wrong with a checkpoint by its manifest, None where nothing is."""
    try:
        for name, written in json.loads((path / MANIFEST).read_text()).items():
            if not (path / name).exists():
                return f"{name} is missing"
            if fingerprint(path / name) != written:
                return f"{name} is not as it was written"
    except (OSError, ValueError, AttributeError) as error:
        return f"it cannot be read: {error}"
    return None


def files(folder: pathlib.Path) -> list[pathlib.Path]:
    """All files in a folder and its folders."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def fingerprint(path: pathlib.Path) -> dict:
    """A file's size and sha256."""
    return {"bytes": path.stat().st_size, "sha256": durable.sha256(path)}


def steps(folder: pathlib.Path) -> list[int]:
    """The steps of the checkpoints in a folder, whole or not, in order."""
    return sorted(int(path.name) for path in folder.glob("[0-9]*") if path.name.isdecimal())


def move_aside(path: pathlib.Path) -> pathlib.Path:
    """Renames a damaged checkpoint, so that its step can be saved again; returns where it is."""
    aside, number = path.with_name(f"{DAMAGED}{path.name}"), 1
    while aside.exists():
        number += 1
        aside = path.with_name(f"{DAMAGED}{path.name}_{number}")
    durable.rename(path, aside)
    return aside


def explain(error: BaseException) -> tuple[str, str]:
    """What failed, in a line, and what to do about it."""
    one = error
    while one:
        for number, advice in ADVICE.items():
            if getattr(one, "errno", None) == number:
                return first_line(one), advice
            if os.strerror(number) in str(one):  # A library has put the number into words.
                return os.strerror(number), advice
        if "already exists" in str(one):
            return first_line(one), ANOTHER_RUN
        one = one.__cause__ or one.__context__
    return first_line(error), "mend that and start the same command again"


def first_line(error: BaseException) -> str:
    """What an exception says, in a line."""
    return (str(error).strip() or type(error).__name__).split("\n")[0][:300]
