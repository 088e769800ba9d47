"""Autoencoders: input -> features -> latent and reconstruction -> mean squared error."""

import flax
import jax
import jax.numpy as jnp
import numpy as np

from audiojax import frontend, optim
from audiojax.errors import ConfigError
from audiojax.state import TrainState
from audiojax.tasks.supervised import augmenter, build_model, check_lengths, named


class Task:
    """The pure functions of one replica's training, from a config; labels are not read.

    Raises:
      ConfigError: an unknown front end, augmentation or model, arguments that they do not take, or a loss.
    """

    def __init__(self, config, prior_K: np.ndarray, total_steps: int):
        """prior_K: as for all tasks; not used."""
        if config.task.loss != "mean_squared_error":
            raise ConfigError(f"task.loss={config.task.loss!r} of an autoencoder must be mean_squared_error.")
        self._features = named(frontend, "frontend", config.frontend)
        check_lengths(config)
        self._augment_waveform = augmenter("augment.waveform", config.augment.waveform)
        self._augment_features = augmenter("augment.features", config.augment.features)
        self._model_name, self._model = config.model.name, build_model(config)
        self._optimiser = optim.Optimiser(config.optim, total_steps)
        self.evaluated = self._optimiser.evaluated

    def init(self, key: jax.Array, settings: dict[str, jax.Array], batch: dict[str, jax.Array]) -> TrainState:
        """The state of one replica before its first step; `batch` gives shapes only.

        Raises:
          ConfigError: the network cannot be built on these features.
        """
        x = self._features(batch["input"], batch["length"])
        try:
            variables = flax.core.unfreeze(self._model.init(key, x, train=False))
        except (TypeError, ValueError) as error:
            raise ConfigError(f"model {self._model_name} on features {x.shape[1:]}: {error}.") from error
        return self._optimiser.start(variables.pop("params"), variables, settings)

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
