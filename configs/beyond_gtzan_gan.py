"""Beyond the Wang study: a GAN of log-mel spectrograms, made audible by Griffin and Lim's algorithm.

python launch.py --config=configs/beyond_gtzan_gan.py --workdir=DIR --raw_dir=RELEASES

`gan_log_mel`: 4 s of 64 mel bands as channels of 1D convolutions, hinge loss, a discriminator with spectral
normalisation and a projection of the label, batch normalisation and averaged weights in the generator. Six minutes of
two CPU cores on the stand-in, whose Fréchet distance of validation chooses the step. `gan_fcn_4s` is the Wang study's
for as many steps, `judge` and `lstm_log_mel_gan` are its classifier and its LSTM with these clips. README.md's numbers
are of the stand-in with --config.eval_every=10: a tenth of the release, on which an epoch has ten times as many steps.

Tried on the stand-in, 30 to 120 epochs, Fréchet distance of validation at the chosen step (48,200 before training):
both rates 2e-4, no momentum, falling as a cosine 2,100; 1e-4 and 4e-4, constant, momentum 0.5 1,800; without batch
normalisation 1,500; real spectrograms rolled in time 1,900; a discriminator that flattens instead of averaging 3,200,
still falling. Taken was the first, whose clips the judge recognised most (0.57; the others 0.33 to 0.45). In all but
the last the distance rises again after some 500 steps, the generator growing too loud.
"""

from configs import common, wang_gtzan

MODEL = {
    **{"name": "cgan", "kernel_init": "glorot_uniform", "latent": 64, "label": "embedding", "embedding": 32},
    "generator_stages": (("steps", 256), ("conv", 256, 3, 2), ("conv", 256, 3, 2), ("conv", 128, 3, 2), ("conv", 5, 1)),
    "discriminator_stages": (("conv", 128, 5, 2), ("conv", 256, 5, 2), ("conv", 256, 5, 2), ("average",)),
    **{"sigmoid": False, "normalise": True, "spectral": True, "projection": True},
}
STUDY = wang_gtzan.ROWS["gan_fcn_4s"]
BUDGET = {"epochs": 40.0, "eval_every": 2.0}
ROWS = {
    "judge": wang_gtzan.ROWS["judge"],
    "gan_fcn_4s": STUDY | {"overrides": STUDY["overrides"] | BUDGET},
    "gan_log_mel": {
        "parameters": 2_119_105,
        "published": {},
        "overrides": {
            **STUDY["overrides"],
            **BUDGET,
            "model": MODEL,
            "frontend": wang_gtzan.LOG_MEL,
            "task": STUDY["overrides"]["task"] | {"loss": "hinge", "discriminator": {"lr": 2e-4}},
            "optim": {"lr": 2e-4, "b1": 0.0, "schedule": "cosine", "average_share": 0.05},
        },
    },
    "lstm_log_mel_gan": wang_gtzan.augmented("gan_log_mel"),
}


def get_config(row: str | None = None):
    return common.choose("beyond_gtzan_gan", wang_gtzan.get_config().unlock(), ROWS, row)
