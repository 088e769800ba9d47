"""Splits on disk: what was interrupted goes on where it stopped, and ends the same."""

import hashlib
import pathlib
import tempfile

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from audiojax.data import store
from audiojax.data.store import Example

NAMES = ["c", "a", "ü b", "d", "e"]


def example(name: str) -> Example:
    rng = np.random.default_rng(len(name) + ord(name[0]))
    values = rng.integers(-9, 9, (int(rng.integers(1, 30)), 2)).astype(np.int16)
    return Example(name, f"group {name}", int(rng.integers(5)), values, "part", ("resampled",))


def items(read=None, broken=("d",)):
    """Five items, "d" unreadable; `read` collects the names of those that are read."""

    def reader(name):
        def reading():
            if read is not None:
                read.append(name)
            if name in broken:
                raise ValueError("broken")
            return example(name)

        return reading

    return [(f"file {name}", reader(name)) for name in NAMES]


def write(folder, these, classes=None):
    return store.write(folder, "all", these, (2,), np.int16, classes)


def contents(folder):
    return [path(folder, "all").read_bytes() for path in (store.inputs_path, store.index_path)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A split written without interruption: what it said, its files and its journal."""
    folder = tmp_path_factory.mktemp("whole")
    return write(folder, items()), contents(folder), (folder / "all.journal").read_bytes()


def test_split_is_read_as_it_was_written(tmp_path):
    written = write(tmp_path, items())
    expected = {name: example(name) for name in NAMES if name != "d"}
    index, inputs = store.read_index(tmp_path, "all"), store.open_inputs(tmp_path, "all", (2,), "int16")
    assert index.id.tolist() == sorted(expected)
    for clip_id, group, subset, label, start, length, digest in zip(*index):
        clip = expected[clip_id]
        assert (clip.group, clip.subset, clip.label, len(clip.input)) == (group, subset, label, length)
        np.testing.assert_array_equal(inputs[start : start + length], clip.input)
        assert digest.tobytes() == hashlib.sha256(clip.input.tobytes()).digest()[:16]
    longest = max(len(clip.input) for clip in expected.values())
    assert len(inputs) == index.length.sum() + longest and not inputs[-longest:].any()
    assert written == store.Written(4, longest, [["file d", "broken"]], {"resampled": 4})


@hypothesis.settings(max_examples=150, deadline=None, suppress_health_check=list(hypothesis.HealthCheck))
@hypothesis.given(data=st.data())
def test_cut_at_any_byte_it_ends_the_same(whole, data):
    written, (inputs, index), journal = whole
    kept = [
        data.draw(st.integers(0, len(content)), name) for content, name in ((inputs, "inputs"), (journal, "journal"))
    ]
    with tempfile.TemporaryDirectory() as name:
        folder, read = pathlib.Path(name), []
        store.inputs_path(folder, "all").write_bytes(inputs[: kept[0]])
        (folder / "all.journal").write_bytes(journal[: kept[1]])
        kept_entries = sum(
            journal[: kept[1]].count(b"\n") > number
            and kept[0] >= 4 * sum(len(example(name).input) for name in ("c", "a", "ü b", "e")[: number + 1])
            for number in range(4)
        )
        assert write(folder, items(read)) == written
        assert contents(folder) == [inputs, index] and (folder / "all.journal").read_bytes() == journal
        assert len(read) == 5 - kept_entries


def test_what_stopped_in_the_middle_is_not_read_again(tmp_path, whole):
    def stop():
        raise KeyboardInterrupt

    read = []
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, items()[:2] + [("file ü b", stop)])
    assert write(tmp_path, items(read)) == whole[0] and contents(tmp_path) == whole[1]
    assert set(read) == {"ü b", "d", "e"}


def test_second_example_of_an_id_is_refused(tmp_path):
    twice = [("one", lambda: example("a")), ("two", lambda: example("a")), ("three", lambda: example("b"))]
    written = write(tmp_path, twice)
    assert written.examples == 2 and written.skipped == [["two", "a second example with the id a"]]
    assert write(tmp_path, twice) == written


def test_labels_of_several_classes_are_multi_hot(tmp_path):
    several = [("one", lambda: example("a")._replace(label=[0, 3])), ("two", lambda: example("b")._replace(label=[2]))]
    write(tmp_path, iter(several), classes=4)
    assert store.read_index(tmp_path, "all").label.tolist() == [[1, 0, 0, 1], [0, 0, 1, 0]]
