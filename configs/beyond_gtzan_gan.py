"""Beyond the Wang study: a GAN of log-mel spectrograms, made audible by Griffin and Lim's algorithm.

python launch.py --config=configs/beyond_gtzan_gan.py --workdir=DIR --raw_dir=RELEASES

`gan_fcn_4s` is the study's GAN for as many steps; `judge` and `lstm_log_mel_gan` are its classifier and its LSTM.
Results: docs/studies/wang_gtzan.md. What was tried: docs/notes/gan.md.
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
