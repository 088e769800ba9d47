"""Fagan: CNNs and RCNNs for genre on GTZAN, in segments of 3 s.

python launch.py --config=configs/fagan_gtzan.py --workdir=DIR --raw_dir=RELEASES
python launch.py --config=configs/fagan_gtzan.py:cnn1d_gap --workdir=DIR --raw_dir=RELEASES

`paper` splits the segments of each track over train, valid and test, as the study does; `honest` keeps a track on one
side. The study, its results and what was chosen here: docs/studies/fagan_gtzan.md.
"""

from configs import common


def pooled(*filters: int, kernel: int = 3, pool: int = 2) -> tuple:
    """Convolutions, each followed by a pool."""
    return tuple(stage for each in filters for stage in (("conv", each, kernel, 1), ("pool", pool)))


def strided(*filters: int, stride: int = 2) -> tuple:
    """Convolutions, each followed by a strided convolution in place of the pool."""
    widths = zip(filters, (*filters[1:], filters[-1]))
    return tuple(stage for each, wider in widths for stage in (("conv", each, 3, 1), ("conv", wider, 3, stride)))


FC = (("dense", 512),)
FC_DROPOUT = (("dense", 512), ("dropout", 0.5))
GAP = (("conv", 512, 1, 1), ("average",))
ALEXNET_VGG_HEAD = 2 * (("dense", 4096), ("dropout", 0.5))
CNN1D, CNN2D, RCNN = (128, 128, 256, 256, 512), (16, 32, 64, 128, 256), (128, 128, 256)
SAMPLE_FRONT = (("conv", 32, 3, 3), ("dropout", 0.1))
SAMPLE = (32, 32, 64, 64, 128, 128, 256, 512)
SAMPLE_LSTM = (*SAMPLE_FRONT, *pooled(32, 64, 64, 128, 128, pool=3), ("recurrent", 128))

WAVEFORM = {
    "frontend": {"name": "identity", "divisor": 32768.0},
    "augment": {"features": ({"name": "mixup", "alpha": 1.0},)},
}
SHORT_FRAMES = {"frontend": {"n_fft": 512, "hop_samples": 256}}
TWO_CORES = {"run": {"cpu_devices": 2}}  # XLA runs a recurrent loop on one core of a device.


def row(parameters: int, published: tuple[float, ...], stages: tuple, overrides: dict | None = None) -> dict:
    """A row that trains a network. published: accuracy on train, valid and test."""
    return {
        "parameters": parameters,
        "published": {split: {"accuracy": value} for split, value in zip(("train", "valid", "test"), published)},
        "overrides": {"model": {"stages": stages}} | (overrides or {}),
    }


