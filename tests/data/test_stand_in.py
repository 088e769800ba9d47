"""The stand-in data: a good model tells its classes apart, a bad one does not."""

import numpy as np
import pytest
import sklearn.linear_model
import sklearn.metrics
import sklearn.pipeline
import sklearn.preprocessing

from audiojax.data import prepared
from audiojax.data.datasets import audioset, fsdkaggle2018, gtzan, nsynth


def accuracy(train, test):
    model = sklearn.pipeline.make_pipeline(
        sklearn.preprocessing.StandardScaler(), sklearn.linear_model.LogisticRegression(max_iter=300)
    )
    return model.fit(*train).score(*test)


def clips(data, split, rows):
    """Samples of some clips, full scale 1."""
    inputs, index = data.inputs(split), data.index(split)
    return [inputs[index.start[row] : index.start[row] + index.length[row]] / np.float32(32768) for row in rows]


def timbre(audio, frame=1024, bands=40):
    """Mean and deviation over time of the energy in dB of bands that widen upwards, without the loudness."""
    audio = np.pad(audio, (0, -len(audio) % frame)).reshape(-1, frame)[:600]
    power = np.abs(np.fft.rfft(audio * np.hanning(frame).astype(np.float32))) ** 2
    edges = np.unique(np.geomspace(1, power.shape[1] - 1, bands + 1).astype(int))
    energy = 10 * np.log10(np.add.reduceat(power, edges, axis=1) + 1e-8)
    return np.concatenate([energy.mean(0) - energy.mean(), energy.std(0)])


def loudness(audio):
    """How loud and how long a clip is."""
    return [np.log(audio.std() + 1e-6), np.log(len(audio))]


def scores(data, train, test):
    """Accuracy by timbre and by loudness alone; train and test: a split and rows of it each."""
    audio = [clips(data, split, rows) for split, rows in (train, test)]
    label = [data.index(split).label[rows] for split, rows in (train, test)]
    return [
        accuracy(*((np.array([feature(clip) for clip in part]), part_label) for part, part_label in zip(audio, label)))
        for feature in (timbre, loudness)
    ]


def test_families_of_notes_differ_in_timbre_not_in_loudness(data_dir):
    data = prepared.find("nsynth", "stand_in", data_dir)
    rows = {split: np.arange(0, data.examples[split], 2) for split in ("train", "test")}
    by_timbre, by_loudness = scores(data, *rows.items())
    assert by_timbre > 0.6 and by_loudness < 0.3


def test_genres_of_tracks_differ_in_sound_not_in_loudness_or_length(data_dir):
    data = prepared.find("gtzan", "stand_in", data_dir)
    index = data.index("all")
    assert data.examples == {"all": 100} and data.classes == gtzan.GENRES
    assert np.bincount(index.label).tolist() == [10] * 10
    assert index.id[0] == "blues.00000" and 660_000 <= index.length.min() < index.length.max() <= 676_000
    rows = np.arange(100)
    by_timbre, by_loudness = scores(data, ("all", rows[rows % 2 == 0]), ("all", rows[rows % 2 == 1]))
    assert by_timbre > 0.6 and by_loudness < 0.3


def test_classes_of_clips_differ_in_sound_not_in_loudness_or_length(data_dir):
    data = prepared.find("fsdkaggle2018", "stand_in", data_dir)
    verified = np.flatnonzero(data.index("train").subset == "verified")
    by_timbre, by_loudness = scores(data, ("train", verified), ("test", np.arange(data.examples["test"])))
    assert by_timbre > 0.5 and by_loudness < 0.15


def test_verified_clips_are_labelled_right_and_a_quarter_of_the_others_wrong(data_dir):
    data = prepared.find("fsdkaggle2018", "stand_in", data_dir)
    train, test = data.index("train"), data.index("test")
    assert data.classes == fsdkaggle2018.CLASSES and len(data.classes) == 41 and data.classes == sorted(data.classes)

    def right(index):
        return np.array([i.split("-", 2)[2] == data.classes[label] for i, label in zip(index.id, index.label)])

    assert right(train)[train.subset == "verified"].all() and right(test).all()
    assert 0.2 < 1 - right(train)[train.subset == "unverified"].mean() < 0.3
    assert 0.35 < (train.subset == "verified").mean() < 0.45
    public = np.bincount(test.label[test.subset == "Public"], minlength=41)
    assert (public == 1).all() and set(test.subset) == {"Public", "Private"}
    assert not set(train.group) & set(test.group)
    seconds = train.length / data.sample_rate_hz
    assert 0.3 <= seconds.min() < 0.5 and 5.5 < seconds.max() <= 6


def test_labels_of_clips_can_be_learnt_from_the_right_embeddings_alone(data_dir):
    data = prepared.find("audioset", "stand_in", data_dir)
    features, label = {}, {}
    for split in ("bal_train", "eval"):
        index = data.index(split)
        features[split] = np.add.reduceat(data.inputs(split), np.sort(index.start), dtype=float)
        features[split] = features[split][np.argsort(np.argsort(index.start))] / index.length[:, None]
        label[split] = index.label[:, :20]
    ridge = sklearn.linear_model.Ridge(10.0)

    def mean_auc(train_label):
        score = ridge.fit(features["bal_train"], train_label).predict(features["eval"])
        return sklearn.metrics.roc_auc_score(label["eval"], score, average="macro")

    assert mean_auc(label["bal_train"]) > 0.75
    assert abs(mean_auc(np.random.default_rng(0).permutation(label["bal_train"])) - 0.5) < 0.1


@pytest.mark.parametrize(
    "synthesise",
    [
        lambda: list(nsynth.synthesise_notes(range(1), 1, seed=0))[0][1](),
        lambda: list(audioset.synthesise_clips("eval", 3, seed=1))[2][1](),
        lambda: gtzan.synthesise_track("jazz.00003"),
        lambda: fsdkaggle2018.synthesise_clip("train-00012-Hi-hat"),
    ],
    ids=["nsynth", "audioset", "gtzan", "fsdkaggle2018"],
)
def test_stand_ins_are_the_same_every_time(synthesise):
    one, two = synthesise(), synthesise()
    np.testing.assert_array_equal(one.input, two.input)
    assert one._replace(input=None) == two._replace(input=None) and one.input.any()
