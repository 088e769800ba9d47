"""Beyond Fagan's study: `cnn1d_gap` on windows that begin every second instead of every third.

python launch.py --config=configs/beyond_gtzan.py --workdir=DIR --raw_dir=RELEASES --splits=10

It has `honest` alone, since overlapping windows cannot be split between train and test.
Results: docs/studies/fagan_gtzan.md. What was tried: docs/notes/gtzan.md.
"""

from configs import common, fagan_gtzan

ROWS = {
    "cnn1d_gap_overlap": {
        "parameters": fagan_gtzan.ROWS["cnn1d_gap"]["parameters"],
        "published": {},
        "overrides": {
            "data": {"segment": {"seconds": 3.0, "hop_s": 1.0, "shortest_s": 3.0, "pad": "zeros"}},
            "optim": {"clip_norm": 0.0},
            "epochs": 36.0,  # of 28 windows a track: as many steps as 100 epochs of 10 windows
            "eval_every": 7.2,
        },
    },
}


def get_config(row: str | None = None):
    config = fagan_gtzan.get_config("cnn1d_gap").unlock()
    del config.data.protocols["paper"]
    return common.choose("beyond_gtzan", config, ROWS, row)