ROWS = {
    "alexnet": row(
        22_321_866,
        (0.985, 0.852, 0.834),
        (
            *(("conv", 96, 11, 4), ("pool", 2), ("conv", 256, 5, 1), ("pool", 2)),
            *(("conv", 384, 3, 1), ("conv", 384, 3, 1), ("conv", 256, 3, 1), ("pool", 2)),
            *ALEXNET_VGG_HEAD,
        ),
        {"optim": {"lr": 1e-3}},
    ),
    "vgg16": row(
        30_159_114,
        (0.821, 0.709, 0.709),
        (
            *(*2 * (("conv", 64, 3, 1),), ("pool", 2), *2 * (("conv", 128, 3, 1),), ("pool", 2)),
            *(*3 * (("conv", 256, 3, 1),), ("pool", 2)),
            *2 * (*3 * (("conv", 512, 3, 1),), ("pool", 2)),
            *ALEXNET_VGG_HEAD,
        ),
        {"optim": {"lr": 5e-4}},
    ),
    "cnn1d_fc": row(1_843_722, (0.975, 0.762, 0.765), (*pooled(*CNN1D), *FC)),
    "cnn1d_fc_dropout": row(1_843_722, (0.969, 0.831, 0.832), (*pooled(*CNN1D), *FC_DROPOUT)),
    "cnn1d_gap": row(1_057_290, (0.996, 0.923, 0.941), (*pooled(*CNN1D), *GAP)),
    "acn_cnn1d_fc": row(4_124_426, (0.990, 0.811, 0.839), (*strided(*CNN1D), *FC), {"optim": {"lr": 2e-3}}),
    "acn_cnn1d_gap": row(3_075_850, (0.998, 0.923, 0.910), (*strided(*CNN1D), *GAP)),
    "samplecnn_fc": row(
        1_385_002, (0.971, 0.724, 0.684), (*SAMPLE_FRONT, *pooled(*SAMPLE, pool=3), *FC_DROPOUT), WAVEFORM
    ),
    "samplecnn_gap": row(860_714, (0.999, 0.753, 0.766), (*SAMPLE_FRONT, *pooled(*SAMPLE, pool=3), *GAP), WAVEFORM),
    "samplecnn_gap_strided": row(
        2_632_746,
        (0.999, 0.685, 0.673),
        (*SAMPLE_FRONT, *pooled(*SAMPLE[:5], pool=3), *strided(*SAMPLE[5:], stride=3), *GAP),
        WAVEFORM,
    ),
    "samplecnn_gap_overlap": row(1_647_146, (), (*SAMPLE_FRONT, *pooled(*SAMPLE, kernel=7, pool=3), *GAP), WAVEFORM),
    "cnn2d": row(2_496_122, (0.910, 0.585, 0.594), (("image",), *pooled(*CNN2D), *FC_DROPOUT)),
    "acn_cnn2d": row(1_904_698, (0.999, 0.850, 0.850), (("image",), *strided(*CNN2D), *GAP)),
    "lstm": row(594_698, (0.779, 0.594, 0.615), (("recurrent", 128), ("recurrent", 128)), SHORT_FRAMES | TWO_CORES),
    "lstm_cnn1d": row(
        3_023_882, (0.959, 0.809, 0.771), (("recurrent", 128), *pooled(*CNN1D), *FC_DROPOUT), SHORT_FRAMES
    ),
    "rcnn1d_fc": row(4_923_402, (0.995, 0.832, 0.839), (*pooled(*RCNN), ("recurrent", 256), *FC_DROPOUT), SHORT_FRAMES),
    "acn_rcnn1d_fc": row(
        5_498_122, (0.947, 0.797, 0.808), (*strided(*RCNN), ("recurrent", 256), *FC_DROPOUT), SHORT_FRAMES
    ),
    "rcnn1d_gap": row(860_170, (0.995, 0.900, 0.904), (*pooled(*RCNN), ("recurrent", 256), *GAP), SHORT_FRAMES),
    "acn_rcnn1d_gap": row(1_303_818, (0.994, 0.871, 0.90), (*strided(*RCNN), ("recurrent", 256), *GAP), SHORT_FRAMES),
    "rcnn2d": row(
        5_535_610,
        (0.409, 0.391, 0.410),
        (("image",), *pooled(*CNN2D[:3]), ("sequence",), ("recurrent", 256), *FC_DROPOUT),
        SHORT_FRAMES,
    ),
    "waveform_lstm_cnn_fc": row(6_132_202, (0.507, 0.483, 0.471), (*SAMPLE_LSTM, *FC_DROPOUT), WAVEFORM),
    "waveform_lstm_cnn_gap": row(299_498, (0.601, 0.563, 0.571), (*SAMPLE_LSTM, *GAP), WAVEFORM),
}


def get_config(row: str | None = None):
    config = common.base()
    config.data.name = "gtzan"
    config.data.segment.update(dict(seconds=3.0, shortest_s=1.5))
    splits = dict(train="all", valid="all", test="all", valid_fraction=0.15, test_fraction=0.3)
    config.data.protocols.paper = dict(unit="segment", **splits)
    config.data.protocols.honest = dict(unit="group", **splits)
    config.frontend = dict(
        name="log_mel",
        sample_rate_hz=22_050,
        n_fft=1024,
        hop_samples=512,
        centred=True,
        mels=128,
        reference=1.0,
        top_db=80.0,
        normalise=True,
    )
    config.augment.features = (
        {"name": "spec_augment", "time_masks": 2, "time_width": 30, "frequency_masks": 2, "frequency_width": 30},
        {"name": "mixup", "alpha": 1.0},
    )
    config.model = dict(name="cnn", kernel_init="glorot_uniform", cell="lstm", stages=())
    config.task.loss = "softmax_cross_entropy"
    config.optim.update(dict(lr=5e-3, schedule="cosine", warmup=0.1, clip_norm=1.0, average_share=0.1))
    config.batch_size = 32
    config.eval_batch_size = 64
    config.epochs = 100.0
    config.eval_every = 10.0
    config.select = "loss"
    return common.choose("fagan_gtzan", config, ROWS, row)
