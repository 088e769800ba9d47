"""The resident source: whole splits as arrays in device memory, from which windows are gathered there."""

from collections.abc import Callable, Iterator, Sequence

import jax
import numpy as np

from audiojax import mesh as meshes
from audiojax.data.prepared import Prepared
from audiojax.data.windows import Part, fill, read_steps
from audiojax.errors import DataError


class Resident:
    """Parts of a data set in device memory. Each step sends row numbers only.

    Raises:
      DataError: a split has too many steps for int32 indices.
    """

    def __init__(self, prepared: Prepared, parts: dict[str, Part], pad: str, mesh: jax.sharding.Mesh):
        self._prepared, self._parts, self._mesh, self._pad = prepared, parts, mesh, pad
        self._inputs: dict[str, jax.Array] = {}  # split -> inputs, which the parts of a split share
        self._data: dict[str, dict] = {}
        self._steps = next(iter(parts.values())).steps
        if (largest := max(len(prepared.inputs(part.split)) for part in parts.values())) >= 2**31:
            raise DataError(f"a split of {largest:,} steps cannot be indexed on a device; use run.source=stream.")

    def data(self, name: str) -> dict[str, jax.Array]:
        """What `take` reads of a part, on every device: inputs of its split, and of its windows start, length, label
        and weight. read: int32 [steps that are read of a window], from 0 on."""
        if name not in self._data:
            part, put = self._parts[name], lambda tree: meshes.put(tree, self._mesh, meshes.REPLICATED)
            if part.split not in self._inputs:
                self._inputs[part.split] = put(self._prepared.inputs(part.split))
            read = np.arange(read_steps(part, len(self._inputs[part.split])), dtype=np.int32)
            columns = {"length": part.length, "label": part.label, "weight": part.weight}
            columns |= {"start": part.start.astype(np.int32), "read": read}
            self._data[name] = {"inputs": self._inputs[part.split]} | put(columns)
        return self._data[name]

    def feed(
        self, name: str, calls: Sequence, rows_of: Callable, spec: jax.sharding.PartitionSpec
    ) -> Iterator[jax.Array]:
        """The row numbers `rows_of(call)` of each call, on the mesh."""
        for call in calls:
            yield meshes.put(rows_of(call).astype(np.int32), self._mesh, spec)

    def take(self, data: dict[str, jax.Array], rows: jax.Array) -> dict[str, jax.Array]:
        """The batch at `rows`, of any shape. Called inside jit."""
        inputs, length, steps = data["inputs"], data["length"][rows], len(data["read"])
        read = lambda start: jax.lax.dynamic_slice_in_dim(inputs, start, steps)
        x = jax.vmap(read)(data["start"][rows.ravel()]).reshape(*rows.shape, steps, *inputs.shape[1:])
        x = fill(x, length, self._steps, self._pad)
        return {"input": x, "length": length, "label": data["label"][rows], "weight": data["weight"][rows]}


def fits(prepared: Prepared, parts: dict[str, Part], mesh: jax.sharding.Mesh) -> bool:
    """Whether the splits of the parts take at most half of a device's memory and can be indexed there."""
    inputs = [prepared.inputs(split) for split in {part.split for part in parts.values()}]
    small = sum(array.nbytes for array in inputs) <= meshes.memory_bytes(mesh) / 2
    return small and all(len(array) < 2**31 for array in inputs)
