import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audiojax.data import segments
from audiojax.errors import ConfigError

LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=6)


@given(LENGTHS, st.integers(1, 20), st.integers(1, 25), st.integers(0, 25))
def test_windows_are_all_that_hold_enough_of_a_clip_and_no_clip_is_lost(lengths, steps, hop, shortest):
    clip, offset, length = segments.windows(np.array(lengths, np.int32), steps, hop, shortest)
    expected = [
        (number, start, min(steps, total - start))
        for number, total in enumerate(lengths)
        for start in range(0, total, hop)
        if start == 0 or min(steps, total - start) >= min(max(shortest, 1), steps)
    ]
    assert list(zip(clip, offset, length)) == expected


def test_ten_windows_of_every_track_that_is_about_thirty_seconds_long():
    """GTZAN's tracks have 660,000 to 675,808 samples, and the study cuts each into ten of 66,150."""
    clip, _, length = segments.windows(np.array([660_000, 661_500, 675_808], np.int32), 66_150, 66_150, 33_075)
    assert np.bincount(clip).tolist() == [10, 10, 10] and length.min() == 64_650


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 9), st.integers(0, 4), st.integers(1, 3))
def test_fill_puts_zeros_or_the_clip_again_after_its_end(length, missing, features):
    steps = 9 + missing
    clip = np.random.default_rng(0).integers(1, 9, (length, features)).astype(np.int16)
    read = np.concatenate([clip, np.full((9 - length, features), -1, np.int16)])[None, None]  # beyond: another clip
    zeros = segments.fill(jnp.asarray(read), jnp.array([[length]]), steps, "zeros")[0, 0]
    again = segments.fill(jnp.asarray(read), jnp.array([[length]]), steps, "repeat")[0, 0]
    np.testing.assert_array_equal(zeros, np.pad(clip, [(0, steps - length), (0, 0)]))
    np.testing.assert_array_equal(again, np.resize(clip, (steps, features)))
    assert zeros.dtype == again.dtype == jnp.int16


def test_seconds_below_a_step_are_refused():
    assert segments.steps_of(3.0, 22_050, "seconds") == 66_150
    with pytest.raises(ConfigError, match="data.segment.hop_s=-1"):
        segments.steps_of(-1.0, 22_050, "hop_s")
    with pytest.raises(ConfigError, match="at least a step"):
        segments.steps_of(1e-6, 22_050, "seconds")
