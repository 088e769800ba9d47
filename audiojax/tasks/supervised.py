"""Classification and tagging: input -> features -> logits -> loss."""

from collections.abc import Callable

import flax
import jax
import jax.numpy as jnp
import numpy as np

from audiojax import frontend, losses, names, optim
from audiojax.errors import ConfigError
from audiojax.state import TrainState


class Network:
    """What tasks share: front end, augmentations, network and optimiser of a config, and the state they begin with.

    Raises:
      ConfigError: an unknown front end, augmentation or model, or arguments that they do not take.
    """

    def __init__(self, config, total_steps: int, **of_classes):
        """of_classes: what `build_model` takes of them."""
        self._features = names.function("frontend", "frontend", config.frontend)
        check_lengths(config)
        self._augment_waveform = augmenter("augment.waveform", config.augment.waveform)
        self._augment_features = augmenter("augment.features", config.augment.features)
        self._model_name, self._model = config.model.name, build_model(config, **of_classes)
        self._optimiser = optim.Optimiser(config.optim, total_steps)

    def init(self, key: jax.Array, settings: dict[str, jax.Array], batch: dict[str, jax.Array]) -> TrainState:
        """The state of one replica before its first step; `batch` gives shapes only. settings: of `TrainState`.

        Raises:
          ConfigError: the network cannot be built on these features.
        """
        variables = self._variables(key, batch)
        return self._optimiser.start(variables.pop("params"), variables, settings)

    def _variables(self, key: jax.Array, batch: dict[str, jax.Array], *inputs) -> dict:
        """Of the network before its first step, by collection. inputs: what it reads besides features."""
        x = self._features(batch["input"], batch["length"])
        try:
            return flax.core.unfreeze(self._model.init(key, x, *inputs, train=False))
        except (TypeError, ValueError) as error:
            raise ConfigError(f"model {self._model_name} on features {x.shape[1:]}: {error}.") from error

    def evaluated(self, state: TrainState):
        """What is evaluated and kept of a state: (params, model_state)."""
        return self._optimiser.evaluated(state)


