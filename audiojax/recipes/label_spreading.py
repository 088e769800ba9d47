"""Spreads labels of verified clips to unverified ones over an autoencoder's latents, and promotes what agrees."""

import pathlib
import time

import numpy as np
import sklearn.decomposition
import sklearn.manifold
import sklearn.semi_supervised

from audiojax import console, experiment, runs
from audiojax import mesh as meshes
from audiojax.data import labels
from audiojax.data.protocol import HIDDEN
from audiojax.errors import ConfigError, RunError
from audiojax.writer import read_arrays

PROMOTED = "promoted"  # subset of promoted clips


@runs.own_folder
def run(config, workdir: pathlib.Path, raw_dir: pathlib.Path | None, data_dir: pathlib.Path) -> dict:
    """Promotes unverified training clips whose spread label is their own; returns what result.json holds.

    labels.csv has the verified and promoted training clips, for the data.label_file of any run. plots/embedding.npz has
    two dimensions of the latents, by t-SNE within each group.

    Config:
      recipe.encoder: a run that saved latents, as a row of the same table or a folder.
      recipe.labelled: the subset whose labels are spread.
      recipe.groups: (name, classes) of the groups within which labels are spread.
      recipe.promote: names of the groups in which clips are promoted; () for all.
      recipe.spreading: arguments of scikit-learn's LabelSpreading.
      recipe.unit_latents: whether latents are scaled to length 1 first.
      recipe.truth_file: csv of clip and correct label, to judge promotions by; "" without one. Where data.hide hides
        labels, those of the data set are the truth.
      data.protocols.*.spread_valid: whether labels of validation clips are spread too, as the study did.

    Raises:
      ConfigError: impossible groups, subset or settings, windows of clips, or several labels a clip. RunError: there
        are no latents of these clips.
    """
    started_s = time.perf_counter()
    writer, result = runs.open_folder(config, workdir)
    if result:
        return result
    data, recipe = experiment.open_run(config, workdir, raw_dir, data_dir), config.recipe
    if config.data.segment.seconds or data.prepared.multi_label:
        raise ConfigError("label_spreading needs whole clips (data.segment.seconds=0) of a single label each.")
    read = ["train"] + ["valid"] * config.data.protocols[config.protocol].get("spread_valid", False)
    id_N, own_N, subset_N = (
        np.concatenate([getattr(data.parts[name], field) for name in read]) for field in ("id", "label", "subset")
    )
    encoder, _ = runs.find(recipe.encoder, workdir, config, data.prepared)
    latent_ND = read_latents(encoder, id_N)
    if recipe.unit_latents:
        latent_ND = latent_ND / np.maximum(np.linalg.norm(latent_ND, axis=1, keepdims=True), 1e-12)
    known_N = subset_N == recipe.labelled
    if not known_N.any():
        raise ConfigError(
            f"recipe.labelled={recipe.labelled!r} is no subset of train: {', '.join(np.unique(subset_N))}."
        )
    groups = group_numbers(recipe.groups, data.classes)
    if unknown := set(recipe.promote) - set(groups):
        raise ConfigError(f"recipe.promote names {sorted(unknown)[0]!r}; groups: {', '.join(groups)}.")
    writer.begin(0)
    spread_N, xy_N2 = np.full(len(id_N), -1), np.zeros((len(id_N), 2))
    for name, classes in groups.items():
        inside = np.flatnonzero(np.isin(own_N, classes))
        console.say(f"{config.row}: {name}, {len(inside):,} clips, {known_N[inside].sum():,} {recipe.labelled}")
        spread_N[inside] = spread(latent_ND[inside], own_N[inside], known_N[inside], dict(recipe.spreading))
        xy_N2[inside] = embed(latent_ND[inside], config.seed)
    group_N = np.array([next(name for name, classes in groups.items() if label in classes) for label in own_N])
    promoted_N = ~known_N & (spread_N == own_N) & np.isin(group_N, recipe.promote or list(groups))
    in_train_N = np.isin(id_N, data.parts["train"].id)
    subset_N = np.where(promoted_N, PROMOTED, subset_N)
    kept_N = (known_N | promoted_N) & in_train_N
    rows = [
        {"clip": clip, "label": data.classes[label], "subset": subset}
        for clip, label, subset in zip(id_N[kept_N], own_N[kept_N], subset_N[kept_N])
    ]
    meshes.by_first(lambda: labels.write(workdir / runs.LABELS, rows))
    console.say(f"promoted {promoted_N.sum():,} of {(~known_N).sum():,} clips: {workdir / runs.LABELS}")
    writer.arrays("plots/embedding", id=id_N, label=own_N, subset=subset_N, group=group_N, xy=xy_N2)
    result = experiment.facts(config, data) | {
        "replicas": 1,
        "metrics": {"train": {}, "valid": {}, "test": {}},
        "ci95": {},
        "per_class": {"test": [{}]},
        "best_step": [],
        "parameters": 0,
        "encoder": str(encoder),
        "tables": {"Promotion": promotion_table(groups, own_N, known_N, promoted_N)},
        "time_s": {"train": 0.0, "eval": time.perf_counter() - started_s},
    }
    truth_N = true_labels(config, data, id_N)
    if (told_N := truth_N >= 0).any():
        right_N, known_N, promoted_N = (own_N == truth_N)[told_N], known_N[told_N], promoted_N[told_N]
        shares = {"all": right_N, "unverified": right_N[~known_N], "promoted": right_N[promoted_N]}
        shares["verified and promoted"] = right_N[known_N | promoted_N]
        result["right"] = {name: float(right.mean()) if len(right) else None for name, right in shares.items()}
        lines = [[name, f"{len(right):,}", f"{right.mean():.4f}"] for name, right in shares.items() if len(right)]
        result["tables"]["Labels that are right"] = {"header": ["clips", "number", "share right"], "lines": lines}
    return runs.close_folder(writer, workdir, result)


