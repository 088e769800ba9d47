"""Conditional GANs: noise and a label -> features -> a waveform, against a discriminator of features and label."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from audiojax import frontend, losses, names, optim
from audiojax.errors import ConfigError
from audiojax.state import TrainState
from audiojax.tasks.supervised import Network

SIDES = ("generator", "discriminator")
OWN = ("params", "model_state", "opt_state", "average")  # of a TrainState, what each side has


class Task(Network):
    """The pure functions of one replica's training, from a config.

    A TrainState's params, model_state, opt_state and average each have the two sides, by `SIDES`; averaged are the
    generator's weights alone. The discriminator's optimiser is the config's with task.discriminator laid over it.

    Raises:
      ConfigError: as `Network`, an unknown loss, or a front end that cannot be undone.
    """

    def __init__(self, config, prior_K: np.ndarray, total_steps: int):
        """prior_K: share of the training examples that each class labels; only its length is used."""
        known = ("binary_cross_entropy", "hinge")
        if config.task.loss not in known:
            raise ConfigError(f"task.loss={config.task.loss!r} is unknown; losses of a GAN: {', '.join(known)}.")
        self._losses = getattr(losses, config.task.loss)
        super().__init__(config, total_steps, classes=len(prior_K))
        self._invert = names.function("inversion", "frontend", config.frontend)
        self._levels = names.function("frontend", "task.embedding", config.task.embedding)
        self._piece_frames, self._latent = config.task.piece_frames, config.model.latent
        judging = config.optim.copy_and_resolve_references().unlock()
        judging.update(dict(config.task.discriminator) | {"average_share": 0.0})
        self._optimisers = dict(zip(SIDES, (self._optimiser, optim.Optimiser(judging, total_steps))))

    def init(self, key: jax.Array, settings: dict[str, jax.Array], batch: dict[str, jax.Array]) -> TrainState:
        """The state of one replica before its first step; `batch` gives shapes only. settings: of `TrainState`.

        Raises:
          ConfigError: the networks cannot be built for these features, or clips have several labels.
        """
        if batch["label"].ndim != 1:
            raise ConfigError("task.name=gan generates clips of a single label, and these data have several a clip.")
        variables = self._variables(key, batch, batch["label"])
        params = variables.pop("params")
        own = lambda side: {name: of[side] for name, of in variables.items() if side in of}
        return both({side: self._optimisers[side].start(params[side], own(side), settings) for side in SIDES})

    def evaluated(self, state: TrainState) -> tuple[Any, Any]:
        """What is evaluated and kept of a state: (params, model_state), the generator's averaged."""
        chosen = {side: self._optimisers[side].evaluated(one(state, side)) for side in SIDES}
        return tuple({side: of[number] for side, of in chosen.items()} for number in (0, 1))

    def train_step(self, state: TrainState, batch: dict[str, jax.Array], key: jax.Array):
        """One update of each side: generated examples, the discriminator on these and on real ones, the generator.

        Returns the new state and, means over the batch, the losses and the norms of the gradients ("loss" and
        "grad_norm" of the generator) and the shares of real and generated examples that are taken for what they are.
        """
        noise_key, waveform_key, features_key = jax.random.split(key, 3)
        label, weight = batch["label"], batch["weight"]
        x, _ = self._augment_waveform(waveform_key, batch["input"], label)
        x, _ = self._augment_features(features_key, self._features(x, batch["length"]), label)
        generator, discriminator = (one(state, side) for side in SIDES)
        noise_BL = jax.random.normal(noise_key, (len(x), self._latent))

        def generated(params):
            return self._apply("generator", params, generator.model_state, noise_BL, label, x.shape[1:], train=True)

        # The generator's step is of the same examples, against the discriminator as these have changed it.
        fake, pull_back, generator_stats = jax.vjp(generated, generator.params, has_aux=True)

        def discriminator_loss(params):
            real_B, stats = self._apply("discriminator", params, discriminator.model_state, x, label, train=True)
            fake_B, stats = self._apply("discriminator", params, stats, fake, label, train=True)
            return (weight * self._losses(real_B, fake_B)[0]).mean(), (stats, real_B, fake_B)

        (judged, (stats, real_B, fake_B)), grads = jax.value_and_grad(discriminator_loss, has_aux=True)(
            discriminator.params
        )
        discriminator = self._optimisers["discriminator"].step(discriminator, grads, stats)

        def generator_loss(fake):
            fake_B, _ = self._apply("discriminator", discriminator.params, stats, fake, label, train=True)
            return (weight * self._losses(real_B, fake_B)[1]).mean()

        loss, fake_grad = jax.value_and_grad(generator_loss)(fake)
        (generator_grads,) = pull_back(fake_grad)
        generator = self._optimisers["generator"].step(generator, generator_grads, generator_stats)
        logs = {
            "loss": loss,
            "discriminator_loss": judged,
            "grad_norm": optim.norm(generator_grads),
            "discriminator_grad_norm": optim.norm(grads),
            "real_accuracy": (real_B > 0).mean(),
            "generated_accuracy": (fake_B < 0).mean(),
        }
        return both({"generator": generator, "discriminator": discriminator}), logs

    def eval_step(self, params, model_state, batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
        """Beside each example one that is generated under its label, of noise that is a function of the example.

        Returns "loss", the generator's [B]; "fooled", whether the discriminator takes what is generated for real [B];
        "real" and "generated", the `embed`dings of both [B, pieces, D].
        """
        audio_BT, label = frontend.to_float(batch["input"]), batch["label"]
        x = self._features(batch["input"], batch["length"])
        key_of = lambda clip: jax.random.fold_in(jax.random.key(0), clip.astype(jnp.uint32).sum())
        fake = self._generated(params, model_state, jax.vmap(key_of)(batch["input"]), label, x.shape[1:])
        judge = lambda x: self._apply(
            "discriminator", params["discriminator"], model_state["discriminator"], x, label, train=False
        )[0]
        real_B, fake_B = judge(x), judge(fake)
        return {
            "loss": self._losses(real_B, fake_B)[1],
            "fooled": fake_B > 0,
            "real": self.embed(audio_BT),
            "generated": self.embed(self._sound(fake, audio_BT.shape[1])),
        }

    def generate(self, params, model_state, key_B: jax.Array, label_B: jax.Array, samples: int) -> jax.Array:
        """A clip for each key and label: float32 [B, samples] within -1 … 1."""
        shape = jax.eval_shape(self._features, jnp.zeros((1, samples), jnp.int16), jnp.array([samples])).shape[1:]
        return self._sound(self._generated(params, model_state, key_B, label_B, shape), samples)

    def embed(self, audio_BT: jax.Array) -> jax.Array:
        """Mean and deviation over time of the levels of task.embedding, of pieces of task.piece_frames: [B, P, D]."""
        level_BFM = self._levels(audio_BT, jnp.full(len(audio_BT), audio_BT.shape[1]))
        batch, frames, bands = level_BFM.shape
        size = min(self._piece_frames, frames)
        pieces = level_BFM[:, : frames // size * size].reshape(batch, -1, size, bands)
        return jnp.concatenate([pieces.mean(2), pieces.std(2)], axis=-1)

    def _generated(self, params, model_state, key_B, label_B, shape: tuple[int, int]) -> jax.Array:
        """Features of clips: [B, *shape]."""
        noise_BL = jax.vmap(lambda key: jax.random.normal(key, (self._latent,)))(key_B)
        own = params["generator"], model_state["generator"]
        return self._apply("generator", *own, noise_BL, label_B, shape, train=False)[0]

    def _sound(self, x: jax.Array, samples: int) -> jax.Array:
        """Features as a waveform within -1 … 1."""
        return jnp.clip(self._invert(x, samples), -1, 1)

    def _apply(self, side: str, params, model_state, *inputs, train: bool):
        """What one side makes of its inputs, and its new model_state."""
        variables = {"params": {side: params}} | {name: {side: of} for name, of in model_state.items()}
        method = {"generator": "generate", "discriminator": "discriminate"}[side]
        mutable = list(model_state) if train else []
        out, updated = self._model.apply(variables, *inputs, train, method=method, mutable=mutable)
        return out, {name: of[side] for name, of in updated.items()}


def one(state: TrainState, side: str) -> TrainState:
    """One side of a state of both."""
    return state.replace(**{name: getattr(state, name)[side] for name in OWN})


def both(sides: dict[str, TrainState]) -> TrainState:
    """The state of both sides, which have done as many steps."""
    own = {name: {side: getattr(of, name) for side, of in sides.items()} for name in OWN}
    return sides["generator"].replace(**own)
