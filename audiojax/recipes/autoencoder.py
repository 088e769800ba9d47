"""An autoencoder as a run, which also saves the latents of its clips and some reconstructions."""

import pathlib

import numpy as np

from audiojax import experiment
from audiojax.data.windows import select
from audiojax.writer import Writer

SHOWN = 6  # reconstructions


def run(config, workdir: pathlib.Path, raw_dir: pathlib.Path | None, data_dir: pathlib.Path) -> dict:
    """Trains and evaluates an autoencoder in `workdir`; returns what result.json holds.

    Files, of the first replica: predictions/latents.npz has id [N] and latent [N, L] of the clips of train and valid;
    plots/reconstructions.npz has id, image and again (its reconstruction) [N, H, W] of some test clips.
    """
    return experiment.run(config, workdir, raw_dir, data_dir, leave=leave_latents)


def leave_latents(fitted: experiment.Fitted, writer: Writer) -> None:
    """Writes the latents and reconstructions."""
    evaluator, parts = fitted.trainer.evaluator, {name: fitted.data.parts[name] for name in ("train", "valid")}
    encode = lambda *arguments: dict(zip(("image", "latent", "again"), fitted.task.encode(*arguments)))
    latent = lambda *arguments: {"latent": encode(*arguments)["latent"]}
    latents = [
        evaluator.outputs(name, latent, fitted.best, np.arange(len(part.id)))["latent"][0]
        for name, part in parts.items()
    ]
    ids = np.concatenate([part.id for part in parts.values()])
    writer.arrays("predictions/latents", id=ids, latent=np.concatenate(latents))
    test = fitted.data.parts["test"]
    shown = np.unique(np.linspace(0, len(test.id) - 1, SHOWN).astype(int))
    seen = evaluator.outputs("test", encode, fitted.best, shown)
    images = {name: seen[name][0, ..., 0].astype(np.float16) for name in ("image", "again")}
    writer.arrays("plots/reconstructions", id=select(test, shown).id, **images)
