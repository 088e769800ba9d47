"""What the runs of a grid came to: the best, the worst and the mean of its settings, and what validation chooses."""

from typing import NamedTuple

import numpy as np

from audiojax import names
from audiojax.errors import RunError
from audiojax.report.table import Measure, Run, markdown_of, number, protocol_order, run_keys


class Grid(NamedTuple):
    """A row's grid under one protocol.

    settings: key -> its value in every combination. test: the measure on test, one value a combination. chosen: the
    combination that validation prefers. published: the study's value of the measure, None where it has none.
    """

    row: str
    protocol: str
    measure: Measure
    settings: dict[str, list[float]]
    test: np.ndarray
    chosen: int
    published: float | None


def summarise(runs: list[Run], measure: Measure) -> list[Grid]:
    """The grids among the finished runs, protocol after protocol; of several splits the means."""
    grids = []
    for row, protocol in sorted(run_keys(runs), key=lambda key: protocol_order(key[1])):
        own = [run for run in runs if (run.row, run.protocol) == (row, protocol)]
        results, select = [run.result for run in own], own[0].config["select"]
        settings = results[0].get("settings")
        if not settings or any(measure.metric not in r["metrics"].get(measure.split, ()) for r in results):
            continue
        if any(r.get("settings") != settings for r in results):
            raise RunError(f"the runs of {row}, {protocol} have different grids; delete the folders of one of them.")
        over_splits = lambda split, metric, results=results: np.mean(
            np.array([r["metrics"][split][metric] for r in results], float), 0
        )
        chosen = names.task(own[0].config["task"]["name"]).best(over_splits("valid", select), select)
        published = results[0]["published"].get(measure.split, {}).get(measure.metric)
        grids.append(Grid(row, protocol, measure, settings, over_splits(*measure), chosen, published))
    return grids


def cells(grids: list[Grid]) -> tuple[list[str], list[list[str]]]:
    """The grids as a table: its header, and a line for each row and protocol."""
    header = ["row", "protocol", "settings", "published", "max", "mean", "min", "chosen on validation", "which are"]
    lines = []
    for grid in grids:
        values = [number(value, ".4f") for value in (np.nanmax(grid.test), np.nanmean(grid.test), np.nanmin(grid.test))]
        chosen = ", ".join(f"{key.split('.')[1]} {values[grid.chosen]:.3g}" for key, values in grid.settings.items())
        published = number(grid.published, ".4f")
        shown = number(grid.test[grid.chosen], ".4f")
        lines.append([grid.row, grid.protocol, str(len(grid.test)), published, *values, shown, chosen])
    return header, lines


def markdown(grids: list[Grid]) -> str:
    """The grids as a table in Markdown."""
    note = f"{grids[0].measure} on test of every combination of a grid's settings, one seed; max: over test itself."
    return markdown_of(*cells(grids), note)
