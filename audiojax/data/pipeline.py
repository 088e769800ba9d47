"""The streaming source: windows read from disk by tf.data, for data that do not fit in device memory."""

import itertools
from collections.abc import Callable, Iterator, Sequence

import jax
import numpy as np
import tensorflow as tf

from audiojax import host
from audiojax import mesh as meshes
from audiojax.data.prepared import Prepared
from audiojax.data.windows import Part, fill, read_steps

READERS = min(8, host.cores())  # threads, and batches that are read ahead

tf.config.set_visible_devices([], "GPU")  # JAX uses the accelerators.


class Stream:
    """Parts of a data set on disk. Each host reads the windows that its devices need, when they need them."""

    def __init__(self, prepared: Prepared, parts: dict[str, Part], pad: str, mesh: jax.sharding.Mesh):
        self._parts, self._mesh, self._pad = parts, mesh, pad
        self._steps = next(iter(parts.values())).steps
        inputs = {split: prepared.inputs(split) for split in {part.split for part in parts.values()}}
        self._windows = {
            name: all_windows(inputs[part.split], read_steps(part, len(inputs[part.split])))
            for name, part in parts.items()
        }
        # TensorFlow never frees a Python function that it calls, so all feeds share one and have numbers.
        self._dtype, self._numbers = prepared.input_dtype, itertools.count()
        self._feeds: dict[int, Callable[[int], np.ndarray]] = {}  # open feeds: call -> windows
        self._fetch = tf.function(lambda *ids: tf.numpy_function(self._read, ids, self._dtype, stateful=False))

    def data(self, name: str) -> dict:
        """Nothing: `take` reads only what is fed."""
        return {}

    def _read(self, feed: np.ndarray, call: np.ndarray) -> np.ndarray:
        """The windows of one call of a feed; none where the feed is closed."""
        read = self._feeds.get(int(feed))
        return read(int(call)) if read else np.empty(0, self._dtype)

    def feed(self, name: str, calls: Sequence, rows_of: Callable, spec: jax.sharding.PartitionSpec) -> Iterator[dict]:
        """The batches at `rows_of(call)` of each call, on the mesh. Other threads read ahead."""
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
        """The batch, which is what was fed. Called inside jit."""
        return batch | {"input": fill(batch["input"], batch["length"], self._steps, self._pad)}


def all_windows(inputs: np.ndarray, steps: int) -> np.ndarray:
    """A view of a split's inputs with one window for every first step: [starts, steps, *step_shape]."""
    shape = (len(inputs) - steps + 1, steps, *inputs.shape[1:])
    return np.lib.stride_tricks.as_strided(inputs, shape, (inputs.strides[0], *inputs.strides), writeable=False)
