"""Puts a study's table into a Markdown file: python -m audiojax.report.readme STUDY WORKDIR FILE.

The table stands between the lines `<!-- STUDY -->` and `<!-- /STUDY -->`, and has the rows that have finished runs.
"""

import argparse
import importlib
import pathlib
import sys

from audiojax.durable import write_text
from audiojax.errors import AudiojaxError, RunError
from audiojax.report import table


def main() -> None:
    """Reads the command line and writes the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    studies = sorted(path.stem for path in pathlib.Path("configs").glob("[!_]*_*.py"))
    parser.add_argument("study", choices=studies)
    parser.add_argument("workdir", type=pathlib.Path, help="folder of the table's runs")
    parser.add_argument("file", type=pathlib.Path, help="such as README.md")
    arguments = parser.parse_args()
    study = importlib.import_module(f"configs.{arguments.study}")
    own = {row: study.get_config(row).to_dict() for row in study.ROWS}
    try:
        text = arguments.file.read_text(encoding="utf-8")
        write_text(arguments.file, with_table(text, arguments.study, study.ROWS, own, arguments.workdir))
    except (AudiojaxError, OSError) as error:
        sys.exit(f"audiojax: {error}")


def with_table(text: str, study: str, rows: dict, own: dict[str, dict], workdir: pathlib.Path) -> str:
    """A text with the study's table between its marks; rows, own: as for `page.write`.

    Raises:
      RunError: no marks, or no finished run.
    """
    begin, end = f"<!-- {study} -->\n", f"<!-- /{study} -->\n"
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise RunError(
            f"the file has no lines {begin.strip()} and {end.strip()}; put them where the table is to stand."
        )
    runs = table.read_runs(workdir, rows)
    if not runs:
        raise RunError(f"{workdir} holds no finished run of {study}.")
    entries = [entry for entry in table.summarise(rows, runs) if entry.outcomes]
    return before + begin + table.markdown(entries, table.footnote(entries, runs, own)) + end + after


if __name__ == "__main__":
    main()
