"""RIT."""

from configs import common

ROWS = {
    "simple": {
        "published": {"test": {"accuracy": 0.410400390625}},
        "overrides": {"model": {"filters": (64, 64), "negative_slope": 0.0, "pool": 1, "head": "average", "dense": (), "dropout": 0.0}},
    },
    "optimised": {
        "published": {"test": {"accuracy": 0.901611328125}},
        "overrides": {"model": {"filters": (64, 32, 92), "negative_slope": 0.3, "pool": 2, "head": "flatten", "dense": (24,), "dropout": 0.3}},
    },
}


def get_config(row: str | None = None):
    config = common.base()
    config.data.name = "nsynth"
    config.data.exclude_classes = ("synth_lead",)
    config.data.protocols.paper = dict(train="valid", valid="valid", test="test", unit="id", valid_fraction=0.33)
    config.data.protocols.honest = dict(train="train", valid="train", test="test", unit="group", valid_fraction=0.25)
    config.frontend = dict(name="waveform", samples=8000)
    config.model.update(dict(name="cnn1d", kernel=2))
    config.task.loss = "softmax_cross_entropy"
    config.optim.update(dict(lr=1e-3))
    config.batch_size = 32
    config.eval_batch_size = 64
    config.epochs = 10.0
    config.select = "accuracy"
    config.steps_per_call = 4
    return common.choose("rit_nsynth", config, ROWS, row)
