"""The streaming source: windows read from disk by tf.data, for what does not fit in device memory."""

import itertools
from collections.abc import Callable, Iterator, Sequence

import jax
import numpy as np
import tensorflow as tf

from audiojax import host
from audiojax import mesh as meshes
from audiojax.data import segments
from audiojax.data.prepared import Prepared
from audiojax.data.splits import Part

READERS = min(8, host.cores())  # Threads that read, and batches read ahead.

tf.config.set_visible_devices([], "GPU")  # The accelerator is JAX's.


class Stream:
    """Parts of a data set read from disk as training goes; each host reads only what its devices need."""

    def __init__(self, prepared: Prepared, parts: dict[str, Part], pad: str, mesh: jax.sharding.Mesh):
        self._parts, self._mesh, self._pad = parts, mesh, pad
        self._steps = next(iter(parts.values())).steps
        inputs = {split: prepared.inputs(split) for split in {part.split for part in parts.values()}}
        self._windows = {
            name: all_windows(inputs[part.split], segments.read_steps(part, len(inputs[part.split])))
            for name, part in parts.items()
        }
        # TensorFlow never forgets a function that it is to call, so one serves all feeds. It finds them by number.
        self._dtype, self._numbers = prepared.input_dtype, itertools.count()
        self._feeds: dict[int, Callable[[int], np.ndarray]] = {}  # those open: call -> its windows
        self._fetch = tf.function(lambda *ids: tf.numpy_function(self._read, ids, self._dtype, stateful=False))

    def data(self, name: str) -> dict:
        """Nothing stays on the device."""
        return {}

    def _read(self, feed: np.ndarray, call: np.ndarray) -> np.ndarray:
        """The windows of a call of a feed; none where that has been closed meanwhile."""
        read = self._feeds.get(int(feed))
        return read(int(call)) if read else np.empty(0, self._dtype)

    def feed(self, name: str, calls: Sequence, rows_of: Callable, spec: jax.sharding.PartitionSpec) -> Iterator[dict]:
        """For each call the batches at `rows_of(call)`, read ahead in other threads."""
        part, number = self._parts[name], next(self._numbers)

        def block_of(call: int) -> tuple[tuple[int, ...], tuple[slice, ...], np.ndarray]:
            rows = rows_of(calls[call])
            block = meshes.local_block(rows.shape, self._mesh, spec)
            return rows.shape, block, rows[block]

        self._feeds[number] = lambda call: self._windows[name][part.start[block_of(call)[2]]]
        fetch = lambda call: (call, self._fetch(tf.constant(number, tf.int64), call))
        dataset = tf.data.Dataset.range(len(calls)).map(fetch, READERS, deterministic=True)
        try:
            for call, inputs in dataset.prefetch(READERS).as_numpy_iterator():
                shape, block, rows = block_of(int(call))
                columns = {"length": part.length, "label": part.label, "weight": part.weight}
                local = {"input": inputs} | {name: column[rows] for name, column in columns.items()}
                yield meshes.put_block(local, block, shape, self._mesh, spec)
        finally:
            del self._feeds[number]

    def take(self, data: dict, batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
        """In the jitted step: the batch is what was fed."""
        return batch | {"input": segments.fill(batch["input"], batch["length"], self._steps, self._pad)}


def all_windows(inputs: np.ndarray, steps: int) -> np.ndarray:
    """A view of inputs [steps of the split, ...] as one window from every step: [starts, steps, ...]."""
    shape = (len(inputs) - steps + 1, steps, *inputs.shape[1:])
    return np.lib.stride_tricks.as_strided(inputs, shape, (inputs.strides[0], *inputs.strides), writeable=False)
