"""The config file that is given is the one that is used; what is wrong with it is one sentence."""

import os

import pytest

from audiojax import config_file
from audiojax.errors import ConfigError
from tests.conftest import ROOT, launch_here

OWN = """
from configs import common

ROWS = {"tiny": {"published": {"test": {"accuracy": 0.5}}, "overrides": {"epochs": 3.0, "data": {"split_file": "~/a"}}}}


def get_config(row=None):
    config = common.base()
    config.data.protocols = {"paper": {}, "honest": {}}
    return common.choose("rit_nsynth", config, ROWS, row)
"""


def write(folder, text=OWN, name="rit_nsynth.py"):
    path = folder / name
    path.write_text(text)
    return path


def test_a_file_elsewhere_is_used_whatever_its_name(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    for name in ("rit_nsynth.py", "my_copy.py", "json.py", "no_suffix"):
        study = config_file.load(config_file.find(str(write(tmp_path, name=name))))
        config = config_file.config_of(study, "tiny")
        assert list(study.ROWS) == ["tiny"] and config.study == config_file.name_of(study) == name.removesuffix(".py")
        assert (config.epochs, config.data.split_file, config.is_locked) == (3.0, "/home/me/a", True)
        assert config_file.shown(study) == str(tmp_path / name)


def test_a_name_is_looked_for_here_and_then_in_the_repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert config_file.find("configs/rit_nsynth.py") == ROOT / "configs" / "rit_nsynth.py"
    assert config_file.shown(config_file.load(ROOT / "configs" / "rit_nsynth.py")) == "configs/rit_nsynth.py"
    (tmp_path / "configs").mkdir()
    write(tmp_path / "configs")
    assert config_file.find("configs/rit_nsynth.py").absolute() == tmp_path / "configs" / "rit_nsynth.py"
    with pytest.raises(
        ConfigError, match="--config=configs/a.py: there is no such file; studies: configs/beyond_audio"
    ):
        config_file.find("configs/a.py")


BROKEN = {
    "def get_config(row=None:\n": "my.py, line 1: SyntaxError: ",
    "\nimport no_such_module\n": "my.py, line 2: ModuleNotFoundError: No module named 'no_such_module'; mend",
    "x = 1\n\ny = x / 0\n": "my.py, line 3: ZeroDivisionError: division by zero; mend",
    "import sys\nsys.exit(3)\n": "my.py, line 2: SystemExit: 3; mend",
    "x = '\0'\n": "my.py",
    "def get_config(row=None): ...\n": "my.py has no ROWS, a dictionary of rows",
    "ROWS = []\ndef get_config(row=None): ...\n": "my.py has no ROWS, a dictionary of rows",
    "ROWS = {}\n": "my.py has no function get_config",
    "ROWS = {}\nget_config = 5\n": "my.py has no function get_config",
    "ROWS = {}\ndef get_config(): ...\n": "my.py, line 2: get_config must be callable with a row and without one",
    "ROWS = {}\ndef get_config(row): ...\n": "my.py, line 2: get_config must be callable with a row and without one",
    "ROWS = {'a': 5}\ndef get_config(row=None): ...\n": "the row 'a' must have the dictionaries",
    "ROWS = {'a': {'published': {}}}\ndef get_config(row=None): ...\n": "the row 'a' must have the dictionaries",
    **{
        f"ROWS = {{{row!r}: dict(published={{}}, overrides={{}})}}\ndef get_config(row=None): ...\n": "cannot name a"
        for row in ("../up", "/root", "a\\b", "", "..", "a\nb", "caf\udce9", 5)
    },
}


@pytest.mark.parametrize("text", BROKEN)
def test_a_file_that_cannot_be_loaded_is_one_sentence(tmp_path, text):
    path = tmp_path / "my.py"
    path.write_bytes(text.encode(errors="surrogateescape") if "\0" in text else ascii_escaped(text))
    with pytest.raises(ConfigError) as caught:
        config_file.load(path)
    assert BROKEN[text] in str(caught.value) and "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path))


def ascii_escaped(text):
    """Source whose strings have escapes, as `repr` writes them, for what UTF-8 lacks."""
    return text.encode("utf-8", "backslashreplace")


MAKE = {
    "return 5": "must return a ConfigDict",
    "return ConfigDict(dict(row=''))": "the config has no key 'study'",
    "return {}['x']": "my.py, line 4: KeyError: 'x'; mend the config file.",
    "raise SystemExit('audiojax: my has no row')": "my has no row",
}


@pytest.mark.parametrize("body", MAKE)
def test_a_config_that_cannot_be_made_is_one_sentence(tmp_path, body):
    path = tmp_path / "my.py"
    path.write_text(f"from ml_collections import ConfigDict\nROWS = {{}}\ndef get_config(row=None):\n    {body}\n")
    with pytest.raises(ConfigError) as caught:
        config_file.config_of(config_file.load(path), "a")
    assert MAKE[body] in str(caught.value)


def test_home_is_put_in_for_tilde_or_a_sentence_says_why_not(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert config_file.expand_home("~/a/~b") == "/home/me/a/~b" and config_file.expand_home("a~") == "a~"
    with pytest.raises(ConfigError, match="~no_such_user/a: there is no home folder for ~; set HOME"):
        config_file.expand_home("~no_such_user/a")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as without HOME and an entry of the user
    with pytest.raises(ConfigError, match="set HOME"):
        config_file.expand_home("~/a")


def test_every_path_of_a_config_is_expanded(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    config = config_file.config_of(config_file.load(config_file.find("configs/beyond_audioset.py")), "ensemble")
    with config.unlocked():
        config.recipe.members = ("~/a", "b", 5)
        config.data.label_file = config.data.group_file = config.data.split_file = "~/c"
        config_file.expand_paths(config)
    assert config.recipe.members == ("/home/me/a", "b", 5)
    assert config.data.label_file == config.data.group_file == config.data.split_file == "/home/me/c"


def test_the_file_given_is_listed_and_its_keys_are_suggested(tmp_path):
    path = write(tmp_path, name="my_copy.py")
    listed = launch_here(f"--config={path}", "--list")
    assert listed.returncode == 0 and "my_copy: published" in listed.stdout and "tiny" in listed.stdout
    wrong = launch_here(f"--config={path}:tiny", "--config.epoch=1", "--workdir=x")
    assert wrong.returncode == 1
    [line] = wrong.stderr.splitlines()
    assert line == "audiojax: --config.epoch: there is no such key; did you mean --config.epochs?"
