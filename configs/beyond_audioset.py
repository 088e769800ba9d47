"""Beyond Li's study: attention over the ten seconds of the same AudioSet embeddings.

python launch.py --config=configs/beyond_audioset.py --protocols=honest --workdir=DIR --raw_dir=RELEASES
python launch.py --config=configs/beyond_audioset.py:multi_head --workdir=DIR --raw_dir=RELEASES

The ensemble averages `MEMBERS` of the same table. Results, and how to train on nearly all clips:
docs/studies/li_audioset.md. What was tried: docs/notes/audioset.md.
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
ONE_LEVEL = {"hidden": (512,), "levels": (1,), "dropout": 0.5}
MIXED = {"augment": {"features": ({"name": "mixup", "alpha": 1.0},)}}
LARGE_BATCHES = {"batch_size": 512, "optim": {"lr": 2e-3}}
ROWS = {
    "decision_level": {
        "parameters": 1_133_598,
        "published": {},
        "overrides": {
            "model": ATTENTION | {"pooling": "decision", "levels": (3,), "statistics": False, "dense": ()},
            "epochs": 20.0,
        }
        | MIXED,
    },
    "feature_level": {
        "parameters": 3_772_943,
        "published": {},
        "overrides": {"model": ATTENTION | ONE_LEVEL} | LARGE_BATCHES,
    },
    "multi_level": {
        "parameters": 7_447_055,
        "published": {},
        "overrides": {"model": ATTENTION, "task": {"positive_weight": 5.0}, "epochs": 12.0} | MIXED,
    },
    "multi_head": {
        "parameters": 5_797_392,
        "published": {},
        "overrides": {
            "model": ATTENTION | ONE_LEVEL | {"hidden": (4096,), "pooling": "heads", "heads": 1, "dense": (1024,)}
        }
        | LARGE_BATCHES,
    },
}
MEMBERS = ("decision_level", "multi_level", "multi_head")
ROWS["ensemble"] = {
    "parameters": sum(ROWS[name]["parameters"] for name in MEMBERS),
    "published": {},
    "overrides": {"recipe": {"name": "ensemble", "members": MEMBERS, "mean": "geometric"}},
}


def get_config(row: str | None = None):
    with li_audioset.get_config().unlocked() as config:
        config.task.competition = 0.5
        config.epochs = 10.0
        config.optim.update(dict(lr=1e-3, schedule="cosine", warmup=0.05, average_share=0.1))
        config.eval_every = 2.0
        config.select = "mAP"
    return common.choose("beyond_audioset", config, ROWS, row)
