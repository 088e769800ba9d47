"""Classification and tagging: input -> features -> logits -> loss."""

import flax.linen as nn
import jax
import numpy as np
from flax.traverse_util import flatten_dict

from audiojax import losses, metrics, names
from audiojax.data.windows import Part
from audiojax.errors import ConfigError
from audiojax.state import TrainState
from audiojax.tasks.network import Network


class Task(Network):
    """The pure functions of one replica's training, from a config.

    Raises:
      ConfigError: see `Network`; or an unknown loss, or settings that the loss does not take.
    """

    METRICS = Network.METRICS | dict.fromkeys(
        ("accuracy", "top3", "top5", "map_at_3", "macro_f1", "mAP", "mAUC", "d_prime"), 1
    )

    def __init__(self, config, prior_K: np.ndarray, total_steps: int):
        """prior_K: share of the training examples that carry each class."""
        self._loss = names.loss(config.task.loss, losses.Loss)
        for key, neutral in (("positive_weight", 1), ("competition", 0)):
            if config.task[key] != neutral and not self._loss.independent:
                raise ConfigError(
                    f"task.{key} must be {neutral} with {config.task.loss}: it is for losses of independent classes."
                )
        self._prior_logits_K, self._classes = self._loss.logits(prior_K), len(prior_K)
        self._positive_weight, self._competition = config.task.positive_weight, config.task.competition
        self._shows_first_layer = config.run.first_layer
        output_bias = self._prior_logits_K if config.task.prior_bias else np.zeros(len(prior_K))
        super().__init__(config, total_steps, output_bias_K=output_bias)
        # Mixed labels are weights of the classes.
        self._mixes = any(step["name"] == "mixup" for steps in config.augment.values() for step in steps)

    def init(self, key: jax.Array, settings: dict[str, jax.Array], batch: dict[str, jax.Array]) -> TrainState:
        """See `Network.init`. Raises ConfigError also where run.first_layer asks for what the network lacks."""
        state = super().init(key, settings, batch)
        if self._shows_first_layer:
            jax.eval_shape(self.first_layer, state.params, state.model_state, batch)
        return state

    def train_step(self, state: TrainState, batch: dict[str, jax.Array], key: jax.Array):
        """One update. Returns the new state and {"loss", "grad_norm"}, means over the batch.

        Only this loss has the examples' weights (a mixed example has that of its greater share), the positive weight,
        dropout and augmentation.
        """
        dropout_key, *augment_keys = jax.random.split(key, 3)
        label, settings = batch["label"], state.settings
        if self._mixes and label.ndim == 1:
            label = jax.nn.one_hot(label, self._classes)
        x, label = self._augmented(*augment_keys, batch, label)
        dropout = {name.removeprefix("model."): rate for name, rate in settings.items() if name.startswith("model.")}
        positive_weight, model = (
            settings.get("task.positive_weight", self._positive_weight),
            self._model.clone(**dropout),
        )

        def mean_loss(params):
            logits_BK, updated = model.apply(
                {"params": params} | state.model_state,
                x,
                train=True,
                rngs={"dropout": dropout_key},
                mutable=list(state.model_state),
            )
            return (batch["weight"] * self._loss.value(logits_BK, label, positive_weight)).mean(), updated

        return self._update(state, mean_loss)

    def eval_step(self, params, model_state, batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
        """Returns {"score": probabilities [B, K], "loss": [B]}, both after the classes' competition."""
        x = self._features(batch["input"], batch["length"])
        logits_BK = self._model.apply({"params": params} | model_state, x, train=False)
        if self._competition:
            logits_BK = losses.compete(logits_BK, self._prior_logits_K, self._competition)
        return {"score": self._loss.probabilities(logits_BK), "loss": self._loss.value(logits_BK, batch["label"])}

    def first_layer(self, params, model_state, batch: dict[str, jax.Array]) -> jax.Array:
        """Output of the network's first convolution, before its normalisation: [B, H, W, filters].

        Raises ConfigError where the network has no convolution, or the first one is not 2D.
        """
        is_convolution = lambda module, method: isinstance(module, nn.Conv) and method == "__call__"
        variables, x = {"params": params} | model_state, self._features(batch["input"], batch["length"])
        options = {"capture_intermediates": is_convolution, "mutable": ["intermediates"]}
        _, seen = self._model.apply(variables, x, train=False, **options)
        outputs = [calls[0] for calls in flatten_dict(seen.get("intermediates", {})).values()]  # in order of the calls
        if not outputs or outputs[0].ndim != 4:
            raise ConfigError(f"run.first_layer: model {self._model_name} does not begin with a 2D convolution.")
        return outputs[0]

    @staticmethod
    def report(part: Part, outputs: dict[str, np.ndarray]) -> tuple[dict[str, float], dict[str, np.ndarray]]:
        """See `Network.report`. Where clips have several windows, also the metrics of clips, with suffix `_group`; the
        scores of each class are then those of the clips."""
        summary = {}
        for suffix, score_NK, label, loss_N, _ in windows_and_clips(part, outputs):
            classes = metrics.by_class(score_NK, label)
            found = metrics.summary(score_NK, label, loss_N, classes)
            summary |= {metric + suffix: value for metric, value in found.items()}
        return summary, classes

    @staticmethod
    def intervals(part: Part, outputs: dict[str, np.ndarray]) -> dict[str, list[float]]:
        """See `Network.intervals`, and `report` for clips."""
        return {
            metric + suffix: interval
            for suffix, *columns in windows_and_clips(part, outputs)
            for metric, interval in metrics.intervals(*columns).items()
        }

    @staticmethod
    def grid_keys(config) -> list[str]:
        """See `Network.grid_keys`. Also the rates of dropout, and the positive weight of a loss that takes one."""
        weighted = names.loss(config.task.loss, losses.Loss).independent
        dropouts = [f"model.{name}" for name in config.model if name.endswith("dropout")]
        return ["optim.lr", *["task.positive_weight"] * weighted, *dropouts]


def windows_and_clips(part: Part, outputs: dict[str, np.ndarray]) -> list[tuple]:
    """Suffix of the metrics, scores, labels, losses and groups: of the windows, and of clips with several windows."""
    score_NK, loss_N = outputs["score"], outputs["loss"]
    levels = [("", score_NK, part.label, loss_N, part.group)]
    if pooled := metrics.pool(part.id, score_NK, loss_N):
        first, score_MK, loss_M = pooled
        levels.append(("_group", score_MK, part.label[first], loss_M, part.group[first]))
    return levels


def clips(part: Part, outputs: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """One row of each clip [M], and the mean of its windows' probabilities [M, K], of the first replica."""
    pooled = metrics.pool(part.id, outputs["score"][0], outputs["loss"][0])
    return pooled[:2] if pooled else (np.arange(len(part.id)), outputs["score"][0])


def outputs_of(loss: str, score_NK: np.ndarray, label: np.ndarray) -> dict[str, np.ndarray]:
    """The outputs of one replica that gives these probabilities, such as an ensemble: "score", "loss" [1, N, ...].

    loss: its name in the config; probabilities are clipped to 1e-7 … 1 - 1e-7 for it. label: see `Loss.value`.
    """
    found = names.loss(loss, losses.Loss)
    return {"score": score_NK[None], "loss": np.asarray(found.value(found.logits(score_NK, 1e-7), label))[None]}
