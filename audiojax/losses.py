"""Losses, each an object that `task.loss` names. A new loss is one more object in this file."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax


class Loss(NamedTuple):
    """A classifier's loss, and the conversion between its logits and probabilities.

    cost: function of logits [B, K], targets in 0…1 [B, K] and a positive weight; returns one value an example [B].
    probabilities: function of logits [B, K]; returns scores in 0…1 [B, K].
    inverse: function of probabilities strictly between 0 and 1; returns logits that give them.
    independent: whether each class has a probability of its own. Such classes may `compete`, and the loss takes a
      positive weight.
    """

    cost: Callable
    probabilities: Callable
    inverse: Callable
    independent: bool

    def value(self, logits_BK: jax.Array, label: jax.Array, positive_weight: float = 1.0) -> jax.Array:
        """The loss of each example: float32 [B].

        label: int [B], or a weight in 0…1 for each class [B, K]. positive_weight: factor of present labels' terms;
        only losses of independent classes use it.
        """
        targets_BK = jax.nn.one_hot(label, logits_BK.shape[-1]) if label.ndim == 1 else label.astype(jnp.float32)
        return self.cost(logits_BK, targets_BK, positive_weight)

    def logits(self, probabilities: np.ndarray, epsilon: float = 1e-6) -> np.ndarray:
        """Logits that give these probabilities, clipped to epsilon … 1 - epsilon."""
        return self.inverse(np.clip(probabilities, epsilon, 1 - epsilon))


class GanLoss(NamedTuple):
    """The losses of a GAN's two sides, functions of the discriminator's logits; they return one value an example [B].

    discriminator: function of the logits of real and of generated examples. generator: of those of generated examples.
    """

    discriminator: Callable
    generator: Callable


def _binary_terms(logits_BK: jax.Array, targets_BK: jax.Array, positive_weight: float) -> jax.Array:
    """Binary cross-entropy, summed over the classes."""
    present_BK = positive_weight * targets_BK * jax.nn.log_sigmoid(logits_BK)
    return -(present_BK + (1 - targets_BK) * jax.nn.log_sigmoid(-logits_BK)).sum(-1)


def _categorical(logits_BK: jax.Array, targets_BK: jax.Array, _) -> jax.Array:
    """Cross-entropy of one distribution over the classes. Several labels share the probability evenly."""
    return optax.softmax_cross_entropy(logits_BK, targets_BK / targets_BK.sum(-1, keepdims=True))


sigmoid_cross_entropy = Loss(_binary_terms, jax.nn.sigmoid, lambda share: np.log(share / (1 - share)), independent=True)
softmax_cross_entropy = Loss(_categorical, jax.nn.softmax, np.log, independent=False)

binary_cross_entropy = GanLoss(  # the non-saturating form of Goodfellow et al. 2014
    discriminator=lambda real_B, fake_B: (jax.nn.softplus(-real_B) + jax.nn.softplus(fake_B)) / 2,
    generator=lambda fake_B: jax.nn.softplus(-fake_B),
)
hinge = GanLoss(  # Lim and Ye 2017
    discriminator=lambda real_B, fake_B: (jax.nn.relu(1 - real_B) + jax.nn.relu(1 + fake_B)) / 2,
    generator=lambda fake_B: -fake_B,
)


def compete(logits_BK: jax.Array, prior_logits_K: np.ndarray, share: float) -> jax.Array:
    """Subtracts from every class a share of the evidence for any class; returns logits [B, K].

    The evidence is the log-mean-exp, over the classes, of the logits above those of the prior. It is 0 for an example
    whose logits are the prior's. A share of 0 leaves the classes independent; with 1 they rank as by a softmax of the
    logits above the prior.
    """
    above_BK = logits_BK - prior_logits_K
    return logits_BK - share * (jax.nn.logsumexp(above_BK, 1, keepdims=True) - math.log(len(prior_logits_K)))
