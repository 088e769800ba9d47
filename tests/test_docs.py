"""The pages in docs/ and README.md: what is generated is up to date, and links, files and flags exist."""

import importlib
import re

import pytest

from audiojax import ranges
from docs import configuration
from tests.conftest import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def test_the_page_of_keys_is_what_the_configs_say():
    made = (ROOT / "docs" / "configuration.md").read_text()
    assert made == configuration.page(), "run python -m docs.configuration"


def test_every_key_of_every_study_is_on_the_page_of_keys():
    text = configuration.page()
    base = importlib.import_module("configs.common").base().to_dict()
    assert not [key for key, _ in ranges.settings(base) if f"| `{key}` |" not in text]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_and_config_files_exist(page):
    text = page.read_text()
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    assert not [link for link in links if link and not (page.parent / link).exists()]
    assert not [file for file in re.findall(r"configs/[a-z0-9_]+\.py", text) if not (ROOT / file).exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_rows_and_keys_of_commands_exist(page):
    for command in re.findall(r"--config=configs/[^`|]*", page.read_text().replace("\\\n", " ")):
        study, row = re.match(r"--config=configs/(\w+)\.py(?::(\w+))?", command).groups()
        module = importlib.import_module(f"configs.{study}")
        rows = [row] if row else [name for given in re.findall(r"--rows=(\S+)", command) for name in given.split(",")]
        assert set(rows) <= {*module.ROWS, "ROW"}, command
        if "ROW" not in rows:
            known = {
                key for name in (rows or module.ROWS) for key, _ in ranges.settings(module.get_config(name).to_dict())
            }
            keys = re.findall(r"--config\.([\w.]+)=", command.partition("\n\n")[0])
            assert not [key for key in keys if key not in known], command