class Task(Network):
    """The pure functions of one replica's training, from a config.

    Raises:
      ConfigError: as `Network`, and an unknown loss.
    """

    def __init__(self, config, prior_K: np.ndarray, total_steps: int):
        """prior_K: share of the training examples that each class labels."""
        if config.task.loss not in ("sigmoid_cross_entropy", "softmax_cross_entropy"):
            raise ConfigError(
                f"task.loss={config.task.loss!r} is unknown; losses: sigmoid_cross_entropy, softmax_cross_entropy."
            )
        if config.task.loss != "sigmoid_cross_entropy" and config.task.positive_weight != 1:
            raise ConfigError(
                f"task.positive_weight must be 1 with {config.task.loss}; it is of sigmoid_cross_entropy."
            )
        if config.task.loss != "sigmoid_cross_entropy" and config.task.competition != 0:
            raise ConfigError(f"task.competition must be 0 with {config.task.loss}, whose classes compete already.")
        self._prior_logits_K = losses.prior_logits(config.task.loss, prior_K)
        self._competition = config.task.competition
        self._loss_name, self._positive_weight = config.task.loss, config.task.positive_weight
        self._loss, self._classes = getattr(losses, config.task.loss), len(prior_K)
        output_bias = self._prior_logits_K if config.task.prior_bias else np.zeros(len(prior_K))
        super().__init__(config, total_steps, output_bias_K=output_bias)
        # Labels that are to be mixed are weights of the classes.
        self._mixes = any(step["name"] == "mixup" for steps in config.augment.values() for step in steps)

    def train_step(self, state: TrainState, batch: dict[str, jax.Array], key: jax.Array):
        """One update. Returns the new state and {"loss", "grad_norm"}, means over the batch.

        This loss alone has the examples' weights (of mixed ones, that of the greater share), counts a label's presence
        `positive_weight` times, and sees dropout and augmentation.
        """
        dropout_key, waveform_key, features_key = jax.random.split(key, 3)
        label = batch["label"]
        if self._mixes and label.ndim == 1:
            label = jax.nn.one_hot(label, self._classes)
        x, label = self._augment_waveform(waveform_key, batch["input"], label)
        x, label = self._augment_features(features_key, self._features(x, batch["length"]), label)

        own = state.settings
        model = self._model.clone(**{key.removeprefix("model."): own[key] for key in own if key.startswith("model.")})
        weight = {"positive_weight": own.get("task.positive_weight", self._positive_weight)}
        options = weight if self._loss_name == "sigmoid_cross_entropy" else {}

        def mean_loss(params):
            logits_BK, updated = model.apply(
                {"params": params} | state.model_state,
                x,
                train=True,
                rngs={"dropout": dropout_key},
                mutable=list(state.model_state),
            )
            return (batch["weight"] * self._loss(logits_BK, label, **options)).mean(), updated

        (loss, model_state), grads = jax.value_and_grad(mean_loss, has_aux=True)(state.params)
        logs = {"loss": loss, "grad_norm": optim.norm(grads)}
        return self._optimiser.step(state, grads, model_state), logs

    def eval_step(self, params, model_state, batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
        """{"score": probabilities [B, K], "loss": [B]}, both after the classes' competition."""
        x = self._features(batch["input"], batch["length"])
        logits_BK = self._model.apply({"params": params} | model_state, x, train=False)
        if self._competition:
            logits_BK = losses.compete(logits_BK, self._prior_logits_K, self._competition)
        return {
            "score": losses.probabilities(self._loss_name, logits_BK),
            "loss": self._loss(logits_BK, batch["label"]),
        }

    def first_layer(self, params, model_state, batch: dict[str, jax.Array]) -> jax.Array:
        """What the convolution Conv_0 makes of the features, before its normalisation: [B, ..., filters]."""
        x = self._features(batch["input"], batch["length"])
        first = lambda module, _: module.name == "Conv_0"
        variables = {"params": params} | model_state
        _, seen = self._model.apply(variables, x, train=False, capture_intermediates=first, mutable=["intermediates"])
        return seen["intermediates"]["Conv_0"]["__call__"][0]


def check_lengths(config) -> None:
    """Raises ConfigError where an augmentation would move a clip's sound past the end that the front end goes by."""
    moving = [step["name"] for step in config.augment.waveform if step["name"] in ("roll", "mixup")]
    if moving and config.frontend.name == "spectrogram_image":
        raise ConfigError(
            f"augment.waveform: {moving[0]!r} would move sound past the end of its clip, where spectrogram_image does"
            " not look; put it into augment.features."
        )


def augmenter(section: str, steps) -> Callable:
    """The augmentations of a config's list as one function of (key, x, label)."""
    functions = [names.function("augment", section, step) for step in steps]

    def apply(key, x, label):
        x = frontend.to_float(x) if functions else x
        for function, function_key in zip(functions, jax.random.split(key, len(functions))):
            x, label = function(function_key, x, label)
        return x, label

    return apply


def build_model(config, output_bias_K: np.ndarray | None = None, classes: int = 0):
    """The network of `config.model`, class Model of models/NAME.py; of a classifier with a class an output bias, of
    another network that reads labels with how many classes there are."""
    arguments = dict(config.model)
    name = arguments.pop("name")
    model = names.model(name)
    if config.dtype not in ("float32", "bfloat16"):
        raise ConfigError(f"dtype={config.dtype!r} is unknown; it must be float32 or bfloat16.")
    if output_bias_K is not None:
        arguments |= {"classes": len(output_bias_K), "output_bias": tuple(float(bias) for bias in output_bias_K)}
    arguments |= {"classes": classes} if classes else {}
    try:
        return model(dtype=jnp.dtype(config.dtype), **arguments)
    except TypeError as error:
        raise ConfigError(f"model {name}: {error}.") from error
