"""Beyond the NTU study: what unverified labels are worth, with its 2D CNN on small images (FSDKaggle2018).

python launch.py --config=configs/beyond_freesound.py --workdir=DIR --raw_dir=RELEASES

Results: docs/studies/ntu_freesound.md. What was tried: docs/notes/freesound.md.
"""

from configs import common, ntu_freesound

MASKS = {"name": "spec_augment", "time_masks": 2, "time_width": 8, "frequency_masks": 2, "frequency_width": 8}
MIXUP = {"name": "mixup", "alpha": 0.4}


def row(unverified: float, *augmentations: dict, **overrides) -> dict:
    """A row with a weight of unverified clips and augmentations of the features."""
    own = {"data": {"subset_weights": {"unverified": unverified}}, "augment": {"features": augmentations}}
    return {"parameters": 398_857, "published": {}, "overrides": own | overrides}


AGREEMENT = {
    **{"name": "self_training", "iterations": 2, "warm_start": False, "agreeing": True},
    **{"lower": (0.0, 0.0), "upper": 1.0},
}
ROWS = {
    "verified": row(0.0),
    "all": row(1.0),
    "weighted": row(0.5),
    "weighted_augmented": row(0.5, MASKS, MIXUP),
    "self_training": row(0.0, recipe=AGREEMENT),
}


def get_config(row: str | None = None):
    with ntu_freesound.get_config("cnn2d_all").unlocked() as config:
        config.frontend.update(dict(height=64, width=64))
        config.epochs = 60.0
        config.eval_every = 5.0
    return common.choose("beyond_freesound", config, ROWS, row)
