"""A conditional GAN as a run, whose samples are saved at every evaluation and judged at the end."""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from audiojax import console, experiment, frontend, metrics, runs, trained
from audiojax import mesh as meshes
from audiojax.data import extended
from audiojax.data.open import open_parts, open_source
from audiojax.data.prepared import Prepared
from audiojax.data.windows import Part, cut_windows
from audiojax.evaluate import Evaluator, Outputs
from audiojax.tasks.supervised import clips
from audiojax.writer import Writer

GENERATED = "generated"  # subset of generated clips
WON = 4.6  # generator's loss above which the discriminator takes under 1 % of its clips for real
BATCH = 16  # clips generated at a time
SHOWN_S = 4.0  # seconds of each saved sample


def run(config, workdir: pathlib.Path, raw_dir: pathlib.Path | None, data_dir: pathlib.Path) -> dict:
    """Trains a GAN in `workdir`; returns what result.json holds.

    At each evaluation, samples/step_N.npz has one clip of each class, of the same noise: audio int16 [classes, samples]
    of the first replica. At the end the first replica generates as many clips as it has trained on, with their labels;
    `judge` scores them for result.json.

    Config:
      recipe.judge: a classifier of real clips, as a row of the same table or the folder of a run.
      recipe.clips: most clips to generate of each class.

    Raises:
      RunError: the judge is not finished, or has another protocol or cut of the data.
    """
    leave, watching = (functools.partial(part, config, workdir) for part in (leave_judgement, watch))
    return experiment.run(config, workdir, raw_dir, data_dir, leave=leave, watch=watching)


def watch(config, workdir: pathlib.Path, data, task, writer: Writer, step: int, params, model_state, summary) -> None:
    """Saves a sample of each class, and reports a discriminator that has won. Before the first step it checks that the
    judge can be found."""
    if step == 0:
        find_judge(config, workdir, data)
    prepared, label_K = data.prepared, np.arange(len(data.classes))
    audio_KT = generate(task, params, model_state, label_K, label_K, data.parts["train"].steps)
    writer.arrays(f"samples/step_{step}", audio=audio_KT[:, : round(SHOWN_S * prepared.sample_rate_hz)])
    if step and np.nanmax(summary["loss"]) > WON:
        console.say(f"step {step}: {won(summary)}")


def won(summary: dict) -> str:
    """A sentence on a discriminator that takes almost nothing generated for real."""
    return (
        f"the discriminator has won: it takes {np.nanmin(summary['fooled']):.0%} of the generated clips for real, and"
        f" the generator's loss of {np.nanmax(summary['loss']):.2f} is its failure, not a good fit"
    )


def leave_judgement(config, workdir: pathlib.Path, fitted: experiment.Fitted, writer: Writer) -> dict:
    """Entries of result.json on clips of the chosen weights; see `judge`."""
    data, best = fitted.data, fitted.best
    summary = fitted.trainer.evaluator.report("valid", fitted.scores("valid")).summary
    if np.nanmax(summary["loss"]) > WON:
        data.notes.append(f"{config.row}, {config.protocol}: {won(summary)}")
    judging = trained.load(find_judge(config, workdir, data))
    label_N = labels_to_generate(data.parts["train"].label, config.recipe.clips)
    numbers = len(data.classes) + np.arange(len(label_N))  # after those of the saved samples
    audio_NT = generate(fitted.task, best.params, best.model_state, numbers, label_N, data.parts["train"].steps)
    form = {"samples": audio_NT.shape[1], "sample_rate_hz": data.prepared.sample_rate_hz}
    return judge(audio_NT, label_N, data, fitted.task.embed, judging, workdir / "taught") | {"generates": form}


def find_judge(config, workdir: pathlib.Path, data: experiment.Data) -> pathlib.Path:
    """Folder of the judge, which may have more classes than the GAN."""
    return runs.find(config.recipe.judge, workdir, config, data.prepared, ("data.exclude_classes",))[0]


def labels_to_generate(label_N: np.ndarray, most: int) -> np.ndarray:
    """As many labels of each class as the training clips have, at most `most`."""
    count_K = np.minimum(np.bincount(label_N), most)
    return np.repeat(np.arange(len(count_K)), count_K)


