import itertools

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st

from audiojax.data import prepared, windows
from audiojax.data.protocol import HIDDEN, PARTS, check_leaks, hold_out, join_groups, make_parts
from audiojax.errors import ConfigError, DataError
from tests.conftest import config_of
from tests.data.releases import encode, prepared_after, samples_of, track, write_files

NSYNTH, AUDIOSET = ("rit_nsynth", "simple"), ("li_audioset", "fc1")
CUT = dict(train="valid", valid="valid", test="valid", unit="group", valid_fraction=0.5, test_fraction=0.34)


@pytest.fixture(scope="module")
def nsynth(data_dir):
    return prepared.find("nsynth", "stand_in", data_dir)


def parts_of(data, study_row, cut, **overrides):
    config = config_of(*study_row, **{f"data__{key}": value for key, value in overrides.items()})
    cut = config.data.protocols[cut] if isinstance(cut, str) else cut
    return make_parts(data, cut, config.data)


def families(part):
    return {group.rsplit("_", 2)[0] for group in part.group}


def test_honest_nsynth_keeps_instruments_apart_and_every_family_in_train(nsynth):
    parts, classes, _ = parts_of(nsynth, NSYNTH, "honest")
    assert len(classes) == 10 and "synth_lead" not in classes
    check_leaks(parts, ("id", "group"))
    assert set(parts["train"].label) == set(range(10))
    assert families(parts["train"]) == families(parts["test"])
    for part in parts.values():
        assert all(group.startswith(classes[label]) for group, label in zip(part.group, part.label))


def test_paper_nsynth_leaks_instruments_but_no_note(nsynth):
    parts, *_ = parts_of(nsynth, NSYNTH, "paper")
    check_leaks(parts, ("id",))
    with pytest.raises(DataError, match="share .* groups"):
        check_leaks(parts, ("id", "group"))
    assert len(parts["valid"].id) / (len(parts["train"].id) + len(parts["valid"].id)) == pytest.approx(0.33, abs=0.02)


def test_paper_audioset_chooses_on_test_as_the_study_did(data_dir):
    parts, *_ = parts_of(prepared.find("audioset", "stand_in", data_dir), AUDIOSET, "paper")
    assert parts["valid"] is parts["test"]
    check_leaks(parts, ("id",))
    with pytest.raises(DataError, match="valid and test share 1000 ids"):
        check_leaks(parts, ("id", "group"))


def test_test_and_valid_are_cut_from_one_split(nsynth):
    parts, *_ = parts_of(nsynth, NSYNTH, CUT)
    check_leaks(parts, ("id", "group"))
    assert [len(set(parts[name].group)) for name in ("train", "valid", "test")] == [10, 10, 10]
    assert len(np.unique(np.concatenate([part.id for part in parts.values()]))) == nsynth.examples["valid"]


def test_windows_of_a_clip_keep_its_group_and_leak_only_where_windows_are_the_unit(nsynth):
    segment = dict(seconds=1.5, hop_s=1.0, shortest_s=1.0, pad="zeros")
    by_window, *_ = parts_of(nsynth, NSYNTH, CUT | {"unit": "segment"}, segment=segment)
    check_leaks(by_window, ("segment",))
    with pytest.raises(DataError, match="train and valid share .* ids"):
        check_leaks(by_window, ("id",))
    by_group, *_ = parts_of(nsynth, NSYNTH, CUT, segment=segment)
    check_leaks(by_group, ("segment", "id", "group"))
    for part in by_group.values():
        assert part.steps == 24_000 and part.offset.max() == 48_000
        assert sorted(np.unique(part.length)) == [16_000, 24_000]
        clips = prepared.store.read_index(nsynth.folder, "valid")
        start = dict(zip(clips.id, clips.start))
        assert all(start[i] + offset == s for i, offset, s in zip(part.id, part.offset, part.start))


def test_a_shared_id_stops_the_run_and_is_named(nsynth):
    parts, *_ = parts_of(nsynth, NSYNTH, "honest")
    parts["test"] = parts["test"]._replace(id=np.append(parts["test"].id[1:], parts["train"].id[0]))
    with pytest.raises(DataError, match=f"train and test share 1 ids .{parts['train'].id[0]}"):
        check_leaks(parts, ("id",))


