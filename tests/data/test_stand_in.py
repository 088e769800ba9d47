"""The stand-in data: a good model tells its classes apart, a bad one does not."""

import numpy as np
import sklearn.linear_model
import sklearn.pipeline
import sklearn.preprocessing

from audiojax import frontend
from audiojax.data import prepared
from audiojax.data.datasets import audioset, nsynth
from audiojax.metrics import by_class


def accuracy(train, test):
    model = sklearn.pipeline.make_pipeline(
        sklearn.preprocessing.StandardScaler(), sklearn.linear_model.LogisticRegression(max_iter=300)
    )
    return model.fit(*train).score(*test)


def test_families_of_notes_differ_in_timbre_not_in_loudness(data_dir):
    data = prepared.find("nsynth", "stand_in", data_dir)
    timbre, loudness = [], []
    for split in ("train", "test"):
        rows = np.arange(0, data.examples[split], 2)
        audio, index = np.load(data.inputs_path(split), mmap_mode="r")[rows], data.index(split)
        mel = frontend.flat_log_mel(audio, index.length[rows], 16_000, 1024, 1024, 40, 60, 80.0).reshape(-1, 40, 60)
        timbre.append((np.concatenate([mel.mean(2), mel[:, :, :5].mean(2)], 1), index.label[rows]))
        loudness.append((np.abs(audio.astype(float)).max(1, keepdims=True), index.label[rows]))
    assert accuracy(*timbre) > 0.6
    assert accuracy(*loudness) < 0.3


def test_labels_of_clips_can_be_learnt_from_the_right_embeddings_alone(data_dir):
    data = prepared.find("audioset", "stand_in", data_dir)
    features, label = {}, {}
    for split in ("bal_train", "eval"):
        index = data.index(split)
        features[split] = np.load(data.inputs_path(split)).mean(1)
        label[split] = index.label[:, :20]
    ridge = sklearn.linear_model.Ridge(10.0)

    def mean_auc(train_label):
        score = ridge.fit(features["bal_train"], train_label).predict(features["eval"])
        return np.nanmean(by_class(score, label["eval"])["auc"])

    assert mean_auc(label["bal_train"]) > 0.75
    assert abs(mean_auc(np.random.default_rng(0).permutation(label["bal_train"])) - 0.5) < 0.1


def test_stand_ins_are_the_same_every_time():
    one, two = (next(iter(nsynth.synthesise_notes(range(1), 1, seed=0))) for _ in range(2))
    np.testing.assert_array_equal(one.input, two.input)
    assert one.id == two.id and 0 < np.abs(one.input).max() <= 32767
    one, two = (list(audioset.synthesise_clips("eval", 3, seed=1)) for _ in range(2))
    assert [clip.label for clip in one] == [clip.label for clip in two]
