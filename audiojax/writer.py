"""What a run leaves in its folder: config.json, metrics.jsonl, TensorBoard events, predictions, result.json."""

import contextlib
import importlib.metadata
import json
import math
import os
import pathlib
import platform
import subprocess
import sys
import zipfile
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from audiojax import durable
from audiojax.errors import RunError

LOG = "metrics.jsonl"
REEVALUATE = "remove it and result.json of that run: the same command evaluates its newest checkpoint and writes both."
PACKAGES = ("audiojax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "scikit-learn")


class Writer:
    """Writes a run's folder; on every process but the first it does nothing."""

    def __init__(self, workdir: pathlib.Path, config: dict):
        self._workdir, self._config = workdir, config
        self._main = jax.process_index() == 0
        self._board, self._purge_step = None, 0

    def begin(self, step: int) -> None:
        """Makes the folder this config's, and forgets what an interrupted run logged after `step`, where it goes on."""
        self._purge_step = step + 1
        if not self._main:
            return
        try:
            durable.make_folder(self._workdir)
            durable.write_text(self._workdir / "config.json", json.dumps(self._config, indent=1) + "\n")
        except OSError as error:
            raise RunError(f"--workdir={self._workdir} cannot be written ({error}); choose another folder.") from error
        log = self._workdir / LOG
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
        kept = [line for line in lines if logged_step(line) <= step]
        durable.write_text(log, "".join(line + "\n" for line in kept))

    def log(self, step: int, values: dict[str, list[float]]) -> None:
        """One line of metrics.jsonl, and one point of each curve a replica."""
        if not self._main:
            return
        with open(self._workdir / LOG, "a", encoding="utf-8") as file:
            file.write(json.dumps(finite({"step": step} | values)) + "\n")
        self._board = self._board or start_tensorboard(self._workdir / "tensorboard", self._purge_step)
        for name, replicas in values.items():
            for replica, value in enumerate(replicas):
                tag = name if len(replicas) == 1 else f"{name}/replica_{replica}"
                if math.isfinite(value):
                    self._board.add_scalar(tag, value, step)

    def sync_log(self) -> None:
        """Returns once what has been logged is on disk."""
        if self._main and (log := self._workdir / LOG).exists():
            durable.sync(log)

    def predictions(self, split: str, part, score: np.ndarray) -> None:
        """predictions/SPLIT.npz: id, offset (the window's in its clip), subset, label, each [N], score [N, classes]
        ([replicas, N, classes] where there are several)."""
        score = score[0] if len(score) == 1 else score
        columns = dict(id=part.id, offset=part.offset, subset=part.subset, label=part.label)
        self.arrays(f"predictions/{split}", **columns, score=score)

    def arrays(self, name: str, **arrays: np.ndarray) -> None:
        """NAME.npz in the run's folder, on disk, at once or not at all."""
        if not self._main:
            return
        path = self._workdir / f"{name}.npz"
        durable.make_folder(path.parent)
        with durable.replacing(path, "wb") as file:
            np.savez(file, **arrays)

    def result(self, result: dict) -> None:
        """result.json, last and at once: it marks the run as finished."""
        if self._main:
            self.sync_log()
            durable.write_text(self._workdir / "result.json", json.dumps(finite(result), indent=1) + "\n")

    def close(self) -> None:
        """Ends what TensorBoard reads, which is on disk then."""
        if self._board:
            self._board.close()
            self._board = None
            durable.sync_tree(self._workdir / "tensorboard")
            durable.sync_folder(self._workdir)


def start_tensorboard(folder: pathlib.Path, purge_step: int):
    """A writer of TensorBoard events, which take the place of those from `purge_step` on."""
    # tensorboardX imports PyTorch where there is one, which takes seconds, for nothing that is used here.
    sys.modules.setdefault("torch", None)
    try:
        import tensorboardX
    finally:
        if sys.modules["torch"] is None:
            del sys.modules["torch"]
    return tensorboardX.SummaryWriter(str(folder), purge_step=purge_step)


def finite(tree):
    """The same, with null for what is not finite, which JSON does not have."""
    if isinstance(tree, dict):
        return {key: finite(value) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return type(tree)(finite(value) for value in tree)
    return None if isinstance(tree, float) and not math.isfinite(tree) else tree


def read_arrays(path: pathlib.Path, use: Callable[[dict[str, np.ndarray]], Any], repair: str = REEVALUATE) -> Any:
    """What `use` makes of the arrays in a file that `Writer.arrays` wrote, by name.

    Raises:
      RunError: that fails; with what repairs it.
    """
    try:
        zipfile.ZipFile(path).close()  # Of another file NumPy would say that it might be read unsafely.
        with np.load(path) as arrays:
            return use(dict(arrays))
    except Exception as error:  # A damaged archive raises errors of many kinds.
        why = (str(error).splitlines() or [""])[0]
        raise RunError(f"{path} cannot be read ({type(error).__name__}: {why}); {repair}") from error


def logged_step(line: str) -> float:
    """The step of a line of metrics.jsonl; infinity for one that was cut short."""
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return float("inf")


def provenance(devices: list[jax.Device]) -> dict:
    """device, versions and commit of this program, as far as they are known. devices: those of the run."""
    kinds = sorted({device.device_kind for device in devices})
    commit, versions = "", {"python": platform.python_version()}
    with contextlib.suppress(OSError):  # A host may have no git, and an installed copy no history.
        command, here = ["git", "describe", "--always", "--dirty"], pathlib.Path(__file__).parent
        # GIT_DIR and its like, set in a hook of another repository, would give that one's commit.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        told = subprocess.run(command, capture_output=True, text=True, cwd=here, env=environment)
        commit = told.stdout.strip()
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):  # A checkout need not be installed.
            versions[package] = importlib.metadata.version(package)
    device = f"{len(devices)} × {', '.join(kinds)} ({platform.machine()})"
    return {"device": device, "versions": versions, "commit": commit or None}
