"""Autoencoders: input -> features -> latent -> reconstruction -> mean squared error."""

import jax
import jax.numpy as jnp
import numpy as np

from audiojax.errors import ConfigError
from audiojax.state import TrainState
from audiojax.tasks.network import Network


class Task(Network):
    """The pure functions of one replica's training, from a config. Labels are not used.

    Raises:
      ConfigError: see `Network`; or a loss other than the mean squared error.
    """

    def __init__(self, config, prior_K: np.ndarray, total_steps: int):
        """prior_K: not used."""
        if config.task.loss != "mean_squared_error":
            raise ConfigError(f"task.loss={config.task.loss!r} of an autoencoder must be mean_squared_error.")
        super().__init__(config, total_steps)

    def train_step(self, state: TrainState, batch: dict[str, jax.Array], key: jax.Array):
        """One update. Returns the new state and {"loss", "grad_norm"}, means over the batch."""
        x, _ = self._augmented(*jax.random.split(key), batch, batch["label"])

        def mean_loss(params):
            variables = {"params": params} | state.model_state
            (_, output), updated = self._model.apply(variables, x, train=True, mutable=list(state.model_state))
            return (batch["weight"] * squared_error(x, output)).mean(), updated

        return self._update(state, mean_loss)

    def eval_step(self, params, model_state, batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
        """Returns {"loss": mean squared error [B]}."""
        x, _, output = self.encode(params, model_state, batch)
        return {"loss": squared_error(x, output)}

    def encode(self, params, model_state, batch: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Features [B, ...], their latents [B, L] and their reconstructions [B, ...]."""
        x = self._features(batch["input"], batch["length"])
        return x, *self._model.apply({"params": params} | model_state, x, train=False)


def squared_error(x: jax.Array, output: jax.Array) -> jax.Array:
    """Mean squared error of each example: [B]."""
    return jnp.mean((x - output) ** 2, axis=range(1, x.ndim))
