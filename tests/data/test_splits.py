import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audiojax.data import prepared, splits
from audiojax.errors import ConfigError, DataError
from configs import li_audioset, rit_nsynth

NOBODY = ()


@pytest.fixture(scope="module")
def nsynth(data_dir):
    return prepared.find("nsynth", "stand_in", data_dir)


def protocol(study, name):
    return study.get_config(next(iter(study.ROWS))).data.protocols[name]


def test_honest_nsynth_keeps_instruments_apart_and_every_family_in_train(nsynth):
    parts, classes = splits.make_parts(nsynth, protocol(rit_nsynth, "honest"), 0, ("synth_lead",))
    assert len(classes) == 10 and "synth_lead" not in classes
    splits.check_leaks(parts, by_group=True)
    assert set(parts["train"].label) == set(range(10))
    families = {name: {group.rsplit("_", 2)[0] for group in part.group} for name, part in parts.items()}
    assert families["train"] == families["test"]
    for part in parts.values():
        assert all(group.startswith(classes[label]) for group, label in zip(part.group, part.label))


def test_paper_nsynth_leaks_instruments_but_no_note(nsynth):
    parts, _ = splits.make_parts(nsynth, protocol(rit_nsynth, "paper"), 0, ("synth_lead",))
    splits.check_leaks(parts, by_group=False)
    with pytest.raises(DataError, match="share .* groups"):
        splits.check_leaks(parts, by_group=True)
    assert len(parts["valid"].id) / (len(parts["train"].id) + len(parts["valid"].id)) == pytest.approx(0.33, abs=0.02)


def test_paper_audioset_chooses_on_test_as_the_study_did(data_dir):
    audioset = prepared.find("audioset", "stand_in", data_dir)
    parts, _ = splits.make_parts(audioset, protocol(li_audioset, "paper"), 0, NOBODY)
    assert parts["valid"] is parts["test"]
    splits.check_leaks(parts, by_group=False)
    with pytest.raises(DataError, match="valid and test share 1000 ids"):
        splits.check_leaks(parts, by_group=True)


def test_a_shared_id_stops_the_run_and_is_named(nsynth):
    parts, _ = splits.make_parts(nsynth, protocol(rit_nsynth, "honest"), 0, NOBODY)
    parts["test"] = parts["test"]._replace(id=np.append(parts["test"].id[1:], parts["train"].id[0]))
    with pytest.raises(DataError, match=f"train and test share 1 ids .{parts['train'].id[0]}"):
        splits.check_leaks(parts, by_group=False)


@given(st.integers(0, 10), st.floats(0.05, 0.9), st.lists(st.integers(1, 6), min_size=1, max_size=5))
def test_hold_out_takes_its_share_of_each_class_in_whole_groups_and_leaves_one(seed, fraction, groups_of_class):
    group = [f"{label}-{g}" for label, count in enumerate(groups_of_class) for g in range(count) for _ in range(3)]
    label = np.array([int(name.split("-")[0]) for name in group], np.int32)
    ids = np.array([f"{name}/{i}" for i, name in enumerate(group)])
    part = splits.Part("train", np.arange(len(ids)), ids, np.array(group), label, np.ones(len(ids)))
    held = splits.hold_out(part, "group", fraction, seed)
    assert not set(part.group[held]) & set(part.group[~held])
    for stratum, count in enumerate(groups_of_class):
        kept = set(part.group[~held & (label == stratum)])
        assert len(kept) == max(count - round(fraction * count), 1)


def test_what_a_protocol_cannot_have_is_said(nsynth):
    with pytest.raises(DataError, match="has no split unbalanced"):
        splits.make_parts(nsynth, dict(train="unbalanced", valid="valid", test="test"), 0, NOBODY)
    with pytest.raises(ConfigError, match="'kazoo'"):
        splits.make_parts(nsynth, protocol(rit_nsynth, "honest"), 0, ("kazoo",))
