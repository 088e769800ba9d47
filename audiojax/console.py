"""What a run shows: a progress bar on a terminal, else a line an evaluation; a table at the end."""

import jax
import rich.console
import rich.progress
import rich.table

console = rich.console.Console(stderr=True, highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """One line on stderr, from the first process alone."""
    if jax.process_index() == 0:
        console.print(text, markup=False)


class Progress:
    """Steps done, loss, speed and time left; silent where stderr is no terminal."""

    def __init__(self, total_steps: int, done: int):
        self._bar = rich.progress.Progress(
            rich.progress.TextColumn("step"),
            rich.progress.MofNCompleteColumn(),
            rich.progress.BarColumn(),
            rich.progress.TextColumn("loss {task.fields[loss]:.4f}"),
            rich.progress.TextColumn("{task.fields[speed]:,.0f} examples/s"),
            rich.progress.TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("train", total=total_steps, completed=done, loss=float("nan"), speed=0.0)

    def __enter__(self):
        self._bar.start()
        return self

    def __exit__(self, *_):
        self._bar.stop()

    def update(self, step: int, loss: float, examples_per_s: float) -> None:
        self._bar.update(self._task, completed=step, loss=loss, speed=examples_per_s)


def result_table(result: dict) -> rich.table.Table:
    """The test metrics of a result, with 95 % intervals where it has them, beside the published ones."""
    title = (
        f"{result['study']} {result['row']}, {result['protocol']} protocol, {result['examples']['test']} test examples"
    )
    table = rich.table.Table("metric", "published", "ours", "95 %", title=title)
    published, ci95 = result["published"].get("test", {}), result.get("ci95", {}).get("test", {})
    for metric, values in result["metrics"]["test"].items():
        ours = " ".join("–" if value is None else f"{value:.4f}" for value in values)
        between = " ".join(f"{low:.3f}…{high:.3f}" for low, high in ci95.get(metric, ()))
        table.add_row(metric, f"{published[metric]:.4f}" if metric in published else "", ours, between)
    return table


def show(table: rich.table.Table) -> None:
    """Prints a table to standard output, from the first process alone."""
    if jax.process_index() == 0:
        rich.console.Console().print(table)
