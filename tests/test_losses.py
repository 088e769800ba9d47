"""Losses against scikit-learn and SciPy."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import sklearn.metrics

from audiojax import losses

LOGITS = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
CLASSIFIERS = {name: loss for name, loss in vars(losses).items() if isinstance(loss, losses.Loss)}
GANS = {name: loss for name, loss in vars(losses).items() if isinstance(loss, losses.GanLoss)}


def test_softmax_cross_entropy_equals_scikit_learn():
    label = np.array([0, 1, 2, 3, 1])
    expected = sklearn.metrics.log_loss(label, scipy.special.softmax(LOGITS, 1), labels=range(4))
    assert losses.softmax_cross_entropy.value(LOGITS, label).mean() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("positive_weight", [1.0, 3.0])
def test_sigmoid_cross_entropy_sums_binary_losses(positive_weight):
    label = (np.random.default_rng(1).random((5, 4)) < 0.5).astype(np.uint8)
    p = scipy.special.expit(LOGITS)
    expected = -(positive_weight * label * np.log(p) + (1 - label) * np.log(1 - p)).sum(1)
    np.testing.assert_allclose(losses.sigmoid_cross_entropy.value(LOGITS, label, positive_weight), expected, rtol=1e-5)


def test_several_labels_share_the_softmax():
    label = np.array([[1, 1, 0, 0]], np.uint8)
    log_p = scipy.special.log_softmax(LOGITS[:1], 1)
    loss = losses.softmax_cross_entropy.value(LOGITS[:1], label)
    assert float(loss[0]) == pytest.approx(-(log_p[0, 0] + log_p[0, 1]) / 2, rel=1e-5)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_probabilities_and_logits_belong_together(name):
    loss, label = CLASSIFIERS[name], np.array([0, 1, 2, 3, 1])
    score = np.asarray(loss.probabilities(jnp.asarray(LOGITS)))
    assert score.min() >= 0 and score.max() <= 1
    np.testing.assert_allclose(loss.probabilities(loss.logits(score)), score, rtol=1e-5)
    np.testing.assert_allclose(loss.value(loss.logits(score), label), loss.value(LOGITS, label), rtol=1e-5)
    assert np.isfinite(loss.logits(np.array([0.0, 1.0]))).all()


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_one_label_is_the_same_as_its_one_hot_vector(name):
    label = np.array([0, 1, 2, 3, 1])
    one, other = (CLASSIFIERS[name].value(LOGITS, of) for of in (label, np.eye(4, dtype=np.uint8)[label]))
    np.testing.assert_array_equal(one, other)


def test_probabilities_of_independent_classes_do_not_sum_to_one():
    np.testing.assert_allclose(losses.softmax_cross_entropy.probabilities(LOGITS).sum(1), 1, rtol=1e-5)
    np.testing.assert_allclose(losses.sigmoid_cross_entropy.probabilities(LOGITS), scipy.special.expit(LOGITS), 1e-5)
    assert losses.sigmoid_cross_entropy.independent and not losses.softmax_cross_entropy.independent


@pytest.mark.parametrize("name", GANS)
def test_a_better_side_of_a_gan_has_the_lower_loss(name):
    loss, high, low = GANS[name], np.array([0.5]), np.array([-0.5])
    assert loss.discriminator(high, low) < loss.discriminator(low, low) < loss.discriminator(low, high)
    assert loss.generator(high) < loss.generator(low)


def test_the_generators_loss_is_the_cross_entropy_of_real():
    expected = losses.sigmoid_cross_entropy.value(LOGITS[:, :1], np.ones((5, 1)))
    np.testing.assert_allclose(losses.binary_cross_entropy.generator(LOGITS[:, 0]), expected, rtol=1e-5)
    assert losses.hinge.discriminator(np.array([1.5]), np.array([-1.5]))[0] == 0


def test_competition_leads_from_independent_classes_to_a_softmax():
    prior_K = np.array([-1.0, -4.0, 2.0, 0.0], np.float32)
    np.testing.assert_array_equal(losses.compete(LOGITS, prior_K, 0.0), LOGITS)
    np.testing.assert_allclose(losses.compete(prior_K[None], prior_K, 0.5), prior_K[None], rtol=1e-6)
    softmax = scipy.special.log_softmax(LOGITS - prior_K, 1) + np.log(4) + prior_K
    for share in (0.5, 1.0):
        expected = (1 - share) * LOGITS + share * softmax
        np.testing.assert_allclose(losses.compete(LOGITS, prior_K, share), expected, rtol=1e-5, atol=1e-6)
    assert np.isfinite(losses.compete(1e4 * LOGITS, prior_K, 0.5)).all()
