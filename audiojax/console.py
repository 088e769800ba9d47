"""Output of a run: progress bars on a terminal, messages on stderr, the result's table."""

import contextlib
from collections.abc import Callable, Iterator

import jax
import rich.console
import rich.progress
import rich.table

console = rich.console.Console(stderr=True, highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """Prints a line on stderr, in the first process only."""
    if jax.process_index() == 0:
        console.print(text, markup=False)


display = rich.progress.Progress(
    rich.progress.TextColumn("{task.description}"),
    rich.progress.MofNCompleteColumn(),
    rich.progress.BarColumn(),
    rich.progress.TextColumn("{task.fields[note]}"),
    rich.progress.TimeRemainingColumn(),
    console=console,
    speed_estimate_period=3600,  # seconds; a run of a table takes minutes
)


@contextlib.contextmanager
def bar(unit: str, total: int, done: int = 0) -> Iterator[Callable[[int, str], None]]:
    """Shows a progress bar below those already shown, if stderr is a terminal.

    Yields:
      a function of the units done and a note beside the bar.
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
    """A table of a result's test metrics and 95 % intervals beside the published metrics."""
    title = (
        f"{result['study']} {result['row']}, {result['protocol']} protocol, {result['examples']['test']} test examples"
    )
    columns = [rich.table.Column(name, overflow="fold") for name in ("metric", "published", "ours", "95 %")]
    table = rich.table.Table(*columns, title=title)  # Folding keeps all digits on a narrow terminal.
    published, ci95 = result["published"].get("test", {}), result.get("ci95", {}).get("test", {})
    for metric, values in result["metrics"]["test"].items():
        ours = " ".join("–" if value is None else f"{value:.4f}" for value in values)
        interval = " ".join("–" if low is None else f"{low:.3f}…{high:.3f}" for low, high in ci95.get(metric, ()))
        table.add_row(metric, f"{published[metric]:.4f}" if metric in published else "", ours, interval)
    return table


def show(table: rich.table.Table) -> None:
    """Prints a table on stdout, in the first process only."""
    if jax.process_index() == 0:
        rich.console.Console().print(table)
