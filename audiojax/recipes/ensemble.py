"""The mean of the predictions of finished runs, as a run without training."""

import pathlib
import time

import numpy as np
import scipy.special

from audiojax import experiment, runs
from audiojax.data.windows import Part
from audiojax.errors import ConfigError, RunError
from audiojax.evaluate import Outputs
from audiojax.tasks.supervised import outputs_of
from audiojax.writer import read_arrays

MEANS = ("arithmetic", "geometric", "weighted")


@runs.own_folder
def run(config, workdir: pathlib.Path, raw_dir: pathlib.Path | None, data_dir: pathlib.Path) -> dict:
    """Scores the mean of the members' probabilities on valid and test; returns what result.json holds.

    Config:
      recipe.members: each a row of the same table or the folder of a run. All seeds of a run take part.
      recipe.mean: "arithmetic"; "geometric" (of probabilities, or of odds where a clip has several labels); "weighted",
        arithmetic with the weights of the lowest loss on validation.

    Raises:
      ConfigError: an unknown mean, or no members. RunError: a member is not finished, or scored other examples.
    """
    started_s = time.perf_counter()
    writer, result = runs.open_folder(config, workdir)
    if result:
        return result
    if config.recipe.mean not in MEANS or not config.recipe.members:
        raise ConfigError(
            f"recipe.mean={config.recipe.mean!r} must be one of {', '.join(MEANS)}, with some recipe.members."
        )
    data = experiment.open_run(config, workdir, raw_dir, data_dir)
    parts = data.parts
    judged = {name: parts[name] for name in ("valid", "test")}
    found = {name: runs.find(name, workdir, config, data.prepared) for name in config.recipe.members}
    member_MNK = {
        name: np.concatenate([read_scores(folder, name, part, len(data.classes)) for folder, _ in found.values()])
        for name, part in judged.items()
    }
    weight_M = np.full(len(member_MNK["valid"]), 1 / len(member_MNK["valid"]))
    if config.recipe.mean == "weighted":
        weight_M = fit_weights(member_MNK["valid"], parts["valid"].label)

    def scores_of(name: str) -> Outputs:
        score_NK = mean(member_MNK[name], weight_M, config.recipe.mean == "geometric", parts[name].label.ndim == 2)
        return outputs_of(config.task.loss, score_NK, parts[name].label)

    writer.begin(0)
    prepare_s = time.perf_counter() - started_s
    result = experiment.facts(config, data) | experiment.judge(config, judged, scores_of, writer)
    result |= {
        "replicas": 1,
        "members": {name: str(folder) for name, (folder, _) in found.items()},
        "weights": weight_M.tolist(),
        "best_step": [],
        "parameters": sum(member["parameters"] * member["replicas"] for _, member in found.values()),
        "time_s": {"prepare": prepare_s, "train": 0.0, "eval": time.perf_counter() - started_s - prepare_s},
    }
    return runs.close_folder(writer, workdir, result)


def read_scores(folder: pathlib.Path, name: str, part: Part, classes: int) -> np.ndarray:
    """Reads the probabilities of all replicas of a run for the examples of a part: float32 [replicas, N, K].

    Raises:
      RunError: the file cannot be read, or has other examples or classes.
    """
    path = folder / "predictions" / f"{name}.npz"
    *columns, score = read_arrays(path, lambda of: [of[name] for name in ("id", "offset", "label", "score")])
    same = all(map(np.array_equal, columns, (part.id, part.offset, part.label)))
    if not same or score.shape[-1] != classes:
        what = "examples" if not same else "classes"
        raise RunError(f"{path} has other {what} than this {name}; take members of one protocol, cut and data set.")
    return score if score.ndim == 3 else score[None]


def mean(member_MNK: np.ndarray, weight_M: np.ndarray, geometric: bool, several_labels: bool) -> np.ndarray:
    """The members' weighted mean: probabilities [N, K]. several_labels: whether the classes are independent."""
    if not geometric:
        return np.tensordot(weight_M, member_MNK, 1)
    member_MNK = np.clip(member_MNK, 1e-7, 1 - 1e-7)
    if several_labels:
        return scipy.special.expit(np.tensordot(weight_M, scipy.special.logit(member_MNK), 1))
    return scipy.special.softmax(np.tensordot(weight_M, np.log(member_MNK), 1), axis=1)


def fit_weights(member_MNK: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Weights from 0 with sum 1 whose arithmetic mean has the lowest cross-entropy: [M].

    They maximise the likelihood of a mixture, by expectation maximisation (Dempster et al. 1977).
    """
    if label.ndim == 1:
        likelihood_ME = member_MNK[:, np.arange(len(label)), label]
    else:
        likelihood_ME = np.where(label, member_MNK, 1 - member_MNK).reshape(len(member_MNK), -1)
    likelihood_ME = np.maximum(likelihood_ME.astype(np.float64), 1e-7)
    weight_M, change = np.full(len(member_MNK), 1 / len(member_MNK)), 1.0
    while change > 1e-7:
        updated_M = weight_M * (likelihood_ME / (weight_M @ likelihood_ME)).mean(1)
        weight_M, change = updated_M, np.abs(updated_M - weight_M).max()
    return weight_M
