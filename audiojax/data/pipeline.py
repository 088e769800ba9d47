"""The streaming source: prepared records to batches by tf.data, for what does not fit in device memory."""

import pathlib
from collections.abc import Callable, Iterator, Sequence

import jax
import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from audiojax import mesh as meshes
from audiojax.data.prepared import Prepared
from audiojax.data.splits import Part

READERS = 2  # Calls read at once; within a call the records are read in parallel anyway.

tf.config.set_visible_devices([], "GPU")  # The accelerator is JAX's.


class Records:
    """Random access to the records of one prepared split."""

    def __init__(self, folder: pathlib.Path, split: str):
        builder = tfds.builder_from_directory(folder)
        self._features = builder.info.features
        self._records = builder.as_data_source(split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES)

    def __len__(self) -> int:
        return len(self._records)

    def serialised(self, rows: np.ndarray) -> list[bytes]:
        return self._records.__getitems__(rows.tolist())

    def parse(self, serialised: tf.Tensor, names: set[str]) -> dict[str, tf.Tensor]:
        """Decodes records [B] to tensors [B, ...]; multi-label classes become a multi-hot uint8 [B, classes]."""
        spec, features = {}, {name: self._features[name] for name in names}
        for name, feature in features.items():
            if isinstance(feature, tfds.features.Sequence):
                spec[name] = tf.io.RaggedFeature(tf.int64)
            else:
                as_bytes = feature.shape or isinstance(feature, tfds.features.Text)
                spec[name] = tf.io.FixedLenFeature([], tf.string if as_bytes else tf.int64)
        batch = tf.io.parse_example(serialised, spec)
        for name, feature in features.items():
            if isinstance(feature, tfds.features.Sequence):
                one_hot = tf.one_hot(batch[name], feature.feature.num_classes, dtype=tf.uint8)
                batch[name] = tf.reduce_max(one_hot, axis=1)
            elif feature.shape:
                flat = tf.io.decode_raw(batch[name], feature.tf_dtype)
                batch[name] = tf.reshape(flat, (-1, *feature.shape))
        return batch

    def read(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """All features of the given rows, as arrays."""
        batch = self.parse(tf.constant(self.serialised(rows)), set(self._features))
        return {name: value.numpy() for name, value in batch.items()}


class Stream:
    """Parts of a data set read from their records as training goes; each host reads only what its devices need."""

    def __init__(self, prepared: Prepared, parts: dict[str, Part], mesh: jax.sharding.Mesh):
        self._prepared, self._parts, self._mesh = prepared, parts, mesh
        self._records = {split: Records(prepared.folder, split) for split in {p.split for p in parts.values()}}

    def data(self, name: str) -> dict:
        """Nothing stays on the device."""
        return {}

    def feed(self, name: str, calls: Sequence, rows_of: Callable, spec: jax.sharding.PartitionSpec) -> Iterator[dict]:
        """For each call the batches at `rows_of(call)`, read and decoded ahead in other threads."""
        part, records = self._parts[name], self._records[self._parts[name].split]

        def block_of(call: int) -> tuple[tuple[int, ...], tuple[slice, ...], np.ndarray]:
            rows = rows_of(calls[call])
            block = meshes.local_block(rows.shape, self._mesh, spec)
            return rows.shape, block, rows[block]

        def serialised(call: np.ndarray) -> np.ndarray:
            *_, rows = block_of(int(call))
            return np.array(records.serialised(part.rows[rows.ravel()]), object)

        def decode(call: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            read = tf.ensure_shape(tf.numpy_function(serialised, [call], tf.string, stateful=False), [None])
            return call, records.parse(read, {self._prepared.input})[self._prepared.input]

        dataset = tf.data.Dataset.range(len(calls)).map(decode, num_parallel_calls=READERS, deterministic=True)
        for call, inputs in dataset.prefetch(READERS).as_numpy_iterator():
            shape, block, rows = block_of(int(call))
            local = {
                "input": inputs.reshape(*rows.shape, *self._prepared.input_shape),
                "length": part.length[rows],
                "label": part.label[rows],
            }
            yield meshes.put_block(local, block, shape, self._mesh, spec)

    @staticmethod
    def take(data: dict, batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
        """In the jitted step: the batch is what was fed."""
        return batch
