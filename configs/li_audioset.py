"""Li: tagging AudioSet embeddings with dense networks, an LSTM and a gated CNN.

python launch.py --config=configs/li_audioset.py --workdir=DIR --raw_dir=RELEASES
python launch.py --config=configs/li_audioset.py:lstm --workdir=DIR --raw_dir=RELEASES

`paper` chooses the epoch on the evaluation clips, as the study does; `honest` on a part of the training clips.
The study, its results and what was chosen here: docs/studies/li_audioset.md.
"""

from configs import common

DENSE = {"name": "mlp", "standardise": True, "dropout": 0.0, "input_dropout": 0.0}
ROWS = {
    "fc1": {
        "parameters": 675_087,
        "published": {"test": {"mAUC": 0.927}},
        "overrides": {
            "model": DENSE | {"hidden": (), "kernel_init": "zeros_init"},
            "optim": {"lr": 1e-4},
            "epochs": 6.0,
        },
    },
    "fc2": {
        "parameters": 1_851_919,
        "published": {},
        "overrides": {
            "model": DENSE | {"hidden": (1024,), "input_dropout": 0.3, "dropout": 0.6},
            "optim": {"lr": 2e-4},
            "epochs": 14.0,
        },
    },
    "lstm": {
        "parameters": 7_559_183,
        "published": {"test": {"mAUC": 0.945}},
        "overrides": {
            "model": {
                "name": "lstm",
                "standardise": True,
                "lstm": (512, 256, 128),
                "dense": (2048, 1024),
                "input_dropout": 0.2,
                "lstm_dropout": 0.4,
                "dense_dropout": 0.5,
            },
            "augment": {"features": ({"name": "permute_steps"}, {"name": "mixup", "alpha": 1.0})},
            "task": {"positive_weight": 5.0},
            "optim": {"lr": 1e-3, "schedule": "cosine", "warmup": 0.05, "average_share": 0.1265},
            "epochs": 24.0,
        },
    },
    "gcnn": {
        "parameters": 1_290_782,
        "published": {},
        "overrides": {
            "model": {
                "name": "gcnn",
                "standardise": True,
                "kernel": 2,
                "gated": (128, 128),
                "filters": (256, 256),
                "pools": (2, 5),
                "recurrent": (128, 128),
                "cell": "lstm",
                "dropout": 0.2,
            },
            "batch_size": 32,
            "run": {"cpu_devices": 2, "steps_per_call": 1},
            "optim": {"lr": 2e-3, "schedule": "cosine", "warmup": 0.05, "average_share": 0.1265},
            "epochs": 5.0,
        },
    },
}


def get_config(row: str | None = None):
    config = common.base()
    config.data.name = "audioset"
    config.data.protocols.paper = dict(train="bal_train", valid="eval", test="eval")
    config.data.protocols.honest = dict(
        train="bal_train", valid="bal_train", test="eval", unit="group", valid_fraction=0.05
    )
    config.frontend = dict(name="dequantise", low=-2.0, high=2.0)
    config.task.loss = "sigmoid_cross_entropy"
    config.task.prior_bias = True
    config.optim.update(dict(clip_norm=5.0))
    config.batch_size = 128
    config.eval_batch_size = 1024
    config.select = "mAUC"
    config.run.steps_per_call = 8
    return common.choose("li_audioset", config, ROWS, row)
