"""Saving and restoring a run, by Orbax: asynchronous, whole or not at all."""

import contextlib
import pathlib
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from audiojax.errors import RunError


class Checkpoints:
    """The checkpoints of one run, newest `keep` of them."""

    def __init__(self, folder: pathlib.Path, keep: int):
        self._folder = folder
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, enable_async_checkpointing=True)
        try:
            self._manager = ocp.CheckpointManager(folder.absolute(), options=options)
        except OSError as error:
            raise RunError(f"{folder} cannot be written ({error}); choose another --workdir.") from error

    def save(self, step: int, tree: Any, progress: dict) -> None:
        """Saves a pytree of arrays and JSON-able values while training goes on.

        Raises:
          RunError: this one, or the one before that was still being written, cannot be saved.
        """
        arguments = ocp.args.Composite(tree=ocp.args.StandardSave(tree), progress=ocp.args.JsonSave(progress))
        self._guard(lambda: self._manager.save(step, args=arguments, force=True))

    def wait(self) -> None:
        """Returns once everything is on disk. Raises RunError where that failed."""
        self._guard(self._manager.wait_until_finished)

    def latest_step(self) -> int | None:
        """The step of the newest checkpoint, None where there is none."""
        return self._manager.latest_step()

    def restore(self, like: Any = None) -> tuple[Any, dict]:
        """The newest checkpoint, with the structure, types and shardings of `like`, and its JSON part.

        Without `like`: dictionaries of arrays, placed as they were.
        """
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        step = self.latest_step()
        arguments = ocp.args.Composite(tree=ocp.args.StandardRestore(abstract), progress=ocp.args.JsonRestore())
        try:
            restored = self._manager.restore(step, args=arguments)
        except (ValueError, KeyError, OSError) as error:
            raise RunError(
                f"{self._folder}/{step} cannot be restored ({_first_line(error)}); delete that folder to go on from"
                " the one before."
            ) from error
        return restored["tree"], restored["progress"]

    def close(self) -> None:
        """Ends what writes in the background."""
        self._manager.close()

    def _guard(self, operation) -> None:
        try:
            operation()
        except Exception as error:  # What a full disk raises depends on the layer that met it.
            with contextlib.suppress(Exception):
                self._manager.wait_until_finished()  # What still writes would fail, and say so, after us.
            latest = self.latest_step()
            kept = f"step {latest} is kept" if latest is not None else "no earlier one exists"
            raise RunError(
                f"a checkpoint cannot be saved in {self._folder} ({_first_line(error)}); {kept}: free some space"
                " and start the same command again."
            ) from error


def read(folder: pathlib.Path) -> Any:
    """The tree of the newest checkpoint in `folder`, as dictionaries of host arrays; changes nothing there.

    Raises:
      RunError: there is none, or it cannot be read.
    """
    steps = [int(path.name) for path in folder.glob("[0-9]*") if path.name.isdecimal()]
    if not steps:
        raise RunError(f"{folder} has no checkpoint; train that run first.")
    path, checkpointer = (folder / str(max(steps)) / "tree").absolute(), ocp.PyTreeCheckpointer()
    try:
        saved = checkpointer.metadata(path).item_metadata.tree
        on_host = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), saved)
        return checkpointer.restore(path, args=ocp.args.PyTreeRestore(restore_args=on_host))
    except (ValueError, KeyError, OSError) as error:
        raise RunError(f"{path} cannot be read ({_first_line(error)}); take another run.") from error


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:300]
