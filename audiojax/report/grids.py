"""What the runs of a grid came to: the best, the worst and the mean of its settings, and what validation chooses."""

from typing import NamedTuple

import numpy as np

from audiojax.metrics import LOWER_IS_BETTER
from audiojax.report.table import Measure, Run, number, protocol_order


class Grid(NamedTuple):
    """A row's grid under one protocol.

    settings: key -> its value in every combination. test: the measure on test, one value a combination. chosen: the
    combination that validation prefers. published: the study's value of the measure, None where it has none.
    """

    row: str
    protocol: str
    settings: dict[str, list[float]]
    test: np.ndarray
    chosen: int
    published: float | None


def summarise(runs: list[Run], measure: Measure) -> list[Grid]:
    """The grids among the finished runs, in their order."""
    grids = []
    for run in runs:
        result, select = run.result, run.config["select"]
        if not result.get("settings") or measure.metric not in result["metrics"].get(measure.split, ()):
            continue
        test = np.array(result["metrics"][measure.split][measure.metric], float)
        valid = np.array(result["metrics"]["valid"][select], float) * (-1 if select in LOWER_IS_BETTER else 1)
        published = result["published"].get(measure.split, {}).get(measure.metric)
        grids.append(Grid(run.row, run.protocol, result["settings"], test, int(valid.argmax()), published))
    return sorted(grids, key=lambda grid: protocol_order(grid.protocol))


def cells(grids: list[Grid]) -> tuple[list[str], list[list[str]]]:
    """The grids as a table: its header, and a line for each row and protocol."""
    header = ["row", "protocol", "settings", "published", "max", "mean", "min", "chosen on validation", "which are"]
    lines = []
    for grid in grids:
        values = [number(value, ".4f") for value in (grid.test.max(), grid.test.mean(), grid.test.min())]
        chosen = ", ".join(f"{key.split('.')[1]} {values[grid.chosen]:.3g}" for key, values in grid.settings.items())
        published = number(grid.published, ".4f")
        shown = number(grid.test[grid.chosen], ".4f")
        lines.append([grid.row, grid.protocol, str(len(grid.test)), published, *values, shown, chosen])
    return header, lines


def markdown(grids: list[Grid], measure: Measure) -> str:
    header, lines = cells(grids)
    line = lambda values: "| " + " | ".join(values) + " |"
    note = f"{measure} on test of every combination of a grid's settings, one seed; max: over test itself."
    return "\n".join([line(header), line(["---"] * len(header)), *map(line, lines), "", note]) + "\n"
