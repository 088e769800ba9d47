"""Beyond the NTU study, on the same clips (FSDKaggle2018): log-mel windows, and what unverified labels are worth.

python launch.py --config=configs/beyond_freesound.py --workdir=DIR --raw_dir=RELEASES

Rows: verified clips alone; all clips alike; all clips, the loss of unverified ones weighted by a half; that with
SpecAugment and mixup; and self-training in which a clip joins where its own label is the predicted one.
"""

from configs import common, ntu_freesound

LOG_MEL = {
    "name": "log_mel",
    "sample_rate_hz": 44_100,
    "n_fft": 2048,
    "hop_samples": 512,
    "centred": True,
    "mels": 64,
    "reference": "max",
    "top_db": 80.0,
    "normalise": True,
}
MASKS = {"name": "spec_augment", "time_masks": 2, "time_width": 20, "frequency_masks": 2, "frequency_width": 8}
MIXUP = {"name": "mixup", "alpha": 0.4}


def row(unverified: float, *augmentations: dict) -> dict:
    """A row by the weight of unverified clips and what is done to the features in training."""
    overrides = {"data": {"subset_weights": {"unverified": unverified}}, "augment": {"features": augmentations}}
    return {"parameters": 398_857, "published": {}, "overrides": overrides}


ROWS = {
    "verified": row(0.0),
    "all": row(1.0),
    "weighted": row(0.5),
    "weighted_augmented": row(0.5, MASKS, MIXUP),
    "self_training": row(0.0),
}
ROWS["self_training"]["overrides"]["recipe"] = {
    **{"name": "self_training", "iterations": 2, "warm_start": False, "agreeing": True},
    **{"lower": (0.0, 0.0), "upper": 1.0},
}


def get_config(row: str | None = None):
    with ntu_freesound.get_config("cnn2d_mfcc").unlocked() as config:
        config.frontend = LOG_MEL
        config.optim.average_share = 0.1
        config.epochs = 40.0
    return common.choose("beyond_freesound", config, ROWS, row)
