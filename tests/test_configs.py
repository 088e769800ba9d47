"""Durations of the rows: the studies' own, in epochs, so that they fit a part of a release as well as all of it."""

import importlib

import pytest

from audiojax.duration import unit_of
from tests.conftest import ROOT

STUDIES = {
    path.stem: importlib.import_module(f"configs.{path.stem}") for path in sorted(ROOT.glob("configs/[!_]*_*.py"))
}
OF_THE_STUDIES = {  # epochs that a study states: (study, beginning of the rows' names): epochs
    ("rit_nsynth", ""): 10,
    ("fagan_gtzan", ""): 100,
    ("wang_gtzan", "lstm_sgd"): 50,
    ("wang_gtzan", "lstm_adam"): 50,
    ("wang_gtzan", "gan_"): 500,
    ("wang_gtzan", "lstm_cnn_gan"): 100,
    ("wang_gtzan", "lstm_fcn_gan"): 100,
    ("ntu_freesound", "autoencoder"): 100,
    ("ntu_freesound", "self_training_3"): 200,
    ("ntu_freesound", "self_training_30"): 20,
}


@pytest.mark.parametrize(("study", "row"), [(study, row) for study, module in STUDIES.items() for row in module.ROWS])
def test_rows_last_epochs_with_evaluations_between(study, row):
    config = STUDIES[study].get_config(row)
    assert unit_of(config) == "epochs" and 2 * config.eval_every <= config.epochs
    stated = {start: epochs for (name, start), epochs in OF_THE_STUDIES.items() if name == study}
    if starts := [start for start in stated if row.startswith(start)]:
        assert config.epochs == stated[max(starts, key=len)]
