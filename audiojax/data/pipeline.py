"""The streaming source: prepared records to batches by tf.data, for what does not fit in device memory."""

import pathlib
from collections.abc import Iterable, Iterator

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
        self._records = builder.as_data_source(
            split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
        )

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

    def feed(self, name: str, rows: Iterable[np.ndarray], spec: jax.sharding.PartitionSpec) -> Iterator[dict]:
        """The batches at `rows`, read, decoded and batched ahead in other threads."""
        part, records = self._parts[name], self._records[self._parts[name].split]
        rows = list(rows)
        blocks = [meshes.local_block(chunk.shape, self._mesh, spec) for chunk in rows]

        def serialised(call):
            return np.array(records.serialised(part.rows[rows[call][blocks[call]].ravel()]), object)

        def decode(call):
            read = tf.ensure_shape(tf.numpy_function(serialised, [call], tf.string, stateful=False), [None])
            return call, records.parse(read, {self._prepared.input})[self._prepared.input]

        dataset = tf.data.Dataset.range(len(rows)).map(decode, num_parallel_calls=READERS, deterministic=True)
        for call, inputs in dataset.prefetch(READERS).as_numpy_iterator():
            block = rows[call][blocks[call]]
            local = {
                "input": inputs.reshape(*block.shape, *self._prepared.input_shape),
                "length": part.length[block],
                "label": part.label[block],
            }
            yield meshes.put_block(local, blocks[call], rows[call].shape, self._mesh, spec)

    @staticmethod
    def take(data: dict, batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
        """In the jitted step: the batch is what was fed."""
        return batch
