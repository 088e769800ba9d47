"""NTU: general-purpose tagging of Freesound clips (FSDKaggle2018).

python launch.py --config=configs/ntu_freesound.py:cnn2d_mfcc --workdir=DIR --raw_dir=RELEASES

The challenge's own test clips are test under `paper` and `honest`; `within_train` cuts test from the training clips,
for a release without test audio. The score is MAP@3 of clips (map_at_3_group).

Unsaid by the study, chosen here: windows of 2 s every second, short clips repeated; frames of 2048, hop 512, 64 mel
bands, 40 coefficients; widths; learning rate; 15 % of the clips of each class for validation.
"""

from configs import common

ROWS = {
    "cnn2d_mfcc": {
        "parameters": 398_857,
        "published": {"test_public": {"map_at_3_group": 0.671}},
        "overrides": {
            "model": {
                "name": "cnn",
                "kernel_init": "he_normal",
                "stages": (
                    ("image",),
                    *(("conv", 32, 3, 1), ("pool", 2)),
                    *(("conv", 64, 3, 1), ("pool", 2)),
                    *(("conv", 128, 3, 1), ("pool", 2)),
                    *(("conv", 256, 3, 1), ("average",), ("dropout", 0.3)),
                ),
            },
        },
    },
}


def get_config(row: str | None = None):
    config = common.base()
    config.data.name = "fsdkaggle2018"
    config.data.segment.update(dict(seconds=2.0, hop_s=1.0, shortest_s=1.0, pad="repeat"))
    config.data.protocols.paper = dict(train="train", valid="train", test="test", unit="id", valid_fraction=0.15)
    config.data.protocols.honest = dict(train="train", valid="train", test="test", unit="group", valid_fraction=0.15)
    config.data.protocols.within_train = dict(
        train="train", valid="train", test="train", unit="group", valid_fraction=0.15, test_fraction=0.3
    )
    config.frontend = dict(
        name="mfcc",
        sample_rate_hz=44_100,
        n_fft=2048,
        hop_samples=512,
        centred=True,
        mels=64,
        coefficients=40,
        reference=1.0,
        top_db=80.0,
        normalise=True,
    )
    config.task.loss = "softmax_cross_entropy"
    config.optim.update(dict(lr=1e-3, schedule="cosine", weight_decay=1e-2))
    config.batch_size = 32
    config.eval_batch_size = 64
    config.epochs = 30.0
    config.select = "map_at_3_group"
    return common.choose("ntu_freesound", config, ROWS, row)