def true_labels(config, data: experiment.Data, id_N: np.ndarray) -> np.ndarray:
    """The correct classes of the clips, -1 where they are unknown: [N]."""
    truth = {}
    if config.recipe.truth_file:
        given = labels.read(config.recipe.truth_file, data.classes)
        truth = {clip: label.label for clip, label in given.items()}
    elif config.data.hide.share:
        index = data.prepared.index(data.parts["train"].split)
        trusted = zip(index.id, index.label, index.subset)
        truth = {clip: data.prepared.classes[label] for clip, label, subset in trusted if subset != HIDDEN}
    return np.array([data.classes.index(truth[clip]) if clip in truth else -1 for clip in id_N])


def read_latents(folder: pathlib.Path, id_N: np.ndarray) -> np.ndarray:
    """Reads the latents of these clips from a run: [N, L]. Raises RunError where it has none."""
    path = folder / "predictions" / "latents.npz"
    repair = "recipe.encoder must be an autoencoder's run, undamaged."
    known, latent = read_arrays(path, lambda of: (of["id"], of["latent"]), repair)
    row = {clip: number for number, clip in enumerate(known)}
    if absent := [clip for clip in id_N if clip not in row]:
        raise RunError(
            f"{path} has no latent of {absent[0]} ({len(absent)} such clips); take the same protocol and cut."
        )
    return latent[[row[clip] for clip in id_N]]


def group_numbers(groups, classes: list[str]) -> dict[str, np.ndarray]:
    """Class numbers of each group. Raises ConfigError unless each class is in exactly one group."""
    named = [name for _, names in groups for name in names]
    if sorted(named) != sorted(classes):
        odd = sorted(set(named) ^ set(classes)) or sorted({name for name in named if named.count(name) > 1})
        raise ConfigError(f"recipe.groups must have each class once; see {', '.join(odd)}.")
    return {name: np.array([classes.index(one) for one in names]) for name, names in groups}


def spread(latent_ND: np.ndarray, own_N: np.ndarray, known_N: np.ndarray, settings: dict) -> np.ndarray:
    """Classes after spreading, -1 where no label reaches a clip: [N].

    own_N: classes of the clips. known_N: which of them are spread.
    """
    if known_N.all() or not known_N.any():
        return np.where(known_N, own_N, -1)
    try:
        model = sklearn.semi_supervised.LabelSpreading(**settings)
        with np.errstate(invalid="ignore"):  # A clip far from all others has the distribution 0 / 0.
            model.fit(latent_ND, np.where(known_N, own_N, -1))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"recipe.spreading={settings}: {' '.join(str(error).split())}") from error
    reached_N = np.nan_to_num(model.label_distributions_).sum(1) > 0
    return np.where(reached_N, model.transduction_, -1)


def embed(latent_ND: np.ndarray, seed: int) -> np.ndarray:
    """t-SNE of the first 50 principal components: [N, 2]. Zeros for fewer than five clips, or for equal latents."""
    # scikit-learn divides by the spread of the latents: with equal ones its compiled code crashes.
    if len(latent_ND) < 5 or not np.ptp(latent_ND, axis=0).any():
        return np.zeros((len(latent_ND), 2))
    if latent_ND.shape[1] == 1:  # t-SNE starts from two principal components.
        latent_ND = np.pad(latent_ND, ((0, 0), (0, 1)))
    components = min(50, *latent_ND.shape)
    pca = sklearn.decomposition.PCA(components, random_state=seed, svd_solver="randomized")
    tsne = sklearn.manifold.TSNE(perplexity=min(30, (len(latent_ND) - 1) / 3), random_state=seed, init="pca")
    return tsne.fit_transform(pca.fit_transform(latent_ND))


def promotion_table(groups: dict[str, np.ndarray], own_N, known_N, promoted_N) -> dict:
    """Clips and verified ones, before and after promotion, of each group and of all, as in the study's tables."""
    lines = []
    for name, classes in (groups | {"all": np.concatenate(list(groups.values()))}).items():
        inside = np.isin(own_N, classes)
        total, before = int(inside.sum()), int((inside & known_N).sum())
        after = before + int((inside & promoted_N).sum())
        share = lambda count, total=total: f"{count:,} ({count / max(total, 1):.2%})"
        lines.append([name, f"{total:,}", share(before), share(after)])
    return {"header": ["classes", "clips", "verified before", "verified after"], "lines": lines}
