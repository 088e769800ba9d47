"""Writes a run's folder: config.json, metrics.jsonl, predictions, result.json, and what trackers write."""

import contextlib
import importlib.metadata
import json
import math
import os
import pathlib
import platform
import subprocess
import zipfile
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from audiojax import durable, names
from audiojax.errors import RunError

LOG = "metrics.jsonl"
REEVALUATE = "remove it and result.json of that run: the same command evaluates its newest checkpoint and writes both."
PACKAGES = ("audiojax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "scikit-learn")


class Writer:
    """Writes a run's own files, and passes metrics to its sinks: the log, and the trackers of `run.trackers`.

    Only the first process writes.
    """

    def __init__(self, workdir: pathlib.Path, config: dict):
        """Makes the sinks; writes nothing. Raises ConfigError where a tracker of run.trackers does not exist."""
        self._workdir, self._config = workdir, config
        self._is_first = jax.process_index() == 0
        trackers = map(names.tracker, config.get("run", {}).get("trackers", ("tensorboard",)))
        self._sinks = [sink(workdir) for sink in (Jsonl, *trackers) if self._is_first]

    def begin(self, step: int) -> None:
        """Makes the folder, writes config.json, and drops what was logged after `step`, where the run goes on."""
        if not self._is_first:
            return
        try:
            durable.make_folder(self._workdir)
            durable.write_text(self._workdir / "config.json", json.dumps(self._config, indent=1) + "\n")
        except OSError as error:
            raise RunError(f"--workdir={self._workdir} cannot be written ({error}); choose another folder.") from error
        for sink in self._sinks:
            sink.begin(step)

    def log(self, step: int, values: dict[str, list[float]]) -> None:
        """Logs metrics, each a list over replicas."""
        for sink in self._sinks:
            sink.log(step, values)

    def sync_log(self) -> None:
        """Returns once the logged metrics are on disk."""
        for sink in self._sinks:
            sink.sync()

    def predictions(self, split: str, part, score: np.ndarray) -> None:
        """Writes predictions/SPLIT.npz.

        It holds id, offset (of the window in its clip), subset and label, [N] each, and score, [N, classes], or
        [replicas, N, classes] with more than one replica.
        """
        score = score[0] if len(score) == 1 else score
        columns = dict(id=part.id, offset=part.offset, subset=part.subset, label=part.label)
        self.arrays(f"predictions/{split}", **columns, score=score)

    def arrays(self, name: str, **arrays: np.ndarray) -> None:
        """Writes NAME.npz in the run's folder, durably and atomically."""
        if not self._is_first:
            return
        path = self._workdir / f"{name}.npz"
        durable.make_folder(path.parent)
        with durable.replacing(path, "wb") as file:
            np.savez(file, **arrays)

    def result(self, result: dict) -> None:
        """Writes result.json atomically, after all other files; it marks the run as finished."""
        if self._is_first:
            self.sync_log()
            durable.write_text(self._workdir / "result.json", json.dumps(finite(result), indent=1) + "\n")

    def close(self) -> None:
        """Closes the sinks; what they wrote is on disk then."""
        for sink in self._sinks:
            sink.close()


class Jsonl:
    """The record of a run: one line of metrics.jsonl for each call of `log`. Its methods are those of a tracker."""

    def __init__(self, workdir: pathlib.Path):
        self._path = workdir / LOG

    def begin(self, step: int) -> None:
        """Removes lines after `step`, and lines that were cut short."""
        lines = self._path.read_text(encoding="utf-8", errors="replace").splitlines() if self._path.exists() else []
        durable.write_text(self._path, "".join(line + "\n" for line in lines if logged_step(line) <= step))

    def log(self, step: int, values: dict[str, list[float]]) -> None:
        """Appends a line. Values that are not finite become null."""
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(json.dumps(finite({"step": step} | values)) + "\n")

    def sync(self) -> None:
        """Returns once the file is on disk."""
        if self._path.exists():
            durable.sync(self._path)

    def close(self) -> None:
        """Does nothing: the file is open only during `log`."""


def finite(tree):
    """Replaces floats that are not finite by None, because JSON has no value for them."""
    if isinstance(tree, dict):
        return {key: finite(value) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return type(tree)(finite(value) for value in tree)
    return None if isinstance(tree, float) and not math.isfinite(tree) else tree


def read_arrays(path: pathlib.Path, use: Callable[[dict[str, np.ndarray]], Any], repair: str = REEVALUATE) -> Any:
    """Calls `use` with the arrays, by name, of a file that `Writer.arrays` wrote; returns what it returns.

    Raises:
      RunError: the file cannot be read, or `use` fails; the message ends with `repair`.
    """
    try:
        zipfile.ZipFile(path).close()  # For a file of another kind, NumPy's message would be about pickles.
        with np.load(path) as arrays:
            return use(dict(arrays))
    except Exception as error:  # A damaged archive raises many types of errors.
        why = (str(error).splitlines() or [""])[0]
        raise RunError(f"{path} cannot be read ({type(error).__name__}: {why}); {repair}") from error


def logged_step(line: str) -> float:
    """The step of a line of metrics.jsonl; infinity if the line cannot be read."""
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return float("inf")


def provenance(devices: list[jax.Device]) -> dict:
    """The device, versions and commit of this program, as far as they are known. devices: those of the run."""
    kinds = sorted({device.device_kind for device in devices})
    commit, versions = "", {"python": platform.python_version()}
    with contextlib.suppress(OSError):  # git may not be installed.
        command, here = ["git", "describe", "--always", "--dirty"], pathlib.Path(__file__).parent
        # Inside a git hook, GIT_DIR names the hook's repository.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        done = subprocess.run(command, capture_output=True, text=True, cwd=here, env=environment)
        commit = done.stdout.strip()
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):  # audiojax need not be installed.
            versions[package] = importlib.metadata.version(package)
    device = f"{len(devices)} × {', '.join(kinds)} ({platform.machine()})"
    return {"device": device, "versions": versions, "commit": commit or None}
