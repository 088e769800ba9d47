"""Attention over time on embeddings: decision-level, feature-level, multi-level and multi-head (Kong et al. 2019)."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from audiojax.models import layers


class Model(layers.Classifier):
    """x_BTF to logits [B, classes]: dense layers on every step, attention over the steps, dense layers.

    Each dense layer but those of the attention is followed by batch normalisation, ReLU and dropout.

    standardise: whether each feature is scaled to mean 0 and variance 1. hidden: units of the dense layers on every
    step. levels: numbers of the hidden layers that are pooled, from 1 on; several are multi-level attention (Yu et al.
    2018). pooling: what has one weight a step, "feature": each feature of a further dense layer; "heads": each of
    `heads` copies of all features; "decision": each class's probability, whose mean over the levels is the output.
    statistics: whether the inputs' mean, deviation, maximum and minimum over time join the pooled features. dense:
    units of the layers after the pooling. input_dropout, dropout: rates.

    Raises:
      ValueError: the pooling is unknown, a level has no layer, or other settings do not fit the pooling.
    """

    standardise: bool
    hidden: tuple[int, ...]
    levels: tuple[int, ...]
    pooling: str
    heads: int
    statistics: bool
    dense: tuple[int, ...]
    input_dropout: float
    dropout: float

    @nn.compact
    def __call__(self, x_BTF: jax.Array, train: bool) -> jax.Array:
        if not self.levels or not set(self.levels) <= set(range(1, len(self.hidden) + 1)):
            raise ValueError(f"levels {self.levels} must be among 1 … {len(self.hidden)}, the hidden layers")
        if (self.pooling == "heads") != (self.heads > 0):
            raise ValueError(f"heads={self.heads} must be above 0 for pooling 'heads', and 0 for the others")
        if self.pooling == "decision" and (self.statistics or self.dense):
            raise ValueError("pooling 'decision' makes the probabilities: it takes no statistics and no dense layers")
        drop = lambda x: layers.Dropout(self.dropout)(x, train)
        dense = lambda x, units: drop(nn.relu(self.batch_norm(self.linear(units, use_bias=False)(x), train)))
        over_steps = lambda scores_BTA: nn.softmax(scores_BTA.astype(jnp.float32), axis=1)
        inputs_BTF = layers.standardise(x_BTF, train) if self.standardise else x_BTF
        x = layers.Dropout(self.input_dropout)(inputs_BTF.astype(self.dtype), train)
        pooled = []
        for level, units in enumerate(self.hidden, 1):
            x = dense(x, units)
            if level in self.levels:
                match self.pooling:
                    case "feature":
                        weight_BTF = over_steps(self.linear(units)(x))
                        pooled.append((weight_BTF * nn.relu(self.linear(units)(x))).sum(1))
                    case "heads":
                        weight_BTH = over_steps(self.linear(self.heads)(x))
                        pooled.append(jnp.einsum("bth,btf->bhf", weight_BTH, x).reshape(len(x), -1))
                    case "decision":
                        weight_BTK = over_steps(self.linear(self.classes)(x))
                        pooled.append((weight_BTK * nn.sigmoid(self.logits(x))).sum(1))
                    case _:
                        raise ValueError(f"there is no pooling {self.pooling!r}; poolings: feature, heads, decision")
        if self.pooling == "decision":
            probability_BK = jnp.clip(sum(pooled) / len(pooled), 1e-6, 1 - 1e-6)
            return jnp.log(probability_BK) - jnp.log1p(-probability_BK)
        if self.statistics:
            pooled += [inputs_BTF.mean(1), inputs_BTF.std(1), inputs_BTF.max(1), inputs_BTF.min(1)]
        x = drop(jnp.concatenate(pooled, -1).astype(self.dtype))
        for units in self.dense:
            x = dense(x, units)
        return self.logits(x)
