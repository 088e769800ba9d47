"""What a run shows: a progress bar on a terminal, else a line an evaluation; a table at the end."""

import contextlib
from collections.abc import Callable, Iterator

import jax
import rich.console
import rich.progress
import rich.table

console = rich.console.Console(stderr=True, highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """One line on stderr, from the first process alone."""
    if jax.process_index() == 0:
        console.print(text, markup=False)


display = rich.progress.Progress(
    rich.progress.TextColumn("{task.description}"),
    rich.progress.MofNCompleteColumn(),
    rich.progress.BarColumn(),
    rich.progress.TextColumn("{task.fields[note]}"),
    rich.progress.TimeRemainingColumn(),
    console=console,
    speed_estimate_period=3600,  # s; the runs of a table take minutes each
)


@contextlib.contextmanager
def bar(unit: str, total: int, done: int = 0) -> Iterator[Callable[[int, str], None]]:
    """A progress bar with the time left, below those that are shown already; silent where stderr is no terminal.

    Yields a function of (units done, what to write beside the bar).
    """
    task = display.add_task(unit, total=total, completed=done, note="")
    if console.is_terminal:
        display.start()
    try:
        yield lambda done, note: display.update(task, completed=done, note=note)
    finally:
        display.remove_task(task)
        if not display.tasks:
            display.stop()


def result_table(result: dict) -> rich.table.Table:
    """The test metrics of a result, with 95 % intervals where it has them, beside the published ones."""
    title = (
        f"{result['study']} {result['row']}, {result['protocol']} protocol, {result['examples']['test']} test examples"
    )
    columns = [rich.table.Column(name, overflow="fold") for name in ("metric", "published", "ours", "95 %")]
    table = rich.table.Table(*columns, title=title)  # A narrow terminal breaks numbers, but loses none.
    published, ci95 = result["published"].get("test", {}), result.get("ci95", {}).get("test", {})
    for metric, values in result["metrics"]["test"].items():
        ours = " ".join("–" if value is None else f"{value:.4f}" for value in values)
        between = " ".join("–" if low is None else f"{low:.3f}…{high:.3f}" for low, high in ci95.get(metric, ()))
        table.add_row(metric, f"{published[metric]:.4f}" if metric in published else "", ours, between)
    return table


def show(table: rich.table.Table) -> None:
    """Prints a table to standard output, from the first process alone."""
    if jax.process_index() == 0:
        rich.console.Console().print(table)
