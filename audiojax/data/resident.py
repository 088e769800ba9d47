"""The resident source: whole parts as arrays in device memory, batches gathered there."""

import os
from collections.abc import Callable, Iterator, Sequence

import jax
import numpy as np

from audiojax import mesh as meshes
from audiojax.data.prepared import Prepared
from audiojax.data.splits import Part
from audiojax.errors import DataError


class Resident:
    """Parts of a data set on the device; what travels at each step are row numbers."""

    def __init__(self, prepared: Prepared, parts: dict[str, Part], mesh: jax.sharding.Mesh):
        self._prepared, self._parts, self._mesh = prepared, parts, mesh
        self._data: dict[str, dict] = {}

    def data(self, name: str) -> dict[str, jax.Array]:
        """Input, length and label of a part, on every device."""
        if name not in self._data:
            part = self._parts[name]
            inputs = np.load(self._prepared.inputs_path(part.split), mmap_mode="r")
            arrays = {"input": inputs[part.rows], "length": part.length, "label": part.label}
            self._data[name] = meshes.put(arrays, self._mesh, meshes.REPLICATED)
        return self._data[name]

    def feed(
        self, name: str, calls: Sequence, rows_of: Callable, spec: jax.sharding.PartitionSpec
    ) -> Iterator[jax.Array]:
        """For each call its row numbers `rows_of(call)`, as `take` wants them."""
        for call in calls:
            yield meshes.put(rows_of(call).astype(np.int32), self._mesh, spec)

    @staticmethod
    def take(data: dict[str, jax.Array], rows: jax.Array) -> dict[str, jax.Array]:
        """In the jitted step: the batch at `rows`."""
        return {name: array[rows] for name, array in data.items()}


def fits(prepared: Prepared, parts: dict[str, Part]) -> bool:
    """Whether the parts have prepared arrays and take at most half of a device's memory."""
    example_bytes = np.prod(prepared.input_shape) * np.dtype(prepared.input_dtype).itemsize
    needed = sum(len(part.rows) for part in parts.values()) * example_bytes
    stats = jax.local_devices()[0].memory_stats() or {}
    host_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // jax.local_device_count()
    arrays_exist = all(prepared.inputs_path(part.split).exists() for part in parts.values())
    return arrays_exist and needed <= stats.get("bytes_limit", host_bytes) / 2


def require_arrays(prepared: Prepared, parts: dict[str, Part]) -> None:
    """Raises DataError where data.source=resident is asked for and a split was too large to become an array."""
    for part in parts.values():
        if not (path := prepared.inputs_path(part.split)).exists():
            raise DataError(
                f"{path} does not exist: {part.split} is too large for it; use --config.data.source=stream."
            )
