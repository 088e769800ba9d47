"""RIT (Jamal, Karda and Sarde): instrument family on NSynth with 1D CNNs on the waveform.

python launch.py --config=configs/rit_nsynth.py --workdir=DIR --raw_dir=RELEASES
python launch.py --config=configs/rit_nsynth.py:optimised --workdir=DIR --raw_dir=RELEASES

`paper` trains on the released validation notes, which share their instruments with the test notes; `honest` trains on
the released training notes. The study, its results and what was chosen here: docs/studies/rit_nsynth.md.
"""

from configs import common

CONVOLUTIONS = {"name": "cnn1d", "kernel": 2, "kernel_init": "he_normal"}
OPTIMISED = CONVOLUTIONS | {
    "filters": (64, 32, 92),
    "negative_slope": 0.1,
    "pool": 2,
    "dropout": 0.3,
    "head": "flatten",
    "dense": (24,),
}
ROWS = {
    "simple": {
        "parameters": 9_098,
        "published": {"test": {"accuracy": 0.410400390625, "macro_f1": 0.33}},
        "overrides": {
            "model": CONVOLUTIONS
            | {
                "filters": (64, 64),
                "negative_slope": 0.0,
                "pool": 1,
                "dropout": 0.0,
                "head": "average",
                "dense": (),
            },
            "optim": {"lr": 1e-2, "weight_decay": 1e-4},
        },
    },
    "optimised": {
        "parameters": 8_838_158,
        "published": {"test": {"accuracy": 0.901611328125, "macro_f1": 0.89}},
        "overrides": {
            "model": OPTIMISED,
            "frontend": {"compression": 200.0},
            "augment": {
                "features": ({"name": "roll", "steps": 10, "stride": 1}, {"name": "flip_polarity", "probability": 0.5})
            },
        },
    },
    "optimised_log_mel": {
        "parameters": 8_838_158,
        "published": {},
        "overrides": {
            "model": OPTIMISED,
            "frontend": {
                "name": "flat_log_mel",
                "sample_rate_hz": 16_000,
                "n_fft": 1024,
                "hop_samples": 640,
                "mels": 80,
                "frames": 100,
                "range_db": 80.0,
            },
            "augment": {
                "features": ({"name": "roll", "steps": 3, "stride": 100}, {"name": "roll", "steps": 10, "stride": 1})
            },
        },
    },
}


def get_config(row: str | None = None):
    config = common.base()
    config.data.name = "nsynth"
    config.data.exclude_classes = ("synth_lead",)
    config.data.protocols.paper = dict(train="valid", valid="valid", test="test", unit="id", valid_fraction=0.33)
    config.data.protocols.honest = dict(train="train", valid="train", test="test", unit="group", valid_fraction=0.15)
    config.frontend.update(dict(name="waveform", samples=8_000, compression=0.0))
    config.task.loss = "softmax_cross_entropy"
    config.optim.update(dict(lr=3e-4, schedule="cosine", warmup=0.1, weight_decay=1e-2, clip_norm=1.0))
    config.batch_size = 16
    config.eval_batch_size = 64
    config.epochs = 10.0
    config.select = "accuracy"
    config.run.steps_per_call = 1  # On CPU, XLA runs convolutions in a loop ten times slower.
    return common.choose("rit_nsynth", config, ROWS, row)
