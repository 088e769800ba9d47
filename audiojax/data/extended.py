"""A prepared data set with clips that are added to a split in memory, such as generated ones."""

import dataclasses

import numpy as np

from audiojax.data import store
from audiojax.data.prepared import Prepared
from audiojax.data.windows import Part


@dataclasses.dataclass(frozen=True, kw_only=True)
class Extended(Prepared):
    """A prepared data set. The inputs of `split` are `steps`, in memory."""

    split: str
    steps: np.ndarray

    def inputs(self, split: str) -> np.ndarray:
        """All steps of a split: [steps, *step_shape]."""
        return self.steps if split == self.split else super().inputs(split)


def extend(
    prepared: Prepared, split: str, audio_NT: np.ndarray, label_N: np.ndarray, classes: list[str], subset: str
) -> tuple[Extended, Part]:
    """A data set with clips int16 [N, T] at the end of a split, and these clips as a part, uncut.

    label_N: class numbers. subset: that of the clips, with which their ids begin.
    """
    inputs = prepared.inputs(split)
    count, samples = audio_NT.shape
    longest = max(prepared.longest, samples)
    steps = np.concatenate([inputs, audio_NT.ravel(), np.zeros(longest, inputs.dtype)])
    extended = Extended(**vars(prepared) | {"longest": longest, "split": split, "steps": steps})
    ids = np.array([f"{subset}.{classes[label]}.{number:05d}" for number, label in enumerate(label_N)])
    return extended, Part(
        split=split,
        steps=extended.longest,
        id=ids,
        group=ids,
        subset=np.full(count, subset),
        label=label_N.astype(np.int32),
        start=len(inputs) + samples * np.arange(count, dtype=np.int64),
        offset=np.zeros(count, np.int64),
        length=np.full(count, samples, np.int32),
        weight=np.ones(count, np.float32),
        digest=np.frombuffer(b"".join(map(store.digest_of, audio_NT)), np.uint8).reshape(count, -1),
    )