@given(st.integers(0, 10), st.floats(0.05, 0.9), st.lists(st.integers(1, 6), min_size=1, max_size=5))
def test_hold_out_takes_its_share_of_each_class_in_whole_groups_and_leaves_one(seed, fraction, groups_of_class):
    group = [f"{label}-{g}" for label, count in enumerate(groups_of_class) for g in range(count) for _ in range(3)]
    label = np.array([int(name.split("-")[0]) for name in group], np.int32)
    ids = np.array([f"{name}/{i}" for i, name in enumerate(group)])
    number = np.arange(len(ids))
    ones, digest = np.ones(len(ids)), np.zeros((len(ids), 16), np.uint8)
    part = windows.Part("train", 1, ids, np.array(group), ids, label, number, number, ones, ones, digest)
    held = hold_out(part, "group", fraction, seed)
    assert not set(part.group[held]) & set(part.group[~held])
    for stratum, count in enumerate(groups_of_class):
        kept = set(part.group[~held & (label == stratum)])
        assert len(kept) == max(count - round(fraction * count), 1)


def write_csv(path, rows):
    path.write_text("".join(",".join(map(str, row)) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def test_split_file_says_who_is_where(nsynth, tmp_path):
    ids = nsynth.index("valid").id[:40]
    names = ["train", "valid", "test", "train"] * 10
    path = write_csv(tmp_path / "s.csv", [("id", "split"), *zip(ids, names), ("elsewhere", "test")])
    parts, _, notes = parts_of(nsynth, NSYNTH, CUT, split_file=path, exclude_classes=())
    for name, part in parts.items():
        assert part.id.tolist() == [i for i, own in zip(ids, names) if own == name]
    assert notes == [
        f"{path}: {nsynth.examples['valid'] - 40} clips are not in it and left out, 1 clips that it names are absent"
    ]


def test_fold_file_gives_one_fold_to_test_and_cuts_valid_from_the_rest(nsynth, tmp_path):
    index = nsynth.index("valid")
    folds = [sorted(set(index.group)).index(group) % 3 for group in index.group]
    path = write_csv(tmp_path / "f.csv", [("clip", "fold"), *zip(index.id, folds)])
    for fold in range(3):
        parts, *_ = parts_of(nsynth, NSYNTH, CUT, split_file=path, test_fold=str(fold), exclude_classes=())
        assert set(parts["test"].id) == {i for i, own in zip(index.id, folds) if own == fold}
        check_leaks(parts, ("id", "group"))
    with pytest.raises(ConfigError, match="data.test_fold='3' is none of the folds .*: 0, 1, 2"):
        parts_of(nsynth, NSYNTH, CUT, split_file=path, test_fold="3")


def test_class_that_train_lacks_is_said(nsynth, tmp_path):
    index = nsynth.index("valid")
    split = ["test" if nsynth.classes[label] in ("bass", "flute") else "train" for label in index.label]
    split[-2:] = ["valid", "valid"]
    path = write_csv(tmp_path / "s.csv", [("id", "split"), *zip(index.id, split)])
    *_, notes = parts_of(nsynth, NSYNTH, CUT, split_file=path)
    assert notes[1:] == ["test has examples of bass, flute, of which train has none"]


def test_group_file_takes_the_place_of_the_groups(nsynth, tmp_path):
    ids = nsynth.index("valid").id
    path = write_csv(tmp_path / "g.csv", [("clip", "artist"), *((i, i[:6]) for i in ids)])
    parts, *_ = parts_of(nsynth, NSYNTH, CUT | {"unit": "id"}, group_file=path)
    assert all(group == i[:6] for part in parts.values() for i, group in zip(part.id, part.group))
    write_csv(tmp_path / "g.csv", [("clip", "artist"), *((i, i[:6]) for i in ids[1:])])
    with pytest.raises(DataError, match=f"names no group for {ids[0]} .1 such"):
        parts_of(nsynth, NSYNTH, CUT, group_file=path)


def test_what_a_protocol_cannot_have_is_said(nsynth):
    with pytest.raises(DataError, match="has no split unbalanced"):
        parts_of(nsynth, NSYNTH, dict(train="unbalanced", valid="valid", test="test"))
    with pytest.raises(ConfigError, match="'kazoo'"):
        parts_of(nsynth, NSYNTH, "honest", exclude_classes=("kazoo",))
    with pytest.raises(ConfigError, match="unit is 'artist'"):
        parts_of(nsynth, NSYNTH, CUT | {"unit": "artist"})
    with pytest.raises(ConfigError, match="data.segment.pad='mirror'"):
        parts_of(nsynth, NSYNTH, CUT, segment=dict(seconds=1.0, hop_s=0.0, shortest_s=0.0, pad="mirror"))


NTU = ("ntu_freesound", "cnn2d")


@pytest.fixture(scope="module")
def freesound(data_dir):
    return prepared.find("fsdkaggle2018", "stand_in", data_dir)


def test_verified_clips_alone_are_held_out_and_the_others_all_stay_in_train(freesound):
    protocol = dict(train="train", valid="train", test="train", unit="group", judged="verified")
    protocol |= dict(test_fraction=0.3, valid_fraction=0.3)
    parts, *_ = parts_of(freesound, NTU, protocol, subset_weights={})
    index = freesound.index("train")
    assert set(parts["valid"].subset) == set(parts["test"].subset) == {"verified"}
    assert (parts["train"].subset == "unverified").sum() == (index.subset == "unverified").sum()
    assert sum(len(part.id) for part in parts.values()) == len(index.id)
    check_leaks(parts, ("id", "group"))
    with pytest.raises(DataError, match="train has no examples of the subset 'checked'"):
        parts_of(freesound, NTU, dict(train="train", valid="train", test="test", unit="id", judged="checked"))


def test_what_shares_a_group_with_a_held_out_clip_is_left_out_and_counted(freesound, tmp_path):
    index = freesound.index("train")
    groups = tmp_path / "groups.csv"  # each verified clip shares its group with an unverified one
    verified, unverified = (np.flatnonzero(index.subset == name) for name in ("verified", "unverified"))
    name_of = {index.id[i]: f"g{k}" for rows in (verified, unverified) for k, i in enumerate(rows)}
    name_of |= {clip: clip for clip in freesound.index("test").id}
    groups.write_text("clip,group\n" + "".join(f"{clip},{name}\n" for clip, name in name_of.items()))
    parts, _, notes = parts_of(freesound, NTU, "honest", subset_weights={}, group_file=str(groups))
    check_leaks(parts, ("id", "group"))
    lost = len(parts["valid"].id)
    assert len(parts["train"].id) == len(index.id) - 2 * lost
    assert f"{lost} examples that are not verified share a group with valid: left out" in notes


def test_a_label_file_sets_train_alone(freesound, tmp_path):
    plain, classes, _ = parts_of(freesound, NTU, "honest", subset_weights={})
    path, kept = tmp_path / "labels.csv", plain["train"].id[:7]
    rows = [*kept, *plain["valid"].id[:3], "not-here"]
    path.write_text("clip,label,subset,weight\n" + "".join(f"{clip},Bark,pseudo,0.5\n" for clip in rows))
    parts, _, notes = parts_of(freesound, NTU, "honest", subset_weights={}, label_file=str(path))
    assert list(parts["train"].id) == list(kept) and set(parts["train"].label) == {classes.index("Bark")}
    assert set(parts["train"].subset) == {"pseudo"} and set(parts["train"].weight) == {0.5}
    for name in ("valid", "test"):
        np.testing.assert_array_equal(parts[name].label, plain[name].label)
        np.testing.assert_array_equal(parts[name].subset, plain[name].subset)
    left_out = len(plain["train"].id) - len(kept)
    assert any(
        f"{left_out} training clips are not in it and left out, 4 clips that it names are not in train" in n
        for n in notes
    )


def test_subsets_are_weighted_in_train_and_left_out_by_a_weight_of_0(freesound):
    plain, *_ = parts_of(freesound, NTU, "honest", subset_weights={})
    parts, _, notes = parts_of(freesound, NTU, "honest", subset_weights={"unverified": 0.25, "other": 2.0})
    np.testing.assert_array_equal(parts["train"].weight, np.where(plain["train"].subset == "unverified", 0.25, 1))
    assert notes == ["data.subset_weights: train has no example of the subset other"]
    parts, *_ = parts_of(freesound, NTU, "honest", subset_weights={"unverified": 0.0})
    assert set(parts["train"].subset) == {"verified"}
    with pytest.raises(ConfigError, match="data.subset_weights.verified=-1 must not be negative"):
        parts_of(freesound, NTU, "honest", subset_weights={"verified": -1})


@pytest.mark.parametrize(("share", "wrong"), [(0.6, 0.25), (1.0, 0.0), (0.5, 1.0)])
def test_hidden_labels_are_as_many_and_as_wrong_as_told_and_always_the_same(freesound, share, wrong):
    options = dict(
        subset_weights={},
        hide={"share": share, "wrong": wrong},
        segment=dict(seconds=2.0, hop_s=1.0, shortest_s=1.0, pad="zeros"),
    )
    plain, *_ = parts_of(freesound, NTU, "honest", **options | {"hide": {"share": 0.0, "wrong": 0.0}})
    (parts, *_), (again, *_) = (parts_of(freesound, NTU, "honest", **options) for _ in range(2))
    _, first = np.unique(parts["train"].id, return_index=True)
    changed = parts["train"].label != plain["train"].label
    clips = (plain["train"].subset[first] == "verified").sum()
    hidden = (parts["train"].subset[first] == "unverified") & (plain["train"].subset[first] == "verified")
    assert hidden.sum() == round(share * clips)
    assert changed[first].sum() == round(wrong * share * clips)
    assert set(parts["train"].subset[changed]) <= {"unverified"}
    assert set(plain["train"].subset[changed]) <= {"verified"}
    for i in first:  # all windows of a clip alike
        assert len(set(parts["train"].label[parts["train"].id == parts["train"].id[i]])) == 1
    np.testing.assert_array_equal(parts["train"].label, again["train"].label)
    np.testing.assert_array_equal(parts["test"].label, plain["test"].label)
    with pytest.raises(ConfigError, match="data.hide.share=2 and wrong=0 must be 0 … 1"):
        parts_of(freesound, NTU, "honest", hide={"share": 2, "wrong": 0})


def test_a_split_file_s_unverified_clips_are_not_judged_and_are_counted(freesound, tmp_path):
    index = freesound.index("train")
    path = tmp_path / "folds.csv"
    path.write_text("clip,fold\n" + "".join(f"{clip},{n % 3}\n" for n, clip in enumerate(index.id)))
    protocol = dict(train="train", valid="train", test="train", unit="id", judged="verified", valid_fraction=0.3)
    options = dict(subset_weights={}, split_file=str(path), test_fold="1")
    parts, _, notes = parts_of(freesound, NTU, protocol, **options)
    assert set(parts["test"].subset) == {"verified"}
    lost = (index.subset[np.arange(len(index.id)) % 3 == 1] == "unverified").sum()
    assert f"{lost} clips of test in {path} are not verified and are left out" in notes


def test_labels_of_clips_that_there_are_not_are_said(freesound, tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("clip,label\nx.wav,Bark\n")
    with pytest.raises(
        DataError, match="train is empty: .*labels.csv' names none of its clips, .* called such as train-00000-Acou"
    ):
        parts_of(freesound, NTU, "honest", subset_weights={}, label_file=str(path))


def write_tracks(root, genres=("blues", "rock"), tracks=5, copies=()):
    """A GTZAN tree of short tracks of noise. copies: pairs (new name, name of the track that it repeats)."""
    names = {f"{genre}/{genre}.{k:05d}.wav": track(31 * g + k) for g, genre in enumerate(genres) for k in range(tracks)}
    names |= {new: names[old] for new, old in copies}
    write_files(root / "gtzan", names)


SHORT = dict(seconds=0.09, hop_s=0.0, shortest_s=0.09, pad="zeros")
COPIES = [("rock/rock.00090.wav", "rock/rock.00000.wav"), ("blues/blues.00091.wav", "rock/rock.00001.wav")]


@pytest.mark.parametrize("split_seed", range(6))
def test_copies_of_a_recording_stay_on_one_side_of_honest(tmp_path, split_seed):
    """Whatever their names, classes and containers; a clip of silence is no copy of another."""
    write_tracks(tmp_path, copies=COPIES)
    flac = encode(samples_of(31 + 2), 22_050, "FLAC")
    silence = encode(np.zeros(2_000, np.int16), 22_050)
    more = {"rock/rock.00092.flac": flac, "rock/rock.00093.wav": silence, "blues/blues.00094.wav": silence}
    write_files(tmp_path / "gtzan", more)
    data = prepared_after("gtzan", tmp_path, tmp_path)
    config = config_of("fagan_gtzan", "cnn1d_gap", data__split_seed=split_seed, data__segment=SHORT)
    for protocol in ("honest", "paper"):
        parts, _, notes = make_parts(data, config.data.protocols[protocol], config.data)
        [said] = [note for note in notes if "same samples" in note]
        assert "3 clips have the same samples as another clip, such as" in said
        assert sum(len(part.id) for part in parts.values()) == 15
        if protocol == "honest":
            check_leaks(parts, ("id", "group"))
            sounding = {name: ~np.isin(part.id, ["rock.00093", "blues.00094"]) for name, part in parts.items()}
            sounds = [set(map(bytes, part.digest[sounding[name]])) for name, part in parts.items()]
            assert all(one.isdisjoint(other) for one, other in itertools.combinations(sounds, 2))


def test_copies_on_both_sides_of_a_given_cut_are_left_out_of_training(tmp_path):
    write_tracks(tmp_path, copies=COPIES)
    data = prepared_after("gtzan", tmp_path, tmp_path)
    ids = data.index("all").id
    part_of = {
        clip: ("test" if clip.endswith(("00", "01")) else "train") for clip in ids
    }  # not rock.00090, blues.00091
    part_of |= {"rock.00003": "valid", "blues.00003": "valid", "blues.00091": "valid"}
    path = tmp_path / "cut.csv"
    path.write_text("clip,split\n" + "".join(f"{clip},{part}\n" for clip, part in part_of.items()))
    config = config_of("fagan_gtzan", "cnn1d_gap", data__split_file=str(path), data__segment=SHORT)
    parts, _, notes = make_parts(data, config.data.protocols.honest, config.data)
    assert {"rock.00090", "blues.00091"}.isdisjoint([*parts["train"].id, *parts["valid"].id])
    assert sorted({*parts["train"].id, *parts["valid"].id, *parts["test"].id}) == sorted(
        set(ids) - {"rock.00090", "blues.00091"}
    )
    assert "1 examples of train are of recordings that test has copies of: left out" in notes
    assert "1 examples of valid are of recordings that test has copies of: left out" in notes


@given(st.lists(st.sets(st.integers(0, 12).map(str), min_size=2, max_size=3), max_size=8))
def test_groups_are_joined_as_far_as_ties_lead(tied):
    joined = join_groups(tied)
    graph = scipy.sparse.lil_matrix((13, 13))
    for groups in tied:
        for one, two in itertools.combinations(sorted(groups), 2):
            graph[int(one), int(two)] = 1
    _, component = scipy.sparse.csgraph.connected_components(graph, directed=False)
    for one, two in itertools.combinations(map(str, range(13)), 2):
        assert (joined.get(one, one) == joined.get(two, two)) == (component[int(one)] == component[int(two)])


def test_split_names_of_other_programs_are_refused(nsynth, tmp_path):
    """Such as "val", which would pass for a fold, whose clips would be trained on."""
    path, ids = tmp_path / "protocol.csv", nsynth.index("valid").id
    names = ["train", "val", "test"]
    path.write_text("clip,split\n" + "".join(f"{clip},{names[n % 3]}\n" for n, clip in enumerate(ids)))
    for fold in ("", "test"):
        with pytest.raises(ConfigError, match="has the splits test, train, val; they must be train, valid and test"):
            parts_of(nsynth, NSYNTH, CUT, split_file=str(path), test_fold=fold)


def test_hardly_any_class_left_is_said_or_served(nsynth):
    one, none = tuple(nsynth.classes[1:]), tuple(nsynth.classes)
    with pytest.raises(ConfigError, match="data.exclude_classes leaves no class of nsynth"):
        parts_of(nsynth, NSYNTH, CUT, exclude_classes=none)
    with pytest.raises(ConfigError, match="data.hide.wrong=0.5 needs a second class"):
        parts_of(nsynth, NSYNTH, CUT, exclude_classes=one, hide={"share": 0.5, "wrong": 0.5})
    parts, classes, _ = parts_of(nsynth, NSYNTH, CUT, exclude_classes=one, hide={"share": 0.5, "wrong": 0.0})
    assert classes == nsynth.classes[:1] and (parts["train"].subset == HIDDEN).any()


def test_notes_are_in_one_order(nsynth):
    """A set's order changes with PYTHONHASHSEED."""
    weights = {f"subset {letter}": 1.0 for letter in "hgfedcba"}
    *_, notes = parts_of(nsynth, NSYNTH, CUT, subset_weights=weights)
    assert len(notes) == 8 and notes == sorted(notes)


@pytest.mark.parametrize("form", ["{}", "{}.wav", "blues/{}.au", "C:\\audio\\blues\\{}.WAV", "./{}"])
def test_files_may_name_clips_with_folders_and_suffixes(tmp_path, form):
    write_tracks(tmp_path)
    data = prepared_after("gtzan", tmp_path, tmp_path)
    ids = data.index("all").id
    lines = {"split": ["train", "valid", "test", "train", "test"] * 2, "artist": list("abcdefghij")}
    for column, values in lines.items():
        rows = "".join(f"{form.format(clip)},{value}\n" for clip, value in zip(ids, values))
        (tmp_path / f"{column}.csv").write_text(f"clip,{column}\n{rows}")
    config = config_of("fagan_gtzan", "cnn1d_gap", data__segment=SHORT, data__split_file=str(tmp_path / "split.csv"))
    parts, _, notes = make_parts(data, config.data.protocols.honest, config.data)
    assert [len(parts[name].id) for name in PARTS] == [4, 2, 4]
    assert any("0 clips are not in it and left out, 0 clips that it names are absent" in note for note in notes)
    config = config_of("fagan_gtzan", "cnn1d_gap", data__segment=SHORT, data__group_file=str(tmp_path / "artist.csv"))
    cut = dict(config.data.protocols.honest) | {"valid_fraction": 0.4}
    parts, *_ = make_parts(data, cut, config.data)
    assert not set(parts["train"].group) & set(parts["test"].group) and set(parts["train"].group) <= set("abcdefghij")


def test_a_file_of_other_clips_or_of_one_clip_twice_is_said(tmp_path):
    write_tracks(tmp_path)
    data = prepared_after("gtzan", tmp_path, tmp_path)
    path = tmp_path / "cut.csv"
    config = config_of("fagan_gtzan", "cnn1d_gap", data__segment=SHORT, data__split_file=str(path))
    for rows, said in (
        ("x,train\ny,test\n", "none of the 2 clips that .* names, such as 'x', is in all; .* such as 'blues.00000'"),
        ("rock.00001,train\nrock/rock.00001.wav,test\n", "names rock.00001 twice, once as rock/rock.00001.wav"),
    ):
        path.write_text(f"clip,split\n{rows}")
        with pytest.raises(DataError, match=said):
            make_parts(data, config.data.protocols.honest, config.data)


def test_more_windows_than_memory_holds_are_refused(nsynth, monkeypatch):
    segment = dict(seconds=1 / 16_000, hop_s=0.0, shortest_s=0.0, pad="zeros")
    monkeypatch.setattr(windows.host, "memory_bytes", lambda: 3_000_000_000)
    with pytest.raises(ConfigError, match="hop_s=0.0 cut train into 38,400,000 windows, whose index needs"):
        parts_of(nsynth, NSYNTH, "honest", segment=segment, exclude_classes=())
