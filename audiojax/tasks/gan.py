"""Conditional GANs: a generator from noise and label to features, a discriminator of features and label."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from audiojax import frontend, losses, metrics, names, optim
from audiojax.data.windows import Part
from audiojax.errors import ConfigError
from audiojax.state import TrainState
from audiojax.tasks.network import Network

SIDES = ("generator", "discriminator")
FIELDS = ("params", "model_state", "opt_state", "average")  # fields of a TrainState that each side has


class Task(Network):
    """The pure functions of one replica's training, from a config.

    Each of `FIELDS` of a TrainState is a dictionary with the two sides. Only the generator's weights are averaged. The
    settings of task.discriminator replace those of the optimiser for the discriminator.

    Raises:
      ConfigError: see `Network`; or an unknown loss, or a front end that has no inverse.
    """

    METRICS = Network.METRICS | {"fooled": 1, "frechet": -1}

    def __init__(self, config, prior_K: np.ndarray, total_steps: int):
        """prior_K: share of the training examples that carry each class; only its length is used."""
        self._loss = names.loss(config.task.loss, losses.GanLoss)
        super().__init__(config, total_steps, classes=len(prior_K))
        self._invert = names.function("inversion", "frontend", config.frontend)
        self._levels = names.function("frontend", "task.embedding", config.task.embedding)
        self._piece_frames, self._latent = config.task.piece_frames, config.model.latent
        discriminator = config.optim.copy_and_resolve_references().unlock()
        discriminator.update(dict(config.task.discriminator) | {"average_share": 0.0})
        self._optimisers = dict(zip(SIDES, (self._optimiser, optim.Optimiser(discriminator, total_steps))))

    def init(self, key: jax.Array, settings: dict[str, jax.Array], batch: dict[str, jax.Array]) -> TrainState:
        """See `Network.init`. Raises ConfigError also where clips have several labels."""
        if batch["label"].ndim != 1:
            raise ConfigError("task.name=gan generates clips of a single label, and these data have several a clip.")
        variables = self._variables(key, batch, batch["label"])
        params = variables.pop("params")
        state = lambda side: {name: sides[side] for name, sides in variables.items() if side in sides}
        return both({side: self._optimisers[side].start(params[side], state(side), settings) for side in SIDES})

    def evaluated(self, state: TrainState) -> tuple[Any, Any]:
        """See `Network.evaluated`: params and model_state are dictionaries with the two sides."""
        params, model_state = zip(*(self._optimisers[side].evaluated(one(state, side)) for side in SIDES))
        return dict(zip(SIDES, params)), dict(zip(SIDES, model_state))

    def train_step(self, state: TrainState, batch: dict[str, jax.Array], key: jax.Array):
        """One update of the discriminator, then one of the generator, with the same generated examples.

        Returns the new state and, as means over the batch: "loss" and "grad_norm" of the generator, those of the
        discriminator, and the shares of real and of generated examples that the discriminator tells correctly.
        """
        noise_key, *augment_keys = jax.random.split(key, 3)
        label, weight = batch["label"], batch["weight"]
        x, _ = self._augmented(*augment_keys, batch, label)
        generator, discriminator = (one(state, side) for side in SIDES)
        noise_BL = jax.random.normal(noise_key, (len(x), self._latent))

        def generated(params):
            return self._apply("generator", params, generator.model_state, noise_BL, label, x.shape[1:], train=True)

        # pull_back lets the generator's update, against the new discriminator, use the same examples.
        fake, pull_back, generator_stats = jax.vjp(generated, generator.params, has_aux=True)

        def discriminator_loss(params):
            real_B, stats = self._apply("discriminator", params, discriminator.model_state, x, label, train=True)
            fake_B, stats = self._apply("discriminator", params, stats, fake, label, train=True)
            return (weight * self._loss.discriminator(real_B, fake_B)).mean(), (stats, real_B, fake_B)

        (lost, (stats, real_B, fake_B)), grads = jax.value_and_grad(discriminator_loss, has_aux=True)(
            discriminator.params
        )
        discriminator = self._optimisers["discriminator"].step(discriminator, grads, stats)

        def generator_loss(fake):
            fake_B, _ = self._apply("discriminator", discriminator.params, stats, fake, label, train=True)
            return (weight * self._loss.generator(fake_B)).mean()

        loss, fake_grad = jax.value_and_grad(generator_loss)(fake)
        (generator_grads,) = pull_back(fake_grad)
        generator = self._optimisers["generator"].step(generator, generator_grads, generator_stats)
        logs = {
            "loss": loss,
            "discriminator_loss": lost,
            "grad_norm": optim.norm(generator_grads),
            "discriminator_grad_norm": optim.norm(grads),
            "real_accuracy": (real_B > 0).mean(),
            "generated_accuracy": (fake_B < 0).mean(),
        }
        return both({"generator": generator, "discriminator": discriminator}), logs

    def eval_step(self, params, model_state, batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
        """Generates one example for each example of the batch, under its label, from noise that depends on it alone.

        Returns "loss", that of the generator [B]; "fooled", whether the discriminator takes the generated example for
        real [B]; "real" and "generated", `embed` of both [B, pieces, D].
        """
        audio_BT, label = frontend.to_float(batch["input"]), batch["label"]
        shape = jax.eval_shape(self._features, batch["input"], batch["length"]).shape[1:]
        key_of = lambda clip: jax.random.fold_in(jax.random.key(0), clip.astype(jnp.uint32).sum())
        fake = self._generated(params, model_state, jax.vmap(key_of)(batch["input"]), label, shape)
        weights = params["discriminator"], model_state["discriminator"]
        fake_B, _ = self._apply("discriminator", *weights, fake, label, train=False)
        return {
            "loss": self._loss.generator(fake_B),
            "fooled": fake_B > 0,
            "real": self.embed(audio_BT),
            "generated": self.embed(self._sound(fake, audio_BT.shape[1])),
        }

    @staticmethod
    def report(part: Part, outputs: dict[str, np.ndarray]) -> tuple[dict[str, float], dict[str, np.ndarray]]:
        """See `Network.report`. Also the share of generated examples that fool the discriminator, and the Fréchet
        distance between the embeddings of real and of generated examples."""
        summary, classes = Network.report(part, outputs)
        distance = metrics.frechet(outputs["real"], outputs["generated"])
        return summary | {"fooled": float(outputs["fooled"].mean()), "frechet": distance}, classes

    def generate(self, params, model_state, key_B: jax.Array, label_B: jax.Array, samples: int) -> jax.Array:
        """Generates a clip for each key and label: float32 [B, samples] within -1 … 1."""
        shape = jax.eval_shape(self._features, jnp.zeros((1, samples), jnp.int16), jnp.array([samples])).shape[1:]
        return self._sound(self._generated(params, model_state, key_B, label_B, shape), samples)

    def embed(self, audio_BT: jax.Array) -> jax.Array:
        """Mean and standard deviation over time of the features of task.embedding: [B, pieces, D].

        A piece has task.piece_frames frames.
        """
        level_BFM = self._levels(audio_BT, jnp.full(len(audio_BT), audio_BT.shape[1]))
        batch, frames, bands = level_BFM.shape
        size = min(self._piece_frames, frames)
        pieces = level_BFM[:, : frames // size * size].reshape(batch, -1, size, bands)
        return jnp.concatenate([pieces.mean(2), pieces.std(2)], axis=-1)

    def _generated(self, params, model_state, key_B, label_B, shape: tuple[int, int]) -> jax.Array:
        """Generated features: [B, *shape]."""
        noise_BL = jax.vmap(lambda key: jax.random.normal(key, (self._latent,)))(key_B)
        weights = params["generator"], model_state["generator"]
        return self._apply("generator", *weights, noise_BL, label_B, shape, train=False)[0]

    def _sound(self, x: jax.Array, samples: int) -> jax.Array:
        """The waveform of features: [B, samples] within -1 … 1."""
        return jnp.clip(self._invert(x, samples), -1, 1)

    def _apply(self, side: str, params, model_state, *inputs, train: bool):
        """Output of one side, and its new model_state."""
        variables = {"params": {side: params}} | {name: {side: values} for name, values in model_state.items()}
        method = {"generator": "generate", "discriminator": "discriminate"}[side]
        mutable = list(model_state) if train else []
        out, updated = self._model.apply(variables, *inputs, train, method=method, mutable=mutable)
        return out, {name: sides[side] for name, sides in updated.items()}


def one(state: TrainState, side: str) -> TrainState:
    """The state of one side, from that of both."""
    return state.replace(**{name: getattr(state, name)[side] for name in FIELDS})


def both(sides: dict[str, TrainState]) -> TrainState:
    """The state of both sides, from one of each after the same number of steps."""
    fields = {name: {side: getattr(state, name) for side, state in sides.items()} for name in FIELDS}
    return sides["generator"].replace(**fields)
