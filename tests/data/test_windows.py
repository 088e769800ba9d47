"""Windows of clips, as both sources read them, against a slow definition: every sample of every part."""

import gc
import pathlib
import tempfile
import weakref

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from audiojax import mesh as meshes
from audiojax.data import extended, pipeline, resident, store, windows
from audiojax.data.prepared import Prepared
from audiojax.errors import ConfigError, DataError
from audiojax.recipes import gan

LENGTHS = st.lists(st.integers(1, 30), min_size=1, max_size=6)
SEGMENTS = st.fixed_dictionaries(
    {
        "seconds": st.integers(0, 40).map(float),
        "hop_s": st.integers(0, 12).map(float),
        "shortest_s": st.integers(0, 12).map(float),
        "pad": st.sampled_from(["zeros", "repeat"]),
    }
)


def clip_of(number: int, length: int) -> np.ndarray:
    """Samples that no other clip has, none of them zero: int16 [length]."""
    return (1000 * (number + 1) + np.arange(length)).astype(np.int16)


def prepare(folder: pathlib.Path, lengths: dict[str, list[int]]) -> tuple[Prepared, dict[str, np.ndarray]]:
    """A data set of one sample a second with a clip of each length in each split, and its clips by name."""
    clips, written, number = {}, {}, 0
    for split, of in lengths.items():
        items = []
        for length in of:
            name, clip = f"{split}.{number}", clip_of(number, length)
            clips[name], number = clip, number + 1
            items.append((name, lambda name=name, clip=clip: store.Example(name, name, 0, clip)))
        written[split] = store.write(folder, split, items, (), np.dtype(np.int16), None)
    longest = max(of.longest for of in written.values())
    counts = {split: of.examples for split, of in written.items()}
    data = Prepared(folder, "x", "released", "audio", (), "int16", 1, longest, False, ["a"], counts, {}, [], {})
    return data, clips


def windows_of(source, name: str, rows: np.ndarray, mesh) -> dict[str, np.ndarray]:
    """The batch that a source makes of these rows of a part, in two calls."""
    calls = np.resize(rows, (2, len(rows)))
    feed = source.feed(name, [0, 1], lambda call: calls[call], meshes.EVALUATION)
    take = jax.jit(source.take)
    batches = [jax.device_get(take(source.data(name), x)) for x in feed]
    return {field: np.concatenate([batch[field] for batch in batches]) for field in batches[0]}


def expected(part: windows.Part, clips: dict[str, np.ndarray], row: int, pad: str) -> np.ndarray:
    """A window, sample by sample."""
    clip, offset, length = clips[part.id[row]], part.offset[row], part.length[row]
    behind = lambda position: clip[offset + position % length] if pad == "repeat" else 0
    return np.array([clip[offset + k] if k < length else behind(k) for k in range(part.steps)], np.int16)


def check(prepared, parts, pad, clips):
    mesh = meshes.make_mesh(1, 1, 1)
    short = any((part.length < part.steps).any() for part in parts.values())
    for source in (resident.Resident, pipeline.Stream):
        opened = source(prepared, parts, pad if short else "none", mesh)
        for name, part in parts.items():
            rows = np.arange(len(part.id))
            batch = windows_of(opened, name, rows, mesh)
            assert batch["length"].tolist() == part.length.tolist() * 2
            for row, window in zip([*rows, *rows], batch["input"]):
                np.testing.assert_array_equal(window, expected(part, clips, row, pad), f"{source} {name} {row}")


@hypothesis.settings(max_examples=6, deadline=None, suppress_health_check=list(hypothesis.HealthCheck))
@hypothesis.given(LENGTHS, LENGTHS, LENGTHS, SEGMENTS)
@hypothesis.example([30, 4], [3, 5, 2], [9], {"seconds": 0.0, "hop_s": 0.0, "shortest_s": 0.0, "pad": "zeros"})
@hypothesis.example([30, 4], [3, 5, 2], [9], {"seconds": 12.0, "hop_s": 3.0, "shortest_s": 1.0, "pad": "repeat"})
def test_every_sample_of_every_part_is_the_clips_own(one, two, three, segment):
    segment = ConfigDict(segment)
    with tempfile.TemporaryDirectory() as folder:
        lengths = {"train": one, "valid": two, "test": three}
        data, clips = prepare(pathlib.Path(folder), lengths)
        parts = {name: windows.cut_windows(windows.whole_clips(data, name), data, segment) for name in lengths}
        check(data, parts, segment.pad, clips)


