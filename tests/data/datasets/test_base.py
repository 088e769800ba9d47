"""What every data set gives to TFDS."""

import numpy as np
import pytest

from audiojax.data import prepared
from audiojax.data.datasets import audioset, nsynth


@pytest.mark.parametrize(("module", "split"), [(audioset, "eval"), (nsynth, "test")])
def test_as_dataset_gives_splits_and_slices(module, split, data_dir):
    builder = module.Builder(config="stand_in", data_dir=data_dir)
    index = prepared.find(builder.name, "stand_in", data_dir).index(split)
    ids = lambda spec: [clip["id"].decode() for clip in builder.as_dataset(split=spec).as_numpy_iterator()]
    assert ids(split) == index.id.tolist()
    assert ids(f"{split}[:10]") == index.id[:10].tolist()
    assert ids(f"{split}[-3:]+{split}[:1%]") == [*index.id[-3:], *index.id[: round(len(index.id) / 100)]]
    [first] = builder.as_dataset(split=f"{split}[:1]").as_numpy_iterator()
    np.testing.assert_array_equal(
        first["label"], np.flatnonzero(index.label[0]) if index.label.ndim > 1 else index.label[0]
    )
    assert len(first[builder.input_name]) == index.length[0]
