"""Beyond Li's study, on the same AudioSet embeddings: attention over the ten seconds.

python launch.py --config=configs/beyond_audioset.py:multi_level --workdir=DIR --raw_dir=RELEASES
"""

from configs import common, li_audioset

ATTENTION = {
    "name": "attention",
    "standardise": True,
    "hidden": (1024, 1024, 1024),
    "levels": (3,),
    "pooling": "feature",
    "input_dropout": 0.2,
    "dropout": 0.5,
}
ROWS = {
    "decision_level": {
        "parameters": 3_314_718,
        "published": {},
        "overrides": {"model": ATTENTION | {"pooling": "decision"}},
    },
    "feature_level": {"parameters": 4_873_743, "published": {}, "overrides": {"model": ATTENTION}},
    "multi_level": {
        "parameters": 10_151_439,
        "published": {},
        "overrides": {"model": ATTENTION | {"levels": (1, 2, 3)}},
    },
}


def get_config(row: str | None = None):
    with li_audioset.get_config().unlocked() as config:
        config.augment.features = ({"name": "mixup", "alpha": 1.0},)
        config.optim.update(dict(lr=1e-3, schedule="cosine", warmup=0.05, average_share=0.1))
        config.epochs = 24.0
        config.eval_every = 2.0
        config.select = "mAP"
    return common.choose("beyond_audioset", config, ROWS, row)