@hypothesis.settings(max_examples=6, deadline=None, suppress_health_check=list(hypothesis.HealthCheck))
@hypothesis.given(LENGTHS, st.integers(1, 40), st.integers(1, 4), SEGMENTS)
@hypothesis.example([30, 4], 5, 3, {"seconds": 12.0, "hop_s": 3.0, "shortest_s": 1.0, "pad": "zeros"})
def test_clips_added_in_memory_are_read_as_others(lengths, samples, count, segment):
    """Of a GAN, whose clips may be shorter or longer than a window and than the data's own clips."""
    segment = ConfigDict(segment)
    with tempfile.TemporaryDirectory() as folder:
        data, clips = prepare(pathlib.Path(folder), {"train": lengths, "test": [7, 2]})
        audio = np.stack([clip_of(20 + number, samples) for number in range(count)])
        whole, added = extended.extend(data, "train", audio, np.zeros(count, np.int32), ["a"], "generated")
        clips |= dict(zip(added.id, audio))
        real, test = (
            windows.cut_windows(windows.whole_clips(whole, name), whole, segment) for name in ("train", "test")
        )
        generated = windows.cut_windows(added, whole, segment)
        both = windows.join(real, generated)
        check(whole, {"train": both, "generated": generated, "test": test}, segment.pad, clips)
        for part in (generated, test):  # as GANs are judged
            zeros = [expected(part, clips, row, "zeros") for row in range(len(part.id))]
            np.testing.assert_array_equal(gan.read(whole, part), zeros)


def test_inputs_too_short_for_their_windows_are_refused(tmp_path):
    data, _ = prepare(tmp_path, {"train": [9, 5]})
    parts = {"train": windows.whole_clips(data, "train")}
    path = store.inputs_path(tmp_path, "train")
    path.write_bytes(path.read_bytes()[: 2 * 12])
    for source in (resident.Resident, pipeline.Stream):
        with pytest.raises(DataError, match="the inputs of train have 12 steps, and its windows end at 18"):
            source(data, parts, "zeros", meshes.make_mesh(1, 1, 1)).data("train")


def test_nothing_of_a_feed_stays_when_it_has_ended(tmp_path):
    """A run opens one for every evaluation; also one that is closed early is forgotten."""

    class Rows:
        def __call__(self, call):
            return np.arange(2)

    data, _ = prepare(tmp_path, {"train": [9, 5]})
    source = pipeline.Stream(data, {"train": windows.whole_clips(data, "train")}, "zeros", meshes.make_mesh(1, 1, 1))
    held = []
    for calls in (1, 5):
        rows = Rows()
        held.append(weakref.ref(rows))
        feed = source.feed("train", range(calls), rows, meshes.EVALUATION)
        next(feed)
        next(feed, None) if calls == 1 else feed.close()
    del rows, feed
    gc.collect()
    assert [ref() for ref in held] == [None, None]


@hypothesis.given(
    st.lists(st.integers(1, 60), min_size=1, max_size=6), st.integers(1, 20), st.integers(1, 25), st.integers(0, 25)
)
def test_windows_are_all_that_hold_enough_of_a_clip_and_no_clip_is_lost(lengths, steps, hop, shortest):
    row, offset, length = windows.place_windows(np.array(lengths, np.int32), steps, hop, shortest)
    expected = [
        (number, start, min(steps, total - start))
        for number, total in enumerate(lengths)
        for start in range(0, total, hop)
        if start == 0 or min(steps, total - start) >= min(max(shortest, 1), steps)
    ]
    assert list(zip(row, offset, length)) == expected


def test_ten_windows_of_every_track_that_is_about_thirty_seconds_long():
    """GTZAN's tracks have 660,000 to 675,808 samples, and the study cuts each into ten of 66,150."""
    row, _, length = windows.place_windows(np.array([660_000, 661_500, 675_808], np.int32), 66_150, 66_150, 33_075)
    assert np.bincount(row).tolist() == [10, 10, 10] and length.min() == 64_650


@hypothesis.settings(deadline=None, max_examples=20)
@hypothesis.given(st.integers(1, 9), st.integers(0, 4), st.integers(1, 3))
def test_fill_puts_zeros_or_the_clip_again_after_its_end(length, missing, features):
    steps = 9 + missing
    clip = np.random.default_rng(0).integers(1, 9, (length, features)).astype(np.int16)
    read = np.concatenate([clip, np.full((9 - length, features), -1, np.int16)])[None, None]  # beyond: another clip
    zeros = windows.fill(jnp.asarray(read), jnp.array([[length]]), steps, "zeros")[0, 0]
    again = windows.fill(jnp.asarray(read), jnp.array([[length]]), steps, "repeat")[0, 0]
    np.testing.assert_array_equal(zeros, np.pad(clip, [(0, steps - length), (0, 0)]))
    np.testing.assert_array_equal(again, np.resize(clip, (steps, features)))
    assert zeros.dtype == again.dtype == jnp.int16


def test_seconds_below_a_step_are_refused():
    assert windows.steps_of(3.0, 22_050, "seconds") == 66_150
    with pytest.raises(ConfigError, match="data.segment.hop_s=-1"):
        windows.steps_of(-1.0, 22_050, "hop_s")
    with pytest.raises(ConfigError, match="at least a step"):
        windows.steps_of(1e-6, 22_050, "seconds")
