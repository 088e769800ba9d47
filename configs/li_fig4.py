"""Figure 4 of Li's study: mean AUC over the hyper-parameters of each model, its maximum, mean and minimum.

python launch.py --config=configs/li_fig4.py --workdir=DIR --raw_dir=RELEASES

Each row is a grid, all of its settings trained in one program: rates, dropout and the weight of a label's presence in
the loss; widths are rows of their own. `paper` chooses epochs on the evaluation clips and takes the maximum over them,
as the study did; `honest` chooses epochs and settings on validation clips. The study names no ranges: these are ours.
DIR/grid.md and DIR/report.html have the numbers and the figure. Two CPU cores: 2 to 9 minutes for a dense row and
protocol, 10 for lstm_half, about half an hour for lstm, five hours for gcnn; these two have not been run to their end.
mAUC of test over the 12 settings (8 of an LSTM), maximum, mean, minimum, and in `honest` what validation chose:

              paper                    honest
    fc1       0.9368, 0.9342, 0.9308   0.9363, 0.9338, 0.9306; 0.9363 (lr 3e-4, no dropout, weight 5)
    fc2       0.9395, 0.9372, 0.9357   0.9386, 0.9363, 0.9349; 0.9386 (lr 2e-4, dropout 0.6, weight 1)
    fc2_512   0.9382, 0.9346, 0.9280   0.9374, 0.9337, 0.9267; 0.9361 (lr 2e-4, dropout 0.3, weight 1)
    lstm_half 0.9325, 0.9248, 0.9166   0.9319, 0.9237, 0.9149; 0.9319 (lr 1e-3, dropout 0.3, weight 5)

The settings of lstm_half all gain until the last of their eight epochs; a row of li_audioset has 24.
"""

from configs import common, li_audioset

WEIGHTS = ("task.positive_weight", (1.0, 5.0))
DENSE_GRID = (("optim.lr", (1e-4, 2e-4, 5e-4)), ("model.dropout", (0.3, 0.6)), WEIGHTS)
LSTM_GRID = (("optim.lr", (5e-4, 1e-3)), ("model.dense_dropout", (0.3, 0.5)), WEIGHTS)
GCNN_GRID = (("optim.lr", (1e-3, 2e-3)), ("model.dropout", (0.1, 0.3)))


def row(name: str, grid: tuple, parameters: int | None = None, model: dict | None = None, **overrides) -> dict:
    """A row of the study as a grid, with some of its model's values."""
    own = li_audioset.ROWS[name]
    return {
        "parameters": parameters or own["parameters"],
        "published": {} if model else own["published"],  # of the study's own widths alone
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
