"""Li, "Audio Tagging: LSTM and Gated CNN Model": AudioSet embeddings, balanced training segments to evaluation.

    python launch.py --config=configs/li_audioset.py:lstm --workdir=runs/li_lstm --raw_dir=RELEASES
"""

from configs import common

ROWS = {
    "fc1": {"published": {"test": {"mAUC": 0.927}}, "overrides": {"model": {"name": "mlp", "hidden": (), "input_dropout": 0.0, "dropout": 0.0}}},
    "fc2": {"published": {}, "overrides": {"model": {"name": "mlp", "hidden": (1024,), "input_dropout": 0.0, "dropout": 0.5}}},
    "lstm": {
        "published": {"test": {"mAUC": 0.945}},
        "overrides": {
            "model": {
                "name": "lstm",
                "lstm": (512, 256, 128),
                "dense": (2048, 1024),
                "input_dropout": 0.0,
                "lstm_dropout": 0.3,
                "dense_dropout": 0.5,
            }
        },
    },
}


def get_config(row: str | None = None):
    config = common.base()
    config.data.name = "audioset"
    config.data.protocols.paper = dict(train="bal_train", valid="eval", test="eval")
    config.data.protocols.honest = dict(train="bal_train", valid="bal_train", test="eval", unit="group", valid_fraction=0.1)
    config.frontend = dict(name="dequantise", low=-2.0, high=2.0)
    config.task.loss = "sigmoid_cross_entropy"
    config.optim.update(dict(lr=1e-3, average_decay=0.999))
    config.batch_size = 256
    config.eval_batch_size = 1024
    config.epochs = 5.0
    config.select = "mAUC"
    config.steps_per_call = 16
    return common.choose("li_audioset", config, ROWS, row)
