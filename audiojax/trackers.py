"""Trackers: where a run's metrics go besides metrics.jsonl. `run.trackers` names these classes in lower case.

The `Writer` makes a tracker in the first process, from the run's folder, and calls:
  begin(step): before the first `log`; what an interrupted run logged after `step` is void.
  log(step, values): values has a list over replicas for each metric.
  sync(): in the background before a checkpoint counts, and before result.json; what was logged should be on disk.
  close(): at the end; may come twice, and without `log`.
"""

import math
import pathlib
import sys

from audiojax import durable


class TensorBoard:
    """Writes event files to the run's folder `tensorboard`, one curve for each metric and replica."""

    def __init__(self, workdir: pathlib.Path):
        self._folder, self._board, self._purge_step = workdir / "tensorboard", None, 0

    def begin(self, step: int) -> None:
        """TensorBoard hides points of an earlier start after `step`."""
        self._purge_step = step + 1

    def log(self, step: int, values: dict[str, list[float]]) -> None:
        """Adds a point to each curve. Values that are not finite are left out."""
        self._board = self._board or summary_writer(self._folder, self._purge_step)
        for name, replicas in values.items():
            for replica, value in enumerate(replicas):
                tag = name if len(replicas) == 1 else f"{name}/replica_{replica}"
                if math.isfinite(value):
                    self._board.add_scalar(tag, value, step)

    def sync(self) -> None:
        """Syncs what TensorBoard has written to its files so far; `close` writes the rest."""
        if self._board:
            durable.sync_tree(self._folder)

    def close(self) -> None:
        """Writes all points to disk."""
        if self._board:
            self._board.close()
            self._board = None
            durable.sync_tree(self._folder)
            durable.sync_folder(self._folder.parent)


def summary_writer(folder: pathlib.Path, purge_step: int):
    """A tensorboardX writer. It imports PyTorch if it can, which takes seconds and is not needed; this prevents it."""
    sys.modules.setdefault("torch", None)
    try:
        import tensorboardX
    finally:
        if sys.modules["torch"] is None:
            del sys.modules["torch"]
    return tensorboardX.SummaryWriter(str(folder), purge_step=purge_step)
