"""Which examples are in which batch: a pure function of (seed, epoch, step), the same for every source."""

import functools
from collections.abc import Sequence

import numpy as np


@functools.lru_cache(maxsize=64)
def epoch_order(examples: int, seed: int, epoch: int) -> np.ndarray:
    """The order in which an epoch visits the examples: int64 [examples]."""
    order = np.random.default_rng((seed, epoch)).permutation(examples)
    order.flags.writeable = False
    return order


def train_rows(examples: int, seeds: Sequence[int], batch_size: int, start: int, stop: int) -> np.ndarray:
    """Examples of the steps start … stop-1, for one replica a seed: int64 [steps, replicas, batch].

    The epochs follow each other without a gap, so a batch may end one and begin the next: nothing is dropped.
    """
    first, last = start * batch_size, stop * batch_size

    def visited(seed: int) -> np.ndarray:
        epochs = range(first // examples, -(-last // examples))
        order = np.concatenate([epoch_order(examples, seed, epoch) for epoch in epochs])
        offset = first - epochs[0] * examples
        return order[offset : offset + last - first].reshape(stop - start, batch_size)

    return np.stack([visited(seed) for seed in seeds], axis=1)


def evaluation_rows(examples: int, batch_size: int) -> np.ndarray:
    """Every example once, in order: int64 [batches, batch]; the last batch is padded with example 0."""
    rows = np.zeros(-(-examples // batch_size) * batch_size, np.int64)
    rows[:examples] = np.arange(examples)
    return rows.reshape(-1, batch_size)
