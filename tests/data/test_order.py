import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from audiojax.data import order


@given(st.integers(1, 50), st.integers(1, 20), st.integers(0, 30), st.integers(1, 12), st.integers(0, 3))
def test_steps_are_slices_of_one_endless_stream(examples, batch, start, count, seed):
    """Any cut into calls gives the same batches, and every epoch visits every example once."""
    batch = min(batch, examples)
    stream = np.concatenate(
        [order.epoch_order(examples, seed, epoch) for epoch in range((start + count) * batch // examples + 1)]
    )
    rows = order.train_rows(examples, [seed], batch, start, start + count)
    assert rows.shape == (count, 1, batch)
    np.testing.assert_array_equal(rows.ravel(), stream[start * batch : (start + count) * batch])
    np.testing.assert_array_equal(np.sort(stream[:examples]), np.arange(examples))


def test_replicas_have_the_orders_of_their_seeds():
    both = order.train_rows(10, [3, 4], 5, 0, 4)
    for replica, seed in enumerate((3, 4)):
        np.testing.assert_array_equal(both[:, replica], order.train_rows(10, [seed], 5, 0, 4)[:, 0])
    assert (both[:, 0] != both[:, 1]).any()


@given(st.integers(1, 100), st.integers(1, 40))
def test_evaluation_visits_everything_once(examples, batch):
    rows = order.evaluation_rows(examples, batch)
    assert rows.shape[1] == batch
    np.testing.assert_array_equal(rows.ravel()[:examples], np.arange(examples))
    assert rows.size - examples < batch and not rows.ravel()[examples:].any()
