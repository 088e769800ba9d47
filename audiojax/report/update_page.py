"""Puts a study's table into a Markdown page: python -m audiojax.report.update_page STUDY WORKDIR PAGE.

The table replaces what is between the lines `<!-- STUDY -->` and `<!-- /STUDY -->`. It has the rows with finished runs.
"""

import argparse
import pathlib

from audiojax import config_file, process
from audiojax.durable import write_text
from audiojax.errors import RunError
from audiojax.report import scores, table


def main() -> None:
    """Reads the command line and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", help="name of the study, such as li_audioset, or its config file")
    parser.add_argument("workdir", help="folder of the table's runs")
    parser.add_argument("page", help="Markdown file, such as docs/studies/li_audioset.md")
    arguments = parser.parse_args()
    process.run(lambda: update(arguments.study, arguments.workdir, arguments.page), lambda: None)


def update(study: str, workdir: str, page: str) -> None:
    """Writes a study's table into a page."""
    workdir, page = (pathlib.Path(config_file.expand_home(path)) for path in (workdir, page))
    module = config_file.load(config_file.find(study if study.endswith(".py") else f"configs/{study}.py"))
    base = {row: config_file.config_of(module, row).to_dict() for row in module.ROWS}
    text = page.read_text(encoding="utf-8")
    write_text(page, with_table(text, config_file.name_of(module), module.ROWS, base, workdir))


def with_table(text: str, study: str, rows: dict, base: dict[str, dict], workdir: pathlib.Path) -> str:
    """The text with the study's table between its marks. rows, base: as for `page.write`.

    Raises:
      RunError: the text has no marks, there is no finished run, or one is damaged.
    """
    begin, end = f"<!-- {study} -->\n", f"<!-- /{study} -->\n"
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise RunError(f"the page has no lines {begin.strip()} and {end.strip()}; put them where the table belongs.")
    runs, damaged = scores.read_runs(workdir, rows)
    if damaged:
        raise RunError(" ".join(damaged))
    if not runs:
        raise RunError(f"{workdir} holds no finished run of {study}.")
    entries = [entry for entry in scores.summarise(rows, runs) if entry.outcomes]
    return before + begin + table.markdown(entries, table.footnote(entries, runs, base)) + end + after


if __name__ == "__main__":
    main()
