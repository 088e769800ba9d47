"""Checkpoints of a run, by Orbax: saved in the background, durable, and checked before they are restored."""

import concurrent.futures
import contextlib
import errno
import itertools
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

MANIFEST = "manifest.json"  # in a checkpoint: size and sha256 of each of its files
PARTIAL, DAMAGED = "partial_", "damaged_"  # prefixes of folders that are no checkpoints
FREE_SPACE = "free some space and start the same command again"
ALLOW_WRITING = "make it writable for this user and start the same command again"
ANOTHER_RUN = "another run writes there: wait for it or choose another --workdir"
ADVICE = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), FREE_SPACE),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), ALLOW_WRITING),
    **dict.fromkeys((errno.EEXIST, errno.ENOTEMPTY), ANOTHER_RUN),
}

# Orbax also raises what it logs as errors.
logging.get_absl_logger().addFilter(lambda record: "orbax" not in record.pathname)


class Checkpoints:
    """The newest `keep` checkpoints of a run, each in a subfolder of `folder` named after its step.

    A checkpoint is written to partial_STEP. Once it is on disk with its manifest, it is renamed, and then older ones
    are deleted.
    """

    def __init__(self, folder: pathlib.Path, keep: int, sync_log: Callable[[], None] = lambda: None):
        """Finds the newest intact checkpoint. Renames newer, damaged ones and says so.

        Args:
          sync_log: called in the background before a checkpoint is renamed, so that its log is on disk too.

        Raises:
          RunError: the folder cannot be written, or all its checkpoints are damaged.
        """
        self._folder, self._keep, self._sync_log = folder, keep, sync_log
        self._step = meshes.by_first(self._open)
        # If Orbax made folders in the background, it would wait 300 s for one that cannot be made.
        in_background = ocp.AsyncOptions(create_directories_asynchronously=False)
        handler = ocp.CompositeCheckpointHandler(composite_options=ocp.CompositeOptions(async_options=in_background))
        self._checkpointer = ocp.AsyncCheckpointer(handler, async_options=in_background)
        self._worker = concurrent.futures.ThreadPoolExecutor(1, "checkpoint")
        self._saving: concurrent.futures.Future | None = None

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_) -> None:
        """Stops the background threads. Their errors are raised by `wait` only."""
        self._worker.shutdown()
        with contextlib.suppress(Exception):
            self._checkpointer.close()

    def save(self, step: int, tree: Any, progress: dict) -> None:
        """Saves a pytree of arrays and a dictionary, which JSON can hold, in the background.

        Raises:
          RunError: this checkpoint or the one before, which may still be written, cannot be saved.
        """
        self.wait()
        arguments = ocp.args.Composite(tree=ocp.args.StandardSave(tree), progress=ocp.args.JsonSave(progress))
        partial = self._folder.absolute() / f"{PARTIAL}{step}"
        self._guard(lambda: self._checkpointer.save(partial, args=arguments))
        self._saving = self._worker.submit(self._complete, step)

    def wait(self) -> None:
        """Returns once all checkpoints are on disk. Raises RunError if one cannot be saved."""
        saving, self._saving = self._saving, None
        if saving:
            self._guard(saving.result)

    def latest_step(self) -> int | None:
        """The step of the newest intact checkpoint when this object was made; None if there was none."""
        return self._step

    def restore(self, like: Any) -> tuple[Any, dict]:
        """The tree of that checkpoint, with the structure, types and shardings of `like`, and its dictionary."""
        return restore(self._folder / str(self._step), like)

    def _open(self) -> int | None:
        """Makes the folder and removes partial checkpoints; returns the step of the newest intact one, or None."""
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
            path = self._folder / str(number)
            console.say(f"{path} is damaged ({reason}); it is renamed to {move_aside(path).name} and not used.")
        if step is not None and not (self._folder / str(step) / MANIFEST).exists():
            console.say(f"{self._folder / str(step)} has no {MANIFEST}; it is used without a check.")
        return step

    def _complete(self, step: int) -> None:
        """In the background: waits for Orbax, completes the checkpoint, and deletes older ones."""
        self._checkpointer.wait_until_finished()
        if jax.process_index() != 0:
            return
        partial = self._folder / f"{PARTIAL}{step}"
        (partial / MANIFEST).write_text(json.dumps(fingerprints(partial), indent=1) + "\n")
        durable.sync_tree(partial)
        self._sync_log()
        durable.rename(partial, self._folder / str(step))
        for old in steps(self._folder)[: -self._keep]:
            renamed = self._folder / f"{PARTIAL}{old}"  # After a kill, its remains are no checkpoint.
            os.rename(self._folder / str(old), renamed)
            shutil.rmtree(renamed)

    def _guard(self, operation: Callable[[], Any]) -> None:
        try:
            operation()
        except Exception as error:  # For a full disk, each layer of Orbax raises another type.
            found = steps(self._folder)
            kept = f"step {found[-1]} is kept" if found else "no earlier one exists"
            reason, advice = explain(error)
            raise RunError(f"a checkpoint cannot be saved in {self._folder} ({reason}); {kept}: {advice}.") from error


