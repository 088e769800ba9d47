"""Autoencoders: input -> features -> latent and reconstruction -> mean squared error."""

import jax
import jax.numpy as jnp
import numpy as np

from audiojax import optim
from audiojax.errors import ConfigError
from audiojax.state import TrainState
from audiojax.tasks.supervised import Network


class Task(Network):
    """The pure functions of one replica's training, from a config; labels are not read.

    Raises:
      ConfigError: as `Network`, and another loss than the mean squared error.
    """

    def __init__(self, config, prior_K: np.ndarray, total_steps: int):
        """prior_K: as for all tasks; not used."""
        if config.task.loss != "mean_squared_error":
            raise ConfigError(f"task.loss={config.task.loss!r} of an autoencoder must be mean_squared_error.")
        super().__init__(config, total_steps)

    def train_step(self, state: TrainState, batch: dict[str, jax.Array], key: jax.Array):
        """One update. Returns the new state and {"loss", "grad_norm"}, means over the batch."""
        waveform_key, features_key = jax.random.split(key)
        x, label = self._augment_waveform(waveform_key, batch["input"], batch["label"])
        x, _ = self._augment_features(features_key, self._features(x, batch["length"]), label)

        def mean_loss(params):
            variables = {"params": params} | state.model_state
            (_, again), updated = self._model.apply(variables, x, train=True, mutable=list(state.model_state))
            return (batch["weight"] * squared_error(x, again)).mean(), updated

        (loss, model_state), grads = jax.value_and_grad(mean_loss, has_aux=True)(state.params)
        logs = {"loss": loss, "grad_norm": optim.norm(grads)}
        return self._optimiser.step(state, grads, model_state), logs

    def eval_step(self, params, model_state, batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
        """{"loss": mean squared error [B]}."""
        x, _, again = self.encode(params, model_state, batch)
        return {"loss": squared_error(x, again)}

    def encode(self, params, model_state, batch: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Features [B, ...], their latents [B, L] and their reconstructions [B, ...]."""
        x = self._features(batch["input"], batch["length"])
        return x, *self._model.apply({"params": params} | model_state, x, train=False)


def squared_error(x: jax.Array, again: jax.Array) -> jax.Array:
    """Mean over all values of an example: [B]."""
    return jnp.mean((x - again) ** 2, axis=range(1, x.ndim))
