"""Writes docs/configuration.md from the comments in configs/common.py: python -m docs.configuration."""

import ast
import importlib
import io
import pathlib
import tokenize

from audiojax import ranges

ROOT = pathlib.Path(__file__).parent.parent
HEAD = """# Configuration

All keys of a config. Set one with `--config.KEY=VALUE`, such as `--config.optim.lr=1e-3`; a value outside of its range
stops the program before anything starts. `python -m docs.configuration` makes this page from the comments in
`configs/common.py`, the ranges in `audiojax/ranges.py` and the studies' rows.

Keys of the section `run` say how a run is computed. All others belong to a run: a folder goes on only with the same
values.
"""
SPECIFIC = """
## Keys of some rows

Arguments of front ends, fields of models and settings of recipes, tasks and protocols, which exist where the section's
`name` takes them. The docstrings of these functions and classes explain them. `*` stands for a name.
"""


def page() -> str:
    """The text of docs/configuration.md."""
    source = (ROOT / "configs" / "common.py").read_text()
    function = next(node for node in ast.parse(source).body if getattr(node, "name", "") == "base")
    keys = list(documented(function.body[-1].value.args[0], comments(source)))
    sections = dict.fromkeys(["", *(key.split(".")[0] for key, _, _ in keys if "." in key)])
    text = HEAD
    for section in sections:
        text += f"\n## `{section}`\n" if section else "\n## Run and duration\n"
        text += "\n| key | default | values | |\n| --- | --- | --- | --- |\n"
        for key, default, comment in keys:
            if key.split(".")[0] == section or (not section and key not in sections and "." not in key):
                allowed = ranges.RANGES.get(key)
                text += row(f"`{key}`", default, allowed.words if allowed else "", comment)
    text += SPECIFIC + "\n| key | values | set by |\n| --- | --- | --- |\n"
    studies, shown = set_by(), {key for key, _, _ in keys}
    for key, allowed in ranges.RANGES.items():
        if key not in shown and not key.startswith(("published.", "augment.")):
            users = [name for name, found in studies.items() if any(ranges.matches(each, key) for each in found)]
            if users:
                text += row(
                    f"`{key}`", allowed.words, "every study" if len(users) == len(studies) else ", ".join(users)
                )
    return text


def documented(call: ast.Call, notes: dict[int, str], prefix: str = ""):
    """Yields key, default and comment of everything in nested calls of dict; a section has no default."""
    for keyword in call.keywords:
        key, value = prefix + keyword.arg, keyword.value
        comment = notes.get(keyword.lineno) or notes.get(-(keyword.lineno - 1), "")
        if isinstance(value, ast.Call) and value.keywords:
            nested = list(documented(value, notes, f"{key}."))
            if value.lineno == value.end_lineno:  # The comment of a section in one line belongs to its key.
                yield from nested
            else:
                yield from [(key, "", comment), *nested]
        else:
            yield key, f"`{ast.unparse(value)}`", comment


def comments(source: str) -> dict[int, str]:
    """Comments by line; a comment that is a line of its own has the negative number."""
    found = {}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            alone = not token.line[: token.start[1]].strip()
            found[-token.start[0] if alone else token.start[0]] = token.string.lstrip("# ")
    return found


def set_by() -> dict[str, set[str]]:
    """Name of each study -> all keys of its rows."""
    found = {}
    for path in sorted((ROOT / "configs").glob("[!_]*_*.py")):
        study = importlib.import_module(f"configs.{path.stem}")
        found[path.stem] = {key for name in study.ROWS for key, _ in ranges.settings(study.get_config(name).to_dict())}
    return found


def row(*cells: str) -> str:
    """A line of a table in Markdown."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


if __name__ == "__main__":
    (ROOT / "docs" / "configuration.md").write_text(page())
