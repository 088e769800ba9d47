"""What all tasks share: a config's front end, augmentations, network and optimiser, and the metrics of the loss."""

from collections.abc import Callable, Sequence
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np

from audiojax import frontend, metrics, names, optim
from audiojax.data.windows import Part
from audiojax.errors import ConfigError
from audiojax.state import TrainState


class Network:
    """Base of the tasks. A task adds `train_step` and `eval_step`, and overrides what its metrics are.

    METRICS: names of the metrics that `report` may give, each with 1 where higher is better and -1 where lower is.

    Raises:
      ConfigError: an unknown front end, augmentation or model, or arguments that they do not take.
    """

    METRICS = {"loss": -1}

    def __init__(self, config, total_steps: int, **classes):
        """classes: the arguments of `build_model` that describe the classes."""
        self._features = names.function("frontend", "frontend", config.frontend)
        check_lengths(config)
        self._augment_waveform = augmenter("augment.waveform", config.augment.waveform)
        self._augment_features = augmenter("augment.features", config.augment.features)
        self._model_name, self._model = config.model.name, build_model(config, **classes)
        self._optimiser = optim.Optimiser(config.optim, total_steps)

    def init(self, key: jax.Array, settings: dict[str, jax.Array], batch: dict[str, jax.Array]) -> TrainState:
        """The state of one replica before its first step. settings: see `TrainState`. batch: only its shapes are used.

        Raises:
          ConfigError: the network cannot be built for these features.
        """
        variables = self._variables(key, batch)
        return self._optimiser.start(variables.pop("params"), variables, settings)

    def _variables(self, key: jax.Array, batch: dict[str, jax.Array], *inputs) -> dict:
        """Initial variables of the network, by collection. inputs: what it reads besides the features."""
        x = self._features(batch["input"], batch["length"])
        try:
            return flax.core.unfreeze(self._model.init(key, x, *inputs, train=False))
        except (TypeError, ValueError) as error:
            raise ConfigError(f"model {self._model_name} on features {x.shape[1:]}: {error}.") from error

    def _augmented(self, waveform_key, features_key, batch: dict[str, jax.Array], label) -> tuple[jax.Array, jax.Array]:
        """Augmented features and labels of a training batch."""
        x, label = self._augment_waveform(waveform_key, batch["input"], label)
        return self._augment_features(features_key, self._features(x, batch["length"]), label)

    def _update(self, state: TrainState, mean_loss: Callable) -> tuple[TrainState, dict[str, jax.Array]]:
        """The state after one step, and its "loss" and "grad_norm". mean_loss: params -> (loss, new model_state)."""
        (loss, model_state), grads = jax.value_and_grad(mean_loss, has_aux=True)(state.params)
        return self._optimiser.step(state, grads, model_state), {"loss": loss, "grad_norm": optim.norm(grads)}

    def evaluated(self, state: TrainState) -> tuple[Any, Any]:
        """The weights that are evaluated and kept: (params, model_state)."""
        return self._optimiser.evaluated(state)

    @staticmethod
    def report(part: Part, outputs: dict[str, np.ndarray]) -> tuple[dict[str, float], dict[str, np.ndarray]]:
        """Metrics of one replica on a part, and scores of each class, {} for a task without classes.

        outputs: what `eval_step` returns, of all examples of the part: [N, ...] each.
        """
        return {"loss": float(outputs["loss"].mean(dtype=np.float64))}, {}

    @staticmethod
    def intervals(part: Part, outputs: dict[str, np.ndarray]) -> dict[str, list[float]]:
        """95 % confidence intervals [low, high] of those metrics that are means over examples. Arguments: see `report`.

        The bootstrap draws whole groups, since examples of one group are not independent.
        """
        return metrics.intervals(None, part.label, outputs["loss"], part.group)

    @classmethod
    def sign(cls, metric: str) -> int:
        """1 where higher values of a metric are better, else -1. Raises ConfigError for a metric the task lacks."""
        names.choose("select", metric.removesuffix("_group"), cls.METRICS)
        return cls.METRICS[metric.removesuffix("_group")]

    @classmethod
    def best(cls, values: Sequence[float | None], metric: str) -> int:
        """Index of the best value of a metric; None and NaN are skipped."""
        return int(np.nanargmax(cls.sign(metric) * np.asarray(values, float)))

    @staticmethod
    def grid_keys(config) -> list[str]:
        """Keys of the config whose value may differ between the replicas of a grid."""
        return ["optim.lr"]


def check_lengths(config) -> None:
    """Raises ConfigError for an augmentation that moves sound past the end of a clip, which the front end cuts off."""
    moving = [step["name"] for step in config.augment.waveform if step["name"] in ("roll", "mixup")]
    if moving and config.frontend.name == "spectrogram_image":
        raise ConfigError(
            f"augment.waveform: {moving[0]!r} would move sound past the end of its clip, where spectrogram_image does"
            " not look; put it into augment.features."
        )


def augmenter(section: str, steps) -> Callable:
    """One function of (key, x, label) that applies the augmentations of a config's list in turn."""
    functions = [names.function("augment", section, step) for step in steps]

    def apply(key, x, label):
        x = frontend.to_float(x) if functions else x
        for function, function_key in zip(functions, jax.random.split(key, len(functions))):
            x, label = function(function_key, x, label)
        return x, label

    return apply


def build_model(config, output_bias_K: np.ndarray | None = None, classes: int = 0):
    """The network of `config.model`.

    output_bias_K: for a classifier, the initial bias of each logit. classes: their number, for a GAN.

    Raises:
      ConfigError: an unknown model or dtype, or arguments that the model does not take.
    """
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
