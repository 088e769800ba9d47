"""Beyond Li's study, on the same AudioSet embeddings: attention over the ten seconds.

python launch.py --config=configs/beyond_audioset.py:multi_level --workdir=DIR --raw_dir=RELEASES
python launch.py --config=configs/beyond_audioset.py:multi_level --replicas=5 ...     and the mean of five seeds
python launch.py --config=configs/beyond_audioset.py --protocols=honest ...           every row, and their ensemble

Two CPU cores: about 40 minutes. Expected of `multi_level` on the 20,371 evaluation clips, `honest`, seed 0: mAUC 0.951,
mAP 0.279 (0.954 and 0.368 on the 1,108 validation clips, hardly changing after half of the epochs). The other rows have
not been trained in full. Settings are first guesses, with mixup and averaged weights as for li's `lstm`.
"""

from configs import common, li_audioset

ATTENTION = {
    "name": "attention",
    "standardise": True,
    "hidden": (512, 512, 512),
    "levels": (1, 2, 3),
    "pooling": "feature",
    "heads": 0,
    "statistics": True,
    "dense": (2048,),
    "input_dropout": 0.2,
    "dropout": 0.3,
}
ONE_LEVEL = {"hidden": (512,), "levels": (1,)}
ROWS = {
    "decision_level": {
        "parameters": 1_133_598,
        "published": {},
        "overrides": {
            "model": ATTENTION | {"pooling": "decision", "levels": (3,), "statistics": False, "dense": ()},
            "task": {"positive_weight": 1.0},
            "epochs": 20.0,
        },
    },
    "feature_level": {
        "parameters": 3_772_943,
        "published": {},
        "overrides": {"model": ATTENTION | ONE_LEVEL | {"dropout": 0.5}},
    },
    "multi_level": {"parameters": 7_447_055, "published": {}, "overrides": {"model": ATTENTION}},
    "multi_head": {
        "parameters": 6_395_411,
        "published": {},
        "overrides": {"model": ATTENTION | ONE_LEVEL | {"pooling": "heads", "heads": 4}},
    },
}
ROWS["ensemble"] = {
    "parameters": sum(row["parameters"] for row in ROWS.values()),
    "published": {},
    "overrides": {"recipe": {"name": "ensemble", "members": tuple(ROWS), "mean": "arithmetic"}},
}


def get_config(row: str | None = None):
    with li_audioset.get_config().unlocked() as config:
        config.task.positive_weight = 5.0
        config.augment.features = ({"name": "mixup", "alpha": 1.0},)
        config.optim.update(dict(lr=1e-3, schedule="cosine", warmup=0.05, average_share=0.1))
        config.epochs = 12.0
        config.eval_every = 2.0
        config.select = "mAP"
    return common.choose("beyond_audioset", config, ROWS, row)
