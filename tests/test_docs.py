"""The pages in docs/ and README.md: what is generated is up to date, and links, files and flags exist."""

import ast
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
    for command in re.findall(r"--config=configs/[^`|\n]*", page.read_text().replace("\\\n", " ")):
        study, row = re.match(r"--config=configs/([\w{},]+)(?:\.py)?(?::(\w+))?", command).groups()
        if study == "STUDY":
            continue
        module = importlib.import_module(f"configs.{study}")
        rows = [row] if row else [name for given in re.findall(r"--rows=(\S+)", command) for name in given.split(",")]
        assert set(rows) <= {*module.ROWS}, command
        configs = [module.get_config(name).to_dict() for name in rows or module.ROWS]
        known = {key for config in configs for key, _ in ranges.settings(config)}
        assert not [key for key in re.findall(r"--config\.([\w.]+)=", command) if key not in known], command


def test_tests_that_the_page_on_reliability_names_exist():
    named = re.findall(r"`([\w/]*(?:test_\w+\.py|/))`", (ROOT / "docs" / "reliability.md").read_text())
    assert named and not [name for name in named if not ((ROOT / "tests" / name).exists() or (ROOT / name).exists())]


@pytest.mark.parametrize("path", sorted(ROOT.glob("configs/[!_]*.py")), ids=lambda path: path.stem)
def test_config_docstrings_are_short_and_name_their_page(path):
    text = ast.get_docstring(ast.parse(path.read_text()))
    assert len(text.splitlines()) <= 12
    pages = re.findall(r"docs/\S+\.md", text)
    assert (pages or path.stem == "common") and all((ROOT / page).exists() for page in pages)
