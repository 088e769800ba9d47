"""The streaming source: windows read from disk by tf.data, for what does not fit in device memory."""

import os
from collections.abc import Callable, Iterator, Sequence

import jax
import numpy as np
import tensorflow as tf

from audiojax import mesh as meshes
from audiojax.data import segments
from audiojax.data.prepared import Prepared
from audiojax.data.splits import Part

READERS = min(8, os.cpu_count() or 1)  # Threads that read, and batches read ahead.

tf.config.set_visible_devices([], "GPU")  # The accelerator is JAX's.


class Stream:
    """Parts of a data set read from disk as training goes; each host reads only what its devices need."""

    def __init__(self, prepared: Prepared, parts: dict[str, Part], pad: str, mesh: jax.sharding.Mesh):
        self._prepared, self._parts, self._mesh, self._pad = prepared, parts, mesh, pad
        self._steps = next(iter(parts.values())).steps

    def data(self, name: str) -> dict:
        """Nothing stays on the device."""
        return {}

    def feed(self, name: str, calls: Sequence, rows_of: Callable, spec: jax.sharding.PartitionSpec) -> Iterator[dict]:
        """For each call the batches at `rows_of(call)`, read ahead in other threads."""
        part = self._parts[name]
        windows = all_windows(self._prepared.inputs(part.split), min(self._steps, self._prepared.longest))

        def block_of(call: int) -> tuple[tuple[int, ...], tuple[slice, ...], np.ndarray]:
            rows = rows_of(calls[call])
            block = meshes.local_block(rows.shape, self._mesh, spec)
            return rows.shape, block, rows[block]

        def read(call: np.ndarray) -> np.ndarray:
            *_, rows = block_of(int(call))
            return windows[part.start[rows]]

        def fetch(call: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return call, tf.numpy_function(read, [call], windows.dtype, stateful=False)

        dataset = tf.data.Dataset.range(len(calls)).map(fetch, READERS, deterministic=True)
        for call, inputs in dataset.prefetch(READERS).as_numpy_iterator():
            shape, block, rows = block_of(int(call))
            columns = {"length": part.length, "label": part.label, "weight": part.weight}
            local = {"input": inputs} | {name: column[rows] for name, column in columns.items()}
            yield meshes.put_block(local, block, shape, self._mesh, spec)

    def take(self, data: dict, batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
        """In the jitted step: the batch is what was fed."""
        return batch | {"input": segments.fill(batch["input"], batch["length"], self._steps, self._pad)}


def all_windows(inputs: np.ndarray, steps: int) -> np.ndarray:
    """A view of inputs [steps of the split, ...] as one window from every step: [starts, steps, ...]."""
    shape = (len(inputs) - steps + 1, steps, *inputs.shape[1:])
    return np.lib.stride_tricks.as_strided(inputs, shape, (inputs.strides[0], *inputs.strides), writeable=False)
