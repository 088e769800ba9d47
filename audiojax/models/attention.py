"""Attention over time on embeddings: decision-level, feature-level and multi-level pooling (Kong et al. 2019)."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from audiojax.models import layers


class Model(nn.Module):
    """x_BTF to logits [B, classes]: dense layers on every step, then a weighted mean over the steps.

    standardise: each feature to mean 0, variance 1. hidden: units of the dense layers, each followed by batch
    normalisation, ReLU and dropout. levels: which of them are pooled, from 1 on; several are multi-level attention (Yu
    et al. 2018). pooling: "feature": each feature has its own weights over the steps, and the means of all levels make
    the classes' logits; "decision": each class has weights over its probabilities at every step, whose mean over the
    levels is its probability. input_dropout, dropout: rates.

    Raises:
      ValueError: another pooling, or a level without a layer.
    """

    classes: int
    dtype: jnp.dtype
    output_bias: tuple[float, ...]
    kernel_init: str
    standardise: bool
    hidden: tuple[int, ...]
    levels: tuple[int, ...]
    pooling: str
    input_dropout: float
    dropout: float

    @nn.compact
    def __call__(self, x_BTF: jax.Array, train: bool) -> jax.Array:
        if not self.levels or not set(self.levels) <= set(range(1, len(self.hidden) + 1)):
            raise ValueError(f"levels {self.levels} must be among 1 … {len(self.hidden)}, the hidden layers")
        init = layers.initialiser(self.kernel_init)
        dense = lambda units, **options: nn.Dense(units, kernel_init=init, dtype=self.dtype, **options)
        x = layers.standardise(x_BTF, train) if self.standardise else x_BTF
        x = layers.Dropout(self.input_dropout)(x.astype(self.dtype), train)
        pooled = []
        for level, units in enumerate(self.hidden, 1):
            x = dense(units, use_bias=False)(x)
            x = nn.relu(nn.BatchNorm(use_running_average=not train, dtype=self.dtype)(x))
            x = layers.Dropout(self.dropout)(x, train)
            if level in self.levels:
                match self.pooling:
                    case "feature":
                        weight_BTF = nn.softmax(dense(units)(x).astype(jnp.float32), axis=1)
                        pooled.append((weight_BTF * nn.relu(dense(units)(x))).sum(1))
                    case "decision":
                        weight_BTK = nn.softmax(dense(self.classes)(x).astype(jnp.float32), axis=1)
                        logits_BTK = layers.Logits(self.classes, init, self.output_bias, self.dtype)(x)
                        pooled.append((weight_BTK * nn.sigmoid(logits_BTK)).sum(1))
                    case _:
                        raise ValueError(f"there is no pooling {self.pooling!r}; poolings: feature, decision")
        if self.pooling == "decision":
            share_BK = jnp.clip(sum(pooled) / len(pooled), 1e-6, 1 - 1e-6)
            return jnp.log(share_BK) - jnp.log1p(-share_BK)
        x = layers.Dropout(self.dropout)(jnp.concatenate(pooled, -1).astype(self.dtype), train)
        return layers.Logits(self.classes, init, self.output_bias, self.dtype)(x)
