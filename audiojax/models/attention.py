"""Attention over time on embeddings: decision-level, feature-level, multi-level and multi-head (Kong et al. 2019)."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from audiojax.models import layers


class Model(nn.Module):
    """x_BTF to logits [B, classes]: dense layers on every step, a weighted mean over the steps, dense layers on that.

    standardise: each feature to mean 0, variance 1. hidden: units of the dense layers on every step; levels: which of
    them are pooled, from 1 on (several are multi-level attention, Yu et al. 2018). pooling:
      "feature": each feature of another dense layer, as wide, has its own weights over the steps.
      "heads": so has each of `heads` copies of all features (0 for the other poolings).
      "decision": each class has weights over its probabilities at every step, whose mean over the levels is its
        probability; nothing follows.
    statistics: whether mean, deviation, maximum and minimum of the inputs over the steps stand beside what is pooled.
    dense: units of the layers after the pooling. Each dense layer, but those that pool, is followed by batch
    normalisation, ReLU and dropout. input_dropout, dropout: rates.

    Raises:
      ValueError: another pooling, a level without a layer, heads where the pooling has none or none where it has some,
        statistics or dense layers behind decisions.
    """

    classes: int
    dtype: jnp.dtype
    output_bias: tuple[float, ...]
    kernel_init: str
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
        init = layers.initialiser(self.kernel_init)
        linear = lambda units, **options: layers.Dense(units, kernel_init=init, dtype=self.dtype, **options)
        drop = lambda x: layers.Dropout(self.dropout)(x, train)

        def dense(x, units):
            x = linear(units, use_bias=False)(x)
            return drop(nn.relu(layers.BatchNorm(use_running_average=not train, dtype=self.dtype)(x)))

        def share_of_steps(scores_BTA):
            return nn.softmax(scores_BTA.astype(jnp.float32), axis=1)

        inputs_BTF = layers.standardise(x_BTF, train) if self.standardise else x_BTF
        x = layers.Dropout(self.input_dropout)(inputs_BTF.astype(self.dtype), train)
        pooled = []
        for level, units in enumerate(self.hidden, 1):
            x = dense(x, units)
            if level in self.levels:
                match self.pooling:
                    case "feature":
                        weight_BTF = share_of_steps(linear(units)(x))
                        pooled.append((weight_BTF * nn.relu(linear(units)(x))).sum(1))
                    case "heads":
                        weight_BTH = share_of_steps(linear(self.heads)(x))
                        pooled.append(jnp.einsum("bth,btf->bhf", weight_BTH, x).reshape(len(x), -1))
                    case "decision":
                        weight_BTK = share_of_steps(linear(self.classes)(x))
                        logits_BTK = layers.Logits(self.classes, init, self.output_bias, self.dtype)(x)
                        pooled.append((weight_BTK * nn.sigmoid(logits_BTK)).sum(1))
                    case _:
                        raise ValueError(f"there is no pooling {self.pooling!r}; poolings: feature, heads, decision")
        if self.pooling == "decision":
            share_BK = jnp.clip(sum(pooled) / len(pooled), 1e-6, 1 - 1e-6)
            return jnp.log(share_BK) - jnp.log1p(-share_BK)
        if self.statistics:
            pooled += [inputs_BTF.mean(1), inputs_BTF.std(1), inputs_BTF.max(1), inputs_BTF.min(1)]
        x = drop(jnp.concatenate(pooled, -1).astype(self.dtype))
        for units in self.dense:
            x = dense(x, units)
        return layers.Logits(self.classes, init, self.output_bias, self.dtype)(x)
