"""NTU: general-purpose tagging of Freesound clips (FSDKaggle2018).

python launch.py --config=configs/ntu_freesound.py --workdir=DIR --raw_dir=RELEASES
python launch.py --config=configs/ntu_freesound.py:vgg_small --workdir=DIR --raw_dir=RELEASES

Rows build on each other: labels are spread over the autoencoder's latents, networks train on them, ensembles average
networks. `within_train` is for a release without test audio. On a CPU add --config.frontend.height=64
--config.frontend.width=64. The study, its results and what was chosen here: docs/studies/ntu_freesound.md.
"""

from configs import common

STRINGS = ("Acoustic_guitar", "Cello", "Double_bass", "Violin_or_fiddle")
MUSICAL = ("Chime", "Clarinet", "Flute", "Harmonica", "Oboe", "Saxophone", "Trumpet")
PERCUSSION = ("Bass_drum", "Cowbell", "Electric_piano", "Glockenspiel", "Gong", "Hi-hat", "Snare_drum", "Tambourine")
CREATURE = (
    *("Applause", "Bark", "Burping_or_eructation", "Cough", "Fart", "Finger_snapping", "Laughter", "Meow", "Squeak"),
    "Tearing",
)
NON_HUMAN = (
    *("Bus", "Computer_keyboard", "Drawer_open_or_close", "Fireworks", "Gunshot_or_gunfire", "Keys_jangling", "Knock"),
    *("Microwave_oven", "Scissors", "Shatter", "Telephone", "Writing"),
)
MUSIC = MUSICAL + STRINGS + PERCUSSION
GROUPS = {
    "spread_1": (("all", MUSIC + CREATURE + NON_HUMAN),),
    "spread_2": (("music", MUSIC), ("non-music", CREATURE + NON_HUMAN)),
    "spread_3": (("music", MUSIC), ("creature", CREATURE), ("non-human", NON_HUMAN)),
    "spread_5": (
        *(("musical", MUSICAL), ("strings", STRINGS), ("percussion", PERCUSSION)),
        *(("creature", CREATURE), ("non-human", NON_HUMAN)),
    ),
}
WINDOWS = {"segment": {"seconds": 2.0, "hop_s": 1.0, "shortest_s": 1.0, "pad": "repeat"}}
VERIFIED = {"subset_weights": {"unverified": 0.0}}
MFCC = {
    "name": "mfcc",
    "sample_rate_hz": 44_100,
    "n_fft": 2048,
    "hop_samples": 512,
    "centred": True,
    "mels": 64,
    "coefficients": 40,
    "reference": 1.0,
    "top_db": 80.0,
    "normalise": True,
}
CNN2D = (
    *(("conv", 32, 3, 1), ("pool", 2)),
    *(("conv", 64, 3, 1), ("pool", 2)),
    *(("conv", 128, 3, 1), ("pool", 2)),
    *(("conv", 256, 3, 1), ("average",), ("dropout", 0.3)),
)


def vgg(convolutions: int, units: int) -> dict:
    """Five blocks of convolutions and a pool, and a dense layer."""
    stages = [("conv", 32, 3, 2, "leaky_relu"), *[("conv", 32, 3, 1, "leaky_relu")] * (convolutions - 1), ("pool", 2)]
    for filters in (64, 128, 256, 256):
        stages += [*[("conv", filters, 3, 1, "leaky_relu")] * convolutions, ("pool", 2)]
    dense = (("dropout", 0.3), ("dense", units, "selu"), ("dropout", 0.3))
    return {"name": "cnn", "kernel_init": "he_normal", "stages": (*stages, *dense)}


def published(public: float | None) -> dict:
    """The published score of the public test clips, if the study has one."""
    return {"test_public": {"map_at_3_group": public}} if public else {}


def row(parameters: int, public: float | None, model: dict, data: dict | None = None, **overrides) -> dict:
    """A row that trains a network. public: published MAP@3 of the public test clips."""
    own = {"model": model, "data": data or {}, "run": {"first_layer": model is SMALL}} | overrides
    return {"parameters": parameters, "published": published(public), "overrides": own}


def spreading(groups: str, promote: tuple[str, ...] = ()) -> dict:
    """A row that spreads labels within groups of classes. promote: groups whose clips are promoted; (): all."""
    settings = {"kernel": "rbf", "gamma": 20.0, "alpha": 0.2, "max_iter": 100_000, "tol": 1e-3}
    recipe = {"name": "label_spreading", "encoder": "autoencoder", "labelled": "verified", "groups": GROUPS[groups]}
    recipe |= {"spreading": settings, "unit_latents": True, "promote": promote, "truth_file": ""}
    return {"parameters": 0, "published": {}, "overrides": {"recipe": recipe}}


def self_training(iterations: int) -> dict:
    """The recipe of self-training. The lower bound rises as in the study's text; its listing has (0.65, 0.35)."""
    bounds = {"lower": (0.35, 0.65), "upper": 0.95}
    return {"name": "self_training", "iterations": iterations, "warm_start": True, "agreeing": False} | bounds


