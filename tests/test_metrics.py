"""Metrics against scikit-learn, SciPy and values known by hand."""

import math

import numpy as np
import pytest
import scipy.linalg
import sklearn.metrics

from audiojax import metrics


def scored(score, label, loss=None):
    loss = np.zeros(len(label)) if loss is None else loss
    return metrics.summary(score, label, loss, metrics.by_class(score, label))


def test_multi_label_equals_scikit_learn():
    rng = np.random.default_rng(0)
    score = rng.random((200, 7), dtype=np.float32)
    label = (rng.random((200, 7)) < 0.2).astype(np.uint8)
    values = scored(score, label, loss=np.arange(200.0))
    assert values["mAP"] == pytest.approx(sklearn.metrics.average_precision_score(label, score, average="macro"))
    assert values["mAUC"] == pytest.approx(sklearn.metrics.roc_auc_score(label, score, average="macro"))
    assert values["loss"] == pytest.approx(99.5)
    assert "accuracy" not in values


@pytest.mark.parametrize("decimals", [0, 1, 2])
def test_areas_of_scores_with_ties_equal_scikit_learn(decimals):
    rng = np.random.default_rng(decimals)
    score, hot = rng.random(300).round(decimals).astype(np.float32), (rng.random(300) < 0.2).astype(np.uint8)
    average_precision, auc = metrics.areas(hot, score)
    assert average_precision == pytest.approx(sklearn.metrics.average_precision_score(hot, score), rel=1e-12)
    assert auc == pytest.approx(sklearn.metrics.roc_auc_score(hot, score), rel=1e-12)


def test_a_class_that_every_example_has_has_no_auc():
    classes = metrics.by_class(np.array([[0.2], [0.7]], np.float32), np.ones((2, 1), np.uint8))
    assert classes["average_precision"].tolist() == [1.0] and math.isnan(classes["auc"][0])


def test_single_label_equals_scikit_learn():
    rng = np.random.default_rng(1)
    score = rng.random((300, 8), dtype=np.float32)
    label = rng.integers(0, 8, 300).astype(np.int32)
    values, chosen = scored(score, label), score.argmax(1)
    assert values["accuracy"] == sklearn.metrics.accuracy_score(label, chosen)
    assert values["macro_f1"] == pytest.approx(sklearn.metrics.f1_score(label, chosen, average="macro"))
    assert values["top3"] == sklearn.metrics.top_k_accuracy_score(label, score, k=3)
    assert values["top5"] == sklearn.metrics.top_k_accuracy_score(label, score, k=5)
    one_hot = np.eye(8)[label]
    assert values["mAUC"] == pytest.approx(sklearn.metrics.roc_auc_score(one_hot, score, average="macro"))


def test_constant_predictions_score_the_share_of_their_class():
    label = np.array([0] * 3 + [1] * 4 + [2] * 3, np.int32)
    score = np.tile(np.array([0.6, 0.3, 0.1], np.float32), (10, 1))
    values = scored(score, label)
    assert values["accuracy"] == 0.3
    assert values["mAUC"] == 0.5
    assert values["d_prime"] == 0.0
    assert values["map_at_3"] == pytest.approx((3 * 1 + 4 / 2 + 3 / 3) / 10)


def test_classes_without_a_positive_are_nan_and_left_out_of_means():
    score = np.array([[0.9, 0.1, 0.5], [0.2, 0.8, 0.5], [0.7, 0.6, 0.1]], np.float32)
    label = np.array([[1, 0, 0], [0, 1, 0], [1, 1, 0]], np.uint8)
    classes = metrics.by_class(score, label)
    assert math.isnan(classes["auc"][2]) and math.isnan(classes["average_precision"][2])
    assert scored(score, label)["mAP"] == pytest.approx(np.mean(classes["average_precision"][:2]))


def test_d_prime_equals_a_published_value():
    assert metrics.d_prime(0.969) == pytest.approx(2.64, abs=0.005)  # Kong et al. report 2.641 for AUC 0.969.


def test_confusion_rows_are_the_truth():
    score = np.eye(3, dtype=np.float32)[[1, 1, 2]]
    classes = metrics.by_class(score, np.array([0, 1, 2], np.int32))
    assert classes["confusion"].tolist() == [[0, 1, 0], [0, 1, 0], [0, 0, 1]]
    assert classes["recall"].tolist() == [0, 1, 1]


