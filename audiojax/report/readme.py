"""Puts a study's table into a Markdown file: python -m audiojax.report.readme STUDY WORKDIR FILE.

The table stands between the lines `<!-- STUDY -->` and `<!-- /STUDY -->`, and has the rows that have finished runs.
"""

import argparse
import pathlib

from audiojax import config_file, process
from audiojax.durable import write_text
from audiojax.errors import RunError
from audiojax.report import table


def main() -> None:
    """Reads the command line and writes the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", help="its name, such as li_audioset, or its config file")
    parser.add_argument("workdir", help="folder of the table's runs")
    parser.add_argument("file", help="such as README.md")
    arguments = parser.parse_args()
    process.run(lambda: put(arguments.study, arguments.workdir, arguments.file), lambda: None)


def put(study: str, workdir: str, file: str) -> None:
    """Writes a study's table into a file. Raises AudiojaxError or OSError where it cannot."""
    workdir, file = (pathlib.Path(config_file.expand_home(path)) for path in (workdir, file))
    module = config_file.load(config_file.find(study if study.endswith(".py") else f"configs/{study}.py"))
    own = {row: config_file.config_of(module, row).to_dict() for row in module.ROWS}
    text = file.read_text(encoding="utf-8")
    write_text(file, with_table(text, config_file.name_of(module), module.ROWS, own, workdir))


def with_table(text: str, study: str, rows: dict, own: dict[str, dict], workdir: pathlib.Path) -> str:
    """A text with the study's table between its marks; rows, own: as for `page.write`.

    Raises:
      RunError: no marks, no finished run, or one that is damaged.
    """
    begin, end = f"<!-- {study} -->\n", f"<!-- /{study} -->\n"
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise RunError(
            f"the file has no lines {begin.strip()} and {end.strip()}; put them where the table is to stand."
        )
    runs, damaged = table.read_runs(workdir, rows)
    if damaged:
        raise RunError(" ".join(damaged))
    if not runs:
        raise RunError(f"{workdir} holds no finished run of {study}.")
    entries = [entry for entry in table.summarise(rows, runs) if entry.outcomes]
    return before + begin + table.markdown(entries, table.footnote(entries, runs, own)) + end + after


if __name__ == "__main__":
    main()