def ensemble(public: float, mean: str, members: tuple[str, ...]) -> dict:
    """A row that averages other rows. public: published MAP@3 of the public test clips."""
    recipe = {"name": "ensemble", "members": members, "mean": mean}
    parameters = sum(ROWS[member]["parameters"] for member in members)
    return {"parameters": parameters, "published": published(public), "overrides": {"recipe": recipe}}


SMALL, LARGE = vgg(2, 1024), vgg(3, 4096)
IMAGE_CNN = {"name": "cnn", "kernel_init": "he_normal", "stages": (("conv", 32, 3, 2), ("pool", 2), *CNN2D[2:])}
RAW_CNN = {
    "name": "cnn",
    "kernel_init": "he_normal",
    "stages": (
        *(("conv", 16, 9, 1), ("conv", 16, 9, 1), ("pool", 16), ("dropout", 0.1)),
        *(("conv", 32, 3, 1), ("conv", 32, 3, 1), ("pool", 4), ("dropout", 0.1)),
        *(("conv", 64, 3, 1), ("conv", 64, 3, 1), ("pool", 4), ("dropout", 0.1)),
        *(("conv", 256, 3, 1), ("conv", 256, 3, 1), ("average",), ("dense", 64), ("dense", 1024), ("dropout", 0.3)),
    ),
}
WAVEFORM = {"name": "waveform", "samples": 32_000, "compression": 0.0}
# The study averages six networks above 0.8 and names none; the two large ones here are below.
SIX = ("vgg_large", "vgg_large_music", "vgg_small_music", "vgg_small_spread", "self_training_3", "self_training_30")
FOUR = ("vgg_small_spread", "vgg_small_music", "self_training_3", "self_training_30")
ROWS = {
    "raw_cnn1d": row(398_841, 0.669, RAW_CNN, WINDOWS | VERIFIED, frontend=WAVEFORM, select="map_at_3_group"),
    "cnn2d_mfcc": row(
        *(398_857, 0.671, IMAGE_CNN | {"stages": (("image",), *CNN2D)}, WINDOWS | VERIFIED),
        frontend=MFCC,
        select="map_at_3_group",
    ),
    "cnn2d": row(398_857, 0.675, IMAGE_CNN, VERIFIED),
    "cnn2d_all": row(398_857, 0.658, IMAGE_CNN),
    "cnn2d_longer_window": row(398_857, 0.688, IMAGE_CNN, VERIFIED, frontend={"n_fft": 2048}),
    "vgg_large": row(54_235_785, 0.775, LARGE, VERIFIED),
    "vgg_small": row(14_980_297, None, SMALL, VERIFIED),
    "autoencoder": {
        "parameters": 33_533_132,
        "published": {},
        "overrides": {
            "model": {
                "name": "autoencoder",
                "kernel_init": "he_normal",
                "filters": (8, 16, 32, 64, 64, 64),
                "latent": 4096,
            },
            "task": {"name": "autoencoder", "loss": "mean_squared_error"},
            "recipe": {"name": "autoencoder"},
            "optim": {"lr": 1e-5, "schedule": "constant", "weight_decay": 0.0},
            "batch_size": 16,
            "epochs": 100.0,
            "early_stopping": 15,
            "select": "loss",
        },
    },
    **{name: spreading(name) for name in GROUPS},
    "spread_2_music": spreading("spread_2", ("music",)),
    "vgg_large_music": row(54_235_785, 0.785, LARGE, {"label_file": "spread_2_music"}),
    "vgg_small_music": row(14_980_297, 0.835, SMALL, {"label_file": "spread_2_music"}),
    "vgg_small_spread": row(14_980_297, 0.879, SMALL, {"label_file": "spread_2"}),
    "self_training_3": row(
        *(14_980_297, None, SMALL, {"label_file": "spread_2"}), recipe=self_training(3), epochs=200.0, early_stopping=15
    ),
    "self_training_30": row(
        *(14_980_297, 0.868, SMALL, {"label_file": "spread_2"}),
        recipe=self_training(30),
        epochs=20.0,
        early_stopping=15,
    ),
}
ROWS |= {
    "ensemble_six": ensemble(0.897, "arithmetic", SIX),
    "ensemble_four": ensemble(0.903, "arithmetic", FOUR),
    "ensemble_geometric": ensemble(0.911, "geometric", SIX),
}


def get_config(row: str | None = None):
    config = common.base()
    config.data.name = "fsdkaggle2018"
    config.data.subset_weights = dict(unverified=1.0)
    released = dict(train="train", valid="train", test="test", valid_fraction=0.15, judged="verified")
    config.data.protocols.paper = dict(unit="id", spread_valid=True, **released)
    config.data.protocols.honest = dict(unit="group", **released)
    config.data.protocols.within_train = dict(unit="group", **released | dict(test="train"), test_fraction=0.3)
    config.frontend = dict(
        name="spectrogram_image",
        n_fft=1024,
        hop_samples=512,
        centred=True,
        height=513,
        width=439,
        range_db=80.0,
        divisor=-80.0,
    )
    config.task.loss = "softmax_cross_entropy"
    config.optim.update(dict(lr=1e-3, schedule="cosine", weight_decay=1e-2))
    config.batch_size = 32
    config.eval_batch_size = 32
    config.epochs = 30.0
    config.select = "map_at_3"
    return common.choose("ntu_freesound", config, ROWS, row)