def generate(task, params, model_state, number_N: np.ndarray, label_N: np.ndarray, samples: int) -> np.ndarray:
    """Generates clips with the first replica: int16 [N, samples]. A clip depends on its number and label only.

    params, model_state: with a leading axis of replicas.
    """
    first = jax.tree.map(lambda leaf: leaf[0], (params, model_state))
    clips = []
    for start in range(0, len(label_N), BATCH):
        number_B, label_B = (values[start : start + BATCH] for values in (number_N, label_N))
        missing = BATCH - len(label_B)  # All batches have one size, and so one program.
        batch = (jnp.asarray(np.pad(values, (0, missing)), jnp.int32) for values in (number_B, label_B))
        clips.append(np.asarray(generated_batch(task, *first, *batch, samples))[: len(label_B)])
    return np.concatenate(clips)


@functools.partial(jax.jit, static_argnums=(0, 5))
def generated_batch(task, params, model_state, number_B: jax.Array, label_B: jax.Array, samples: int) -> jax.Array:
    """One batch of clips: int16 [B, samples]."""
    key_B = jax.vmap(lambda number: jax.random.fold_in(jax.random.key(1), number))(number_B)
    audio_BT = task.generate(params, model_state, key_B, label_B, samples)
    return jnp.round(32767 * audio_BT).astype(jnp.int16)


def judge(
    audio_NT: np.ndarray,
    label_N: np.ndarray,
    data: experiment.Data,
    embed,
    judging: trained.Trained,
    folder: pathlib.Path,
) -> dict:
    """Compares generated clips with the real ones of `data`.

    Args:
      audio_NT, label_N: the generated clips, int16, and their labels.
      embed: from audio [B, T] to embeddings [B, pieces, D].
      judging: a classifier of real clips.
      folder: of a run that trains the same classifier on the generated clips alone.

    Returns:
      "test" with "recognised", the judge's accuracy on generated clips, and "taught", the accuracy on real test clips
      of the classifier trained on generated ones, each a list of one value. "tables" with all comparisons, beside those
      of real clips: Fréchet distances of `embed` and of the judge's log-probabilities; the median Euclidean distance of
      embeddings to the nearest training clip, in standard deviations of the training clips; the deviation within a
      class, relative to that of the training clips.
    """
    train = data.parts["train"]
    whole, part = extended.extend(data.prepared, train.split, audio_NT, label_N, data.classes, GENERATED)
    embedding = {"generated": embed_all(embed, audio_NT)}
    embedding |= {name: embed_all(embed, read(data.prepared, data.parts[name])) for name in ("train", "test")}
    own = judge_parts(judging, whole, part, data.classes)
    scores = score(judging, whole, {name: own[name] for name in ("generated", "train", "test")})
    found = {name: clip_scores(own[name], of) for name, of in scores.items()}
    right = {name: float((score_MK.argmax(1) == label_M).mean()) for name, (label_M, score_MK) in found.items()}
    logits = {name: np.log(np.maximum(of["score"][0], 1e-7)) for name, of in scores.items()}
    taught = teach(judging, whole, own, folder) if len(data.classes) > 1 else None

    mean_D, deviation_D = (f(embedding["train"], axis=(0, 1)) for f in (np.mean, np.std))
    flat = {name: ((of - mean_D) / (deviation_D + 1e-6)).reshape(len(of), -1) for name, of in embedding.items()}
    near = {name: nearest(flat[name], flat["train"]) for name in ("generated", "test")}
    closest = int(near["generated"][1].argmin())
    spread = {name: within(flat[name], of) for name, of in (("generated", label_N), ("train", train.label))}

    number = lambda value: "–" if value is None else f"{value:.3f}"
    distance = metrics.frechet
    lines = [
        ["Fréchet distance to test, log-mel", distance(embedding["generated"], embedding["test"])],
        ["Fréchet distance to test, classifier", distance(logits["generated"], logits["test"])],
        ["recognised by a classifier of real clips", right["generated"]],
        ["test recognised by a classifier of these clips", taught],
        ["to the nearest training clip", float(np.median(near["generated"][1]))],
        ["spread within a class", spread["generated"] / spread["train"]],
    ]
    real = [
        distance(embedding["train"], embedding["test"]),
        distance(logits["train"], logits["test"]),
        right["test"],
        right["test"],
        float(np.median(near["test"][1])),
        1.0,
    ]
    table = [[name, number(value), number(beside)] for (name, value), beside in zip(lines, real)]
    copied = train.segment[near["generated"][0][closest]]
    table.append(["nearest pair", f"{part.id[closest]}: {near['generated'][1][closest]:.3f} from {copied}", "–"])
    test_metrics = {"recognised": [right["generated"]]} | ({"taught": [taught]} if taught is not None else {})
    title = f"{len(audio_NT)} generated clips, judged"
    return {"test": test_metrics, "tables": {title: {"header": ["", "generated", "real"], "lines": table}}}


