"""Figure 4 of Li's study: mAUC over the hyper-parameters of each network, its maximum, mean and minimum.

python launch.py --config=configs/li_fig4.py --workdir=DIR --raw_dir=RELEASES

Each row is a grid, whose settings train in one program; other widths are rows of their own. The study names no ranges;
these are ours. DIR/grid.md and DIR/report.html have the numbers and the figure. Results: docs/studies/li_audioset.md.
"""

from configs import common, li_audioset

WEIGHTS = ("task.positive_weight", (1.0, 5.0))
DENSE_GRID = (("optim.lr", (1e-4, 2e-4, 5e-4)), ("model.dropout", (0.3, 0.6)), WEIGHTS)
LSTM_GRID = (("optim.lr", (5e-4, 1e-3)), ("model.dense_dropout", (0.3, 0.5)), WEIGHTS)
GCNN_GRID = (("optim.lr", (1e-3, 2e-3)), ("model.dropout", (0.1, 0.3)))


def row(name: str, grid: tuple, parameters: int | None = None, model: dict | None = None, **overrides) -> dict:
    """A grid over a row of the study, with other values of its model and its config."""
    own = li_audioset.ROWS[name]
    return {
        "parameters": parameters or own["parameters"],
        "published": {} if model else own["published"],  # of the study's widths alone
        "overrides": own["overrides"] | {"grid": grid, "model": own["overrides"]["model"] | (model or {})} | overrides,
    }


ROWS = {
    "fc1": row("fc1", (("optim.lr", (3e-5, 1e-4, 3e-4)), ("model.input_dropout", (0.0, 0.3)), WEIGHTS)),
    "fc2": row("fc2", DENSE_GRID, eval_every=2.0),
    "fc2_512": row("fc2", DENSE_GRID, 926_223, {"hidden": (512,)}, eval_every=2.0),
    "lstm": row("lstm", LSTM_GRID, epochs=8.0),
    "lstm_half": row("lstm", LSTM_GRID, 2_092_303, {"lstm": (256, 128, 64), "dense": (1024, 512)}, epochs=8.0),
    "gcnn": row("gcnn", GCNN_GRID),
}


def get_config(row: str | None = None):
    return common.choose("li_fig4", li_audioset.get_config().unlock(), ROWS, row)
