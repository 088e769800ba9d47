"""Scores over the settings of a grid: best, mean, worst, and the setting that validation chooses."""

from typing import NamedTuple

import numpy as np

from audiojax import names
from audiojax.errors import RunError
from audiojax.report.scores import Measure, Run, has_metric
from audiojax.report.table import markdown_table, number


class Grid(NamedTuple):
    """The grid of a row under one protocol.

    settings: key -> its value in every combination. test: the measure on test of every combination.
    chosen: index of the combination that validation chooses. published: None without a published value.
    """

    row: str
    protocol: str
    measure: Measure
    settings: dict[str, list[float]]
    test: np.ndarray
    chosen: int
    published: float | None


def summarise(runs: list[Run], measure: Measure) -> Grid | None:
    """The grid of the runs of one row and protocol, its scores averaged over splits; None if they are no grid.

    Raises:
      RunError: the runs have different grids.
    """
    results, row, protocol, config = [run.result for run in runs], *runs[0][1:3], runs[0].config
    settings = results[0].get("settings")
    if not settings or not all(has_metric(result, measure) for result in results):
        return None
    if any(result.get("settings") != settings for result in results):
        raise RunError(f"the runs of {row}, {protocol} have different grids; delete the folders of one of them.")
    best = names.task(config["task"]["name"]).best
    chosen = best(over_splits(results, "valid", config["select"]), config["select"])
    published = results[0]["published"].get(measure.split, {}).get(measure.metric)
    return Grid(row, protocol, measure, settings, over_splits(results, *measure), chosen, published)


def over_splits(results: list[dict], split: str, metric: str) -> np.ndarray:
    """Mean of a metric over results, one value for each combination of settings."""
    return np.mean(np.array([result["metrics"][split][metric] for result in results], float), 0)


def cells(grids: list[Grid]) -> tuple[list[str], list[list[str]]]:
    """The header of the table of grids, and a line for each row and protocol."""
    header = ["row", "protocol", "settings", "published", "max", "mean", "min", "chosen on validation", "its settings"]
    lines = []
    for grid in grids:
        values = grid.published, np.nanmax(grid.test), np.nanmean(grid.test), np.nanmin(grid.test)
        shown = [number(value, ".4f") for value in (*values, grid.test[grid.chosen])]
        chosen = ", ".join(f"{key.split('.')[1]} {values[grid.chosen]:.3g}" for key, values in grid.settings.items())
        lines.append([grid.row, grid.protocol, str(len(grid.test)), *shown, chosen])
    return header, lines


def markdown(grids: list[Grid]) -> str:
    """The table of grids in Markdown."""
    note = f"{grids[0].measure} on test of every combination of a grid's settings, one seed; max is over test itself."
    return markdown_table(*cells(grids), note)
