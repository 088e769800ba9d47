"""Wang: LSTMs for genre on GTZAN, and conditional GANs whose clips join their training.

python launch.py --config=configs/wang_gtzan.py --workdir=DIR --raw_dir=RELEASES
python launch.py --config=configs/wang_gtzan.py:lstm_adam_4s --workdir=DIR --raw_dir=RELEASES

`judge` judges the GANs' clips, which join the training of `lstm_*_gan`. `paper` splits tracks, or slices of tracks, at
random; `honest` keeps a track on one side. The study, its results and what was chosen here: docs/studies/wang_gtzan.md.
"""

from configs import common

BUT_BLUES = ("classical", "country", "disco", "hiphop", "jazz", "metal", "pop", "reggae", "rock")
LEVELS = {
    **{"name": "log_mel", "sample_rate_hz": 22_050, "n_fft": 1024, "hop_samples": 512, "centred": True, "mels": 32},
    **{"reference": "max", "top_db": 80.0},
}
MFCC = {
    **{"name": "mfcc", "sample_rate_hz": 22_050, "n_fft": 2048, "hop_samples": 512, "centred": True, "mels": 64},
    **{"coefficients": 20, "reference": 1.0, "top_db": 80.0, "normalise": False},
}
DECIBELS = {
    **{"name": "log_spectrogram", "n_fft": 2048, "hop_samples": 512, "centred": True, "reference": 1.0, "top_db": 80.0},
    "normalise": False,
}
LSTM = {
    **{"name": "cnn", "kernel_init": "glorot_uniform", "cell": "lstm"},
    "stages": (("standardise",), ("recurrent", 128), ("recurrent", 128), ("last",)),
}


def slices(seconds: float) -> dict:
    """Clips in slices; a shorter last slice is left out."""
    return {"segment": {"seconds": seconds, "hop_s": 0.0, "shortest_s": seconds, "pad": "zeros"}}


def published(loss: float, accuracy: float, valid: float) -> dict:
    """Published loss and accuracy of train, and accuracy of valid."""
    return {"train": {"loss": loss, "accuracy": accuracy}, "valid": {"accuracy": valid}}


def lstm(scores: tuple[float, ...], parameters: int = 209_162, seconds: float = 0.0, **overrides) -> dict:
    """A row that trains an LSTM. scores: arguments of `published`. seconds: length of a slice; 0: whole tracks."""
    own = {
        **{"frontend": MFCC, "model": LSTM, "data": slices(seconds) if seconds else {}, "epochs": 50.0},
        "run": {"cpu_devices": 2},  # XLA runs a recurrent loop on one core of a device.
    }
    scores = published(*scores) if scores else {}
    return {"parameters": parameters, "published": scores, "overrides": own | overrides}


def gan(parameters: int, stages: tuple, seconds: float = 30.0, latent: int = 100, **overrides) -> dict:
    """A row that trains a GAN on waveforms. stages: those of the generator and of the discriminator."""
    model = {
        **{"name": "cgan", "kernel_init": "glorot_uniform", "latent": latent, "label": "one_hot", "embedding": 0},
        **{"generator_stages": stages[0], "discriminator_stages": stages[1], "sigmoid": False},
        **{"normalise": False, "spectral": False, "projection": False},
    }
    task = {
        **{"name": "gan", "loss": "binary_cross_entropy", "discriminator": {}},
        **{"embedding": LEVELS, "piece_frames": 43},  # about a second
    }
    own = {
        **{
            "model": model | overrides.pop("model", {}),
            "task": task,
            "recipe": {"name": "gan", "judge": "judge", "clips": 100},
        },
        **{"data": slices(seconds), "frontend": {"name": "identity", "divisor": 32768.0}},
        **{"optim": {"lr": 2e-4}, "batch_size": 16, "eval_batch_size": 16},
        **{"epochs": 500.0, "eval_every": 50.0, "select": "frechet"},
    }
    return {"parameters": parameters, "published": {}, "overrides": own | overrides}


