"""An autoencoder's run and what it leaves, from sound to spread labels."""

import numpy as np
import pytest

from audiojax.recipes import autoencoder, label_spreading
from tests.conftest import config_of

SMALL = dict(
    data__variant="stand_in",
    frontend__height=32,
    frontend__width=24,
    frontend__hop_samples=1024,
)


def test_a_run_leaves_latents_reconstructions_and_a_loss(data_dir, tmp_path):
    network = dict(model__filters=(4, 8, 16), model__latent=32, optim__lr=3e-3)
    steps = dict(epochs=0.0, steps=40, eval_every=20.0, eval_batch_size=128)
    config = config_of("ntu_freesound", "autoencoder", **SMALL, **network, **steps)
    folder = tmp_path / "autoencoder" / "honest" / "split_0"
    result = autoencoder.run(config, folder, None, data_dir)
    assert all(of.keys() == {"loss"} for of in result["metrics"].values())
    [(low, high)] = result["ci95"]["test"]["loss"]
    assert low < result["metrics"]["test"]["loss"][0] < high < 0.5
    with np.load(folder / "predictions" / "latents.npz") as arrays:
        assert arrays["latent"].shape == (451 + 41, 32) and len(set(arrays["id"])) == 492
        assert arrays["latent"].std(0).min() > 0
    with np.load(folder / "plots" / "reconstructions.npz") as arrays:
        image, again = (arrays[name].astype(np.float32) for name in ("image", "again"))
        assert image.shape == again.shape == (6, 32, 24) and len(arrays["id"]) == 6
    # Of six clips: near the loss of all.
    assert np.mean((image - again) ** 2) == pytest.approx(result["metrics"]["test"]["loss"][0], rel=0.8)
    spread = config_of("ntu_freesound", "spread_2", data__variant="stand_in")
    beside = tmp_path / "spread_2" / "honest" / "split_0"
    label_spreading.run(spread, beside, None, data_dir)
    assert len((beside / "labels.csv").read_text().splitlines()) > 1 + 164