def test_clips_score_the_mean_of_their_windows():
    ids = np.array(["b", "a", "b", "a", "a"])
    score = np.arange(10, dtype=np.float32).reshape(5, 2)
    first, pooled, loss = metrics.pool(ids, score, np.arange(5.0))
    assert ids[first].tolist() == ["a", "b"]
    np.testing.assert_allclose(pooled, [score[[1, 3, 4]].mean(0), score[[0, 2]].mean(0)])
    np.testing.assert_allclose(loss, [8 / 3, 1])
    assert metrics.pool(np.array(["a", "b"]), score[:2], np.zeros(2)) is None


def test_intervals_draw_whole_groups():
    """A hundred windows of four tracks count as four tracks: of 1 right in 4, the interval is 0 to 3 in 4."""
    label = np.zeros(100, np.int32)
    group = np.repeat(["a", "b", "c", "d"], 25)
    score = np.where((group == "a")[:, None], [0.9, 0.1], [0.1, 0.9]).astype(np.float32)
    low, high = metrics.intervals(score, label, np.zeros(100), group)["accuracy"]
    assert low == 0 and high == 0.75
    low, high = metrics.intervals(score, label, np.zeros(100), np.arange(100))["accuracy"]
    assert 0.15 < low < 0.18 and 0.32 < high < 0.35


def test_intervals_lie_around_the_metrics():
    rng = np.random.default_rng(2)
    label = rng.integers(0, 8, 300).astype(np.int32)
    score = rng.random((300, 8)) + 0.4 * np.eye(8)[label]
    loss = rng.random(300)
    values, found = scored(score, label, loss), metrics.intervals(score, label, loss, np.arange(300))
    assert found.keys() == {"loss", "accuracy", "top3", "top5", "map_at_3", "macro_f1"}
    for metric, (low, high) in found.items():
        assert low < values[metric] < high and 0.01 < high - low < 0.2


def test_the_interval_of_the_loss_equals_a_plain_bootstrap():
    rng = np.random.default_rng(4)
    group, loss = rng.integers(0, 20, 60), rng.random(60)
    label = (rng.random((60, 3)) < 0.5).astype(np.uint8)
    low, high = metrics.intervals(rng.random((60, 3)), label, loss, group)["loss"]
    by_group = [loss[group == g] for g in range(20)]
    means = [np.concatenate([by_group[g] for g in rng.integers(0, 20, 20)]).mean() for _ in range(4000)]
    np.testing.assert_allclose([low, high], np.percentile(means, [2.5, 97.5]), atol=0.01)


def test_f1_from_a_confusion_matrix_equals_scikit_learn():
    rng = np.random.default_rng(3)
    truth, chosen = rng.integers(0, 5, 60), rng.integers(0, 7, 60)
    confusion = sklearn.metrics.confusion_matrix(truth, chosen, labels=np.arange(7))
    expected = sklearn.metrics.f1_score(truth, chosen, average=None, labels=np.arange(7), zero_division=0)
    assert metrics.macro_f1(confusion) == pytest.approx(expected[np.unique(truth)].mean())


def test_frechet_distance_of_gaussians_is_the_closed_form():
    """In one dimension (m1 - m2)² + (s1 - s2)²; in several, with SciPy's root of the product of covariances."""
    rng = np.random.default_rng(0)
    one, other = rng.normal(1, 2, (4000, 1)), rng.normal(4, 3, (4000, 1))
    expected = (one.mean() - other.mean()) ** 2 + (one.std(ddof=1) - other.std(ddof=1)) ** 2
    assert metrics.frechet(one, other) == pytest.approx(expected, rel=1e-9)
    one, other = rng.normal(size=(50, 6)) @ rng.normal(size=(6, 6)), rng.normal(size=(60, 6)) + 1
    covariance = [np.cov(of, rowvar=False) for of in (one, other)]
    root = scipy.linalg.sqrtm(covariance[0] @ covariance[1]).real
    expected = ((one.mean(0) - other.mean(0)) ** 2).sum() + np.trace(covariance[0] + covariance[1] - 2 * root)
    assert metrics.frechet(one, other) == pytest.approx(expected, rel=1e-6)
    assert metrics.frechet(one, other) == pytest.approx(metrics.frechet(other, one), rel=1e-6)


def test_frechet_distance_of_few_equal_or_non_finite_embeddings():
    rng = np.random.default_rng(0)
    few = rng.normal(size=(3, 2, 8))  # fewer embeddings than dimensions
    assert metrics.frechet(few, few) == pytest.approx(0, abs=1e-9)
    assert metrics.frechet(few, few + 1) == pytest.approx(8, rel=1e-6)
    assert metrics.frechet(few, np.zeros((4, 8))) > 0
    assert metrics.frechet(few, np.full((4, 8), np.nan)) == np.inf
