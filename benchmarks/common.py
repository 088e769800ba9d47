"""What benchmarks share: interleaved timing, and the report."""

import contextlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import statistics
import time
from collections.abc import Callable

import jax

from audiojax import mesh


def measure(contenders: dict[str, Callable], rounds: int) -> dict[str, float]:
    """Median seconds of each contender's call, which must return once its work is done.

    Contenders take turns, so that what else the machine does slows all of them; two unmeasured rounds come first.
    """
    seconds = {name: [] for name in contenders}
    for round in range(-2, rounds):
        for name, call in contenders.items():
            start = time.perf_counter()
            call()
            if round >= 0:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(times) for name, times in seconds.items()}


def installed(package: str) -> bool:
    """Whether an optional peer can be compared with; says so where it cannot."""
    if importlib.util.find_spec(package):
        return True
    print(f"{package} is not installed; it is left out.")
    return False


def report(name: str, ratios: dict[str, float], figures: dict[str, float]) -> None:
    """Prints a table, then one line of JSON. ratios: our speed over a peer's, above 1 where ours is faster."""
    ratios, figures = ({key: float(f"{value:.3g}") for key, value in d.items()} for d in (ratios, figures))
    width = max(map(len, [*figures, *ratios]))
    for key, value in (figures | ratios).items():
        print(f"{key:{width}}  {value:>10,.4g}{' x' if key in ratios else ''}")
    device = jax.devices()[0]
    machine = {
        "device": device.device_kind,
        "devices": jax.device_count(),
        "cpus": mesh.cores(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "system": f"{platform.system()} {platform.machine()}",
    }
    packages = ("jax", "jaxlib", "numpy", "librosa", "tensorflow-cpu", "torch", "keras")
    versions = {"python": platform.python_version()}
    for package in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    print(json.dumps({"name": name, "ratios": ratios, "figures": figures, "machine": machine, "versions": versions}))
