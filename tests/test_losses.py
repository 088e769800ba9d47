import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import sklearn.metrics

from audiojax import losses

LOGITS = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)


def test_softmax_cross_entropy_equals_scikit_learn():
    label = np.array([0, 1, 2, 3, 1])
    expected = sklearn.metrics.log_loss(label, scipy.special.softmax(LOGITS, 1), labels=range(4))
    assert float(losses.softmax_cross_entropy(jnp.asarray(LOGITS), jnp.asarray(label)).mean()) == pytest.approx(
        expected, rel=1e-5
    )


def test_sigmoid_cross_entropy_sums_binary_losses():
    label = (np.random.default_rng(1).random((5, 4)) < 0.5).astype(np.uint8)
    p = scipy.special.expit(LOGITS)
    expected = -(label * np.log(p) + (1 - label) * np.log(1 - p)).sum(1)
    np.testing.assert_allclose(
        losses.sigmoid_cross_entropy(jnp.asarray(LOGITS), jnp.asarray(label)), expected, rtol=1e-5
    )


def test_several_labels_share_the_softmax():
    label = np.array([[1, 1, 0, 0]], np.uint8)
    log_p = scipy.special.log_softmax(LOGITS[:1], 1)
    loss = losses.softmax_cross_entropy(jnp.asarray(LOGITS[:1]), jnp.asarray(label))
    assert float(loss[0]) == pytest.approx(-(log_p[0, 0] + log_p[0, 1]) / 2, rel=1e-5)


@pytest.mark.parametrize("loss", ["softmax_cross_entropy", "sigmoid_cross_entropy"])
@pytest.mark.parametrize("label", [np.array([0, 1, 2, 3, 1]), np.eye(5, 4, dtype=np.uint8) + np.eye(5, 4, 1, np.uint8)])
def test_a_loss_of_probabilities_is_that_of_their_logits(loss, label):
    label = np.where(label.sum(-1, keepdims=True) > 0, label, 1) if label.ndim == 2 else label
    expected = getattr(losses, loss)(jnp.asarray(LOGITS), jnp.asarray(label))
    score = np.asarray(losses.probabilities(loss, jnp.asarray(LOGITS)))
    np.testing.assert_allclose(losses.of_probabilities(loss, score, label), expected, rtol=1e-5)


def test_a_probability_of_zero_costs_as_much_as_one_of_1e_7():
    certain = np.array([[0.0, 1.0]])
    wrong, right = (losses.of_probabilities("sigmoid_cross_entropy", certain, np.array([k]))[0] for k in (0, 1))
    assert wrong == pytest.approx(-2 * np.log(1e-7), rel=1e-2) and 0 <= right < 1e-6


def test_probabilities_follow_the_loss():
    np.testing.assert_allclose(losses.probabilities("softmax_cross_entropy", LOGITS).sum(1), 1, rtol=1e-5)
    np.testing.assert_allclose(
        losses.probabilities("sigmoid_cross_entropy", LOGITS), scipy.special.expit(LOGITS), rtol=1e-5
    )


def test_competition_leads_from_independent_classes_to_a_softmax():
    prior_K = np.array([-1.0, -4.0, 2.0, 0.0], np.float32)
    np.testing.assert_array_equal(losses.compete(LOGITS, prior_K, 0.0), LOGITS)
    np.testing.assert_allclose(losses.compete(prior_K[None], prior_K, 0.5), prior_K[None], rtol=1e-6)
    softmax = scipy.special.log_softmax(LOGITS - prior_K, 1) + np.log(4) + prior_K
    for share in (0.5, 1.0):
        expected = (1 - share) * LOGITS + share * softmax
        np.testing.assert_allclose(losses.compete(LOGITS, prior_K, share), expected, rtol=1e-5, atol=1e-6)
    assert np.isfinite(losses.compete(1e4 * LOGITS, prior_K, 0.5)).all()