def read(folder: pathlib.Path, like: Any = None, chosen: list[int] | None = None) -> Any:
    """Reads the tree of the newest checkpoint in a run's folder `checkpoints`; changes no file.

    If that is damaged, an older one with the same chosen steps is read.

    Args:
      like: as in `restore`.
      chosen: the step that the run's result names for each replica.

    Raises:
      RunError: no intact checkpoint holds the chosen weights.
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
    """One line on all damaged checkpoints."""
    return "; ".join(f"{step}: {reason}" for step, reason in damaged.items())


def restore(path: pathlib.Path, like: Any = None) -> tuple[Any, dict]:
    """Reads the tree and the dictionary of a checkpoint. Raises RunError if that fails.

    like: has the structure, types and shardings of the tree. Without it, the tree is dictionaries of NumPy arrays.
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
    except Exception as error:  # Each layer of Orbax raises another type.
        or_damaged = "" if (path / MANIFEST).exists() else " or is damaged"
        raise RunError(
            f"{path} cannot be restored ({explain(error)[0]}); it is of another network or version of audiojax"
            f"{or_damaged}: choose another --workdir, or move it out of {path.parent} to go on without it."
        ) from error
    return restored["tree"], restored["progress"]


def newest(folder: pathlib.Path) -> tuple[int | None, dict[int, str]]:
    """The step of the newest intact checkpoint, or None, and the damage of newer ones by step.

    A checkpoint without a manifest counts as intact if no older one has a manifest either.
    """
    found, damaged = steps(folder), {}
    for step in reversed(found):
        path = folder / str(step)
        if (path / MANIFEST).exists():
            reason = damage(path)
        else:
            older = (folder / str(older) / MANIFEST for older in found if older < step)
            reason = f"{MANIFEST} is missing" if any(manifest.exists() for manifest in older) else None
        if reason is None:
            return step, damaged
        damaged[step] = reason
    return None, damaged


def damage(path: pathlib.Path) -> str | None:
    """Compares a checkpoint with its manifest; returns what is wrong, or None."""
    try:
        found = fingerprints(path)
        written = json.loads((path / MANIFEST).read_text())
        changed = [name for name, fingerprint in written.items() if found.get(name) != fingerprint]
        return f"{changed[0]} is missing or has changed since it was written" if changed else None
    except (OSError, ValueError, AttributeError) as error:
        return f"it cannot be read: {error}"


def fingerprints(folder: pathlib.Path) -> dict[str, dict]:
    """The size and sha256 of all files in a folder and its subfolders."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    fingerprint = lambda path: {"bytes": path.stat().st_size, "sha256": durable.sha256(path)}
    return {str(path.relative_to(folder)): fingerprint(path) for path in paths}


def steps(folder: pathlib.Path) -> list[int]:
    """The steps of all checkpoints in a folder, damaged or not, in order."""
    return sorted(int(path.name) for path in folder.glob("[0-9]*") if path.name.isdecimal())


def move_aside(path: pathlib.Path) -> pathlib.Path:
    """Renames a damaged checkpoint, so that its step can be saved again; returns the new path."""
    names = (f"{DAMAGED}{path.name}" + (f"_{number}" if number > 1 else "") for number in itertools.count(1))
    aside = next(path.with_name(name) for name in names if not path.with_name(name).exists())
    durable.rename(path, aside)
    return aside


def explain(error: BaseException) -> tuple[str, str]:
    """The reason of an error, in one line, and what to do about it. Reads the error's causes too."""
    cause = error
    while cause:
        for number, advice in ADVICE.items():
            if getattr(cause, "errno", None) == number:
                return first_line(cause), advice
            if os.strerror(number) in str(cause):  # Some libraries keep only the text.
                return os.strerror(number), advice
        if "already exists" in str(cause):
            return first_line(cause), ANOTHER_RUN
        cause = cause.__cause__ or cause.__context__
    return first_line(error), "repair that and start the same command again"


def first_line(error: BaseException) -> str:
    """The first line of an exception's message."""
    return (str(error).strip() or type(error).__name__).split("\n")[0][:300]