def augmented(generator: str, *scores: float) -> dict:
    """A row that trains an LSTM on real clips and as many of a GAN's. generator: row of the GAN."""
    recipe = {"name": "augmentation", "generator": generator}
    return lstm(scores, seconds=4.0, epochs=100.0, eval_every=10.0, recipe=recipe)


def fcn(*hidden: int) -> tuple:
    """Hidden dense layers of a generator, and those of its discriminator in reverse order."""
    dense = tuple(("dense", units) for units in hidden)
    return dense, dense[::-1]


CNN = (
    (
        *(("steps", 128), ("conv", 64, 3, 4), ("conv", 32, 3, 4), ("conv", 16, 3, 4)),
        *(("conv", 8, 3, 4), ("conv", 3, 4)),
    ),
    (("conv", 8, 12, 4), ("conv", 16, 12, 4), ("conv", 32, 12, 4), ("conv", 64, 12, 4), ("conv", 128, 12, 4)),
)
JUDGE = {
    **{"name": "cnn", "kernel_init": "glorot_uniform", "cell": ""},
    "stages": (
        *(("conv", 64, 3, 1), ("pool", 2), ("conv", 128, 3, 1), ("pool", 2)),
        *(("conv", 256, 3, 1), ("average",), ("dropout", 0.3)),
    ),
}
LOG_MEL = {
    **{"name": "log_mel", "sample_rate_hz": 22_050, "n_fft": 1024, "hop_samples": 512, "centred": True, "mels": 64},
    **{"reference": 1.0, "top_db": 80.0, "normalise": False, "divisor": 40.0},
}
ROWS = {
    "lstm_sgd": lstm((2.0408, 0.380, 0.359), optim={"name": "sgd", "lr": 0.1}),
    "lstm_adam": lstm((2.0317, 0.3733, 0.3199)),
    "lstm_adam_db": lstm((), 723_722, frontend=DECIBELS),
    "lstm_adam_10s": lstm((0.8796, 0.881, 0.509), seconds=10.0),
    "lstm_adam_4s": lstm((0.8265, 0.915, 0.753), seconds=4.0),
    "judge": {
        "parameters": 138_634,
        "published": {},
        "overrides": {
            "model": JUDGE,
            "frontend": LOG_MEL,
            "data": slices(4.0),
            "epochs": 30.0,
            "eval_every": 3.0,
            "optim": {"lr": 3e-3, "schedule": "cosine", "clip_norm": 1.0},
        },
    },
    "gan_cnn": gan(9_522_818, CNN),
    "gan_fcn": gan(85_341_981, fcn(32, 64)),
    "gan_fcn_4s": gan(45_329_673, fcn(128, 256), 4.0),
    "gan_fcn_4s_z10": gan(45_318_153, fcn(128, 256), 4.0, latent=10),
    "gan_fcn_4s_z1000": gan(45_444_873, fcn(128, 256), 4.0, latent=1000),
    "gan_fcn_4s_sigmoid": gan(45_329_673, fcn(128, 256), 4.0, model={"sigmoid": True}),
    "gan_blues": gan(45_326_217, fcn(128, 256), 4.0, data=slices(4.0) | {"exclude_classes": BUT_BLUES}),
    "lstm_cnn_gan": augmented("gan_cnn", 1.381, 0.572, 0.471),
    "lstm_fcn_gan": augmented("gan_fcn", 0.8621, 0.837, 0.480),
    "lstm_fcn_gan_4s": augmented("gan_fcn_4s", 1.2787, 0.550, 0.454),
}


def get_config(row: str | None = None):
    config = common.base()
    config.data.name = "gtzan"
    shared = dict(train="all", valid="all", test="all", valid_fraction=0.25, test_fraction=0.2)
    config.data.protocols.paper = dict(unit="segment", **shared)
    config.data.protocols.honest = dict(unit="group", **shared)
    config.frontend = dict(name="identity", divisor=32768.0)
    config.task.loss = "softmax_cross_entropy"
    config.optim.lr = 1e-3
    config.batch_size = 32
    config.eval_batch_size = 64
    config.epochs = 50.0
    config.eval_every = 5.0
    config.select = "accuracy"
    return common.choose("wang_gtzan", config, ROWS, row)
