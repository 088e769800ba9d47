"""One row of a study: prepare, split, train, choose on validation, read test once, record."""

import pathlib

import numpy as np

from audiojax import experiment
from audiojax.writer import Writer


def run(config, workdir: pathlib.Path, raw_dir: pathlib.Path | None, data_dir: pathlib.Path) -> dict:
    """Trains and evaluates one config in `workdir`; returns what result.json holds. See `experiment.run`.

    Config: with run.first_layer, `leave_first_layer` adds a file for the report.
    """
    leave = leave_first_layer if config.run.first_layer else None
    return experiment.run(config, workdir, raw_dir, data_dir, leave=leave)


def leave_first_layer(fitted: experiment.Fitted, writer: Writer) -> None:
    """Saves the first convolution's activations for one test clip.

    plots/first_layer.npz: id, response [H, W, filters], of the first replica.
    """
    response_of = lambda params, model_state, batch: {"response": fitted.task.first_layer(params, model_state, batch)}
    response = fitted.trainer.evaluator.outputs("test", response_of, fitted.best, np.arange(1))["response"][0, 0]
    clip = fitted.data.parts["test"].id[0]
    writer.arrays("plots/first_layer", id=clip, response=response.astype(np.float16))