def judge_parts(judging: trained.Trained, whole: Prepared, generated: Part, classes: list[str]) -> dict[str, Part]:
    """The judge's train, valid and test, and its windows of the generated clips. classes: of generated.label."""
    section = judging.config.data
    parts, own, _ = open_parts(judging.config, section, whole)
    label = np.array([own.index(name) for name in classes], np.int32)[generated.label]
    return parts | {"generated": cut_windows(generated._replace(label=label), whole, section.segment)}


def score(judging: trained.Trained, prepared: Prepared, parts: dict[str, Part]) -> dict[str, Outputs]:
    """The judge's scores of parts."""
    config = judging.config
    mesh = meshes.make_mesh(config.replicas, config.batch_size, config.run.cpu_devices)
    source = open_source(config, prepared, parts, mesh)
    evaluator = Evaluator(judging.task, source, parts, mesh, config.eval_batch_size, config.replicas)
    return {name: evaluator.scores(name, judging.best.params, judging.best.model_state) for name in parts}


def clip_scores(part: Part, scores: Outputs) -> tuple[np.ndarray, np.ndarray]:
    """Label [M] and probabilities [M, classes] of each clip, of the first replica."""
    row_M, score_MK = clips(part, scores)
    return part.label[row_M], score_MK


def teach(judging: trained.Trained, whole: Prepared, own: dict[str, Part], folder: pathlib.Path) -> float:
    """Accuracy on real test clips of the judge's network, trained on generated clips alone."""
    config = judging.config.copy_and_resolve_references()
    config.start_from = ""  # Those weights may come from real clips.
    parts = {"train": own["generated"], "valid": own["valid"], "test": own["test"]}
    data = experiment.Data(whole, parts, judging.result["classes"], [])
    writer = runs.open_writer(config, folder)
    fitted = experiment.fit(config, data, folder, writer)
    label_M, score_MK = clip_scores(parts["test"], fitted.scores("test"))
    return float((score_MK.argmax(1) == label_M).mean())


def read(prepared: Prepared, part: Part) -> np.ndarray:
    """A part's windows, padded with zeros: int16 [N, T]."""
    inputs, audio_NT = prepared.inputs(part.split), np.zeros((len(part.id), part.steps), np.int16)
    for row, start, length in zip(audio_NT, part.start, part.length):
        row[:length] = inputs[start : start + length]
    return audio_NT


def embed_all(embed, audio_NT: np.ndarray) -> np.ndarray:
    """Embeddings of clips: [N, pieces, D]."""
    padded = np.pad(audio_NT, ((0, -len(audio_NT) % BATCH), (0, 0)))
    found = [np.asarray(embedded(embed, padded[start : start + BATCH])) for start in range(0, len(padded), BATCH)]
    return np.concatenate(found)[: len(audio_NT)]


@functools.partial(jax.jit, static_argnums=0)
def embedded(embed, audio_BT: jax.Array) -> jax.Array:
    """Embeddings of one batch: [B, pieces, D]."""
    return embed(frontend.to_float(audio_BT))


def nearest(one_ND: np.ndarray, other_MD: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Index of the nearest row of `other_MD` to each row of `one_ND`, and its distance: [N] each."""
    squared = (one_ND**2).sum(1)[:, None] + (other_MD**2).sum(1) - 2 * one_ND @ other_MD.T
    return squared.argmin(1), np.sqrt(np.maximum(squared.min(1), 0))


def within(flat_ND: np.ndarray, label_N: np.ndarray) -> float:
    """Root mean square distance of each row to the mean of its class."""
    residual = np.concatenate([flat_ND[label_N == k] - flat_ND[label_N == k].mean(0) for k in np.unique(label_N)])
    return float(np.sqrt((residual**2).sum(1).mean()))
