"""Losses: pure functions of logits and labels, one value an example."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax


def sigmoid_cross_entropy(logits_BK: jax.Array, label: jax.Array, positive_weight: float = 1.0) -> jax.Array:
    """Binary cross-entropy of independent labels, summed over the classes: float32 [B].

    label: int [B], or one weight in 0…1 for each class [B, K]. positive_weight: of the share that a label's presence
    has in it, against its absence.
    """
    targets_BK = _targets(label, logits_BK)
    present_BK = positive_weight * targets_BK * jax.nn.log_sigmoid(logits_BK)
    return -(present_BK + (1 - targets_BK) * jax.nn.log_sigmoid(-logits_BK)).sum(-1)


def softmax_cross_entropy(logits_BK: jax.Array, label: jax.Array) -> jax.Array:
    """Cross-entropy of one distribution over the classes: float32 [B].

    label: int [B], or [B, K] in 0…1; several labels share the probability evenly.
    """
    targets_BK = _targets(label, logits_BK)
    return optax.softmax_cross_entropy(logits_BK, targets_BK / targets_BK.sum(-1, keepdims=True))


def binary_cross_entropy(real_B: jax.Array, fake_B: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Losses of a GAN's discriminator and generator from the logits of real and generated examples: float32 [B] each.

    The discriminator's is the mean of both kinds; the generator's is that its examples are not taken for real
    (Goodfellow et al. 2014, the form that does not saturate).
    """
    return (jax.nn.softplus(-real_B) + jax.nn.softplus(fake_B)) / 2, jax.nn.softplus(-fake_B)


def hinge(real_B: jax.Array, fake_B: jax.Array) -> tuple[jax.Array, jax.Array]:
    """As `binary_cross_entropy`: logits beyond a margin of 1 are not asked for (Lim and Ye 2017)."""
    return (jax.nn.relu(1 - real_B) + jax.nn.relu(1 + fake_B)) / 2, -fake_B


def _targets(label: jax.Array, logits_BK: jax.Array) -> jax.Array:
    if label.ndim == 1:
        return jax.nn.one_hot(label, logits_BK.shape[-1])
    return label.astype(jnp.float32)


def compete(logits_BK: jax.Array, prior_logits_K: np.ndarray, share: float) -> jax.Array:
    """Logits of several labels, less a share of what speaks for any of them: what is one class's is less another's.

    That is the log-mean-exp over the classes of logits above the prior's: an example that says nothing stays as it is.
    share: 0 leaves the classes independent, with 1 they rank as by a softmax over what stands above the prior.
    """
    above_BK = logits_BK - prior_logits_K
    return logits_BK - share * (jax.nn.logsumexp(above_BK, 1, keepdims=True) - math.log(len(prior_logits_K)))


def probabilities(loss: str, logits_BK: jax.Array) -> jax.Array:
    """The scores in 0…1 that a network trained with `loss` gives: float32 [B, K]."""
    if loss == "softmax_cross_entropy":
        return jax.nn.softmax(logits_BK)
    return jax.nn.sigmoid(logits_BK)


def of_probabilities(loss: str, score_NK: np.ndarray, label: np.ndarray) -> np.ndarray:
    """What `loss` is of probabilities instead of logits, each kept 1e-7 away from 0 and 1: float32 [N].

    score_NK: of softmax_cross_entropy rows that sum to 1. label: as the loss takes it.
    """
    by_logits = {"softmax_cross_entropy": softmax_cross_entropy, "sigmoid_cross_entropy": sigmoid_cross_entropy}[loss]
    return np.asarray(by_logits(_logits_of(loss, score_NK, 1e-7), label))


def _logits_of(loss: str, share: np.ndarray, least: float) -> np.ndarray:
    """Logits of which `probabilities` makes these shares, each kept `least` away from 0 and 1."""
    share = np.clip(share, least, 1 - least)
    return np.log(share) if loss == "softmax_cross_entropy" else np.log(share / (1 - share))


def prior_logits(loss: str, prior_K: np.ndarray) -> np.ndarray:
    """The constant logits that say nothing but how frequent each class is (of every share in 0 … 1, ends excluded)."""
    return _logits_of(loss, prior_K, 1e-6)
