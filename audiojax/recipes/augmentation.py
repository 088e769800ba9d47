"""A classifier trained on real and generated clips, beside the same classifier without generated ones."""

import pathlib
import time

import numpy as np

from audiojax import console, experiment, runs, trained
from audiojax.data import extended
from audiojax.data.windows import Part, cut_windows, join, select
from audiojax.errors import ConfigError
from audiojax.recipes import gan

ARMS = ("real", "duplicated", gan.GENERATED)


@runs.own_folder
def run(config, workdir: pathlib.Path, raw_dir: pathlib.Path | None, data_dir: pathlib.Path) -> dict:
    """Trains on real and as many generated examples; returns what result.json holds.

    Generated clips are cut into windows as real ones are, and join train only: as many windows of each class as there
    are real ones. For comparison, the same training runs on the real windows once (folder real/) and twice (folder
    duplicated/), with the same seeds and duration in epochs. "audit" in result.json compares the three.

    Config:
      recipe.generator: a GAN, as a row of the same table or the folder of a run.

    Raises:
      ConfigError: the GAN has other classes, the config has a grid, or clips have several labels. RunError: the GAN is
        not finished, or has another protocol or cut of the data.
    """
    started_s = time.perf_counter()
    writer, result = runs.open_folder(config, workdir)
    if result:
        return result
    data = experiment.open_run(config, workdir, raw_dir, data_dir)
    if data.prepared.multi_label or config.grid:
        raise ConfigError("recipe.name=augmentation needs clips of a single label, and no grid.")
    generator = trained.load(runs.find(config.recipe.generator, workdir, config, data.prepared)[0])
    if "generates" not in generator.result:
        raise ConfigError(f"recipe.generator={config.recipe.generator!r} is no GAN; name the run of one.")
    if generator.result["classes"] != data.classes:
        raise ConfigError(
            f"recipe.generator={config.recipe.generator!r} has other classes: {', '.join(generator.result['classes'])}."
        )
    whole, train = enlarge(config, data, generator)
    prepare_s, folders = time.perf_counter() - started_s, {arm: workdir / arm for arm in ARMS[:2]} | {ARMS[2]: workdir}
    audit, time_s = {}, {}
    for arm, folder in folders.items():
        console.say(f"{config.row}, {arm}: {len(train[arm].id):,} windows to train")
        own = data._replace(prepared=whole, parts=data.parts | {"train": train[arm]})
        arm_writer = writer if folder == workdir else runs.open_writer(config, folder)
        fitted = experiment.fit(config, own, folder, arm_writer)
        judged = experiment.judge(config, own.parts, fitted.scores, arm_writer)
        audit[arm] = {name: of["accuracy"] for name, of in judged["metrics"].items() if not name.endswith("_ensemble")}
        for name, seconds in fitted.trainer.time_s.items():
            time_s[name] = time_s.get(name, 0.0) + seconds
    result = experiment.facts(config, own) | judged | experiment.training(config, fitted)
    result |= {"audit": audit, "tables": {"Training clips": table(audit, train)}, "generator": config.recipe.generator}
    result["time_s"] = {"prepare": prepare_s} | time_s
    return runs.close_folder(writer, workdir, result)


def enlarge(config, data: experiment.Data, generator: trained.Trained) -> tuple[extended.Extended, dict[str, Part]]:
    """The data extended by generated clips, and the training windows of each of `ARMS`."""
    real, samples = data.parts["train"], generator.result["generates"]["samples"]
    wanted_K = np.bincount(real.label, minlength=len(data.classes))
    one = cut_windows(clip_of(real, samples), data.prepared, config.data.segment)
    label_N = np.repeat(np.arange(len(wanted_K)), -(-wanted_K // len(one.id)))
    console.say(f"{config.row}: {len(label_N):,} clips to generate")
    audio_NT = gan.generate(
        generator.task, generator.best.params, generator.best.model_state, np.arange(len(label_N)), label_N, samples
    )
    whole, clips = extended.extend(data.prepared, real.split, audio_NT, label_N, data.classes, gan.GENERATED)
    windows = cut_windows(clips, whole, config.data.segment)
    kept = [np.flatnonzero(windows.label == k)[:count] for k, count in enumerate(wanted_K)]
    generated = select(windows, np.concatenate(kept))
    return whole, dict(zip(ARMS, (real, join(real, real), join(real, generated))))


def clip_of(part: Part, samples: int) -> Part:
    """One clip of this length, whose windows can be counted."""
    return select(part, np.arange(1))._replace(length=np.array([samples], np.int32))


def table(audit: dict, train: dict[str, Part]) -> dict:
    """Mean and standard deviation over seeds of the accuracies of each arm."""

    def cell(values: list[float]) -> str:
        scored = [value for value in values if np.isfinite(value)]  # without seeds that have diverged
        return f"{np.mean(scored):.3f}" + (f" ± {np.std(scored, ddof=1):.3f}" if len(scored) > 1 else "")

    parts = ("train", "valid", "test")
    lines = [[arm, f"{len(train[arm].id):,}", *(cell(of[name]) for name in parts)] for arm, of in audit.items()]
    return {"header": ["clips", "windows", *(f"{name} accuracy" for name in parts)], "lines": lines}
