"""The command `audiojax`, in this process."""

import re

import pytest

import audiojax
from audiojax import cli, names
from audiojax.errors import ConfigError, RunError


def printed(capsys, *argv):
    """What a command line that prints and exits leaves on stdout."""
    with pytest.raises(SystemExit) as exit:
        cli.run([*argv])
    assert exit.value.code in (None, 0)
    return capsys.readouterr().out


def test_version(capsys):
    assert printed(capsys, "--version") == f"audiojax {audiojax.__version__}\n"


def test_help_lists_the_subcommands_and_each_has_an_example(capsys):
    listed = printed(capsys, "--help")
    for name in names.modules("cli"):
        assert name in listed and f"audiojax {name} " in printed(capsys, name, "--help").split("Example:")[1]


@pytest.mark.parametrize(
    ("argv", "error", "sentence"),
    [
        ([], ConfigError, "the following arguments are required: COMMAND; see audiojax --help."),
        (["gnerate"], ConfigError, "invalid choice: 'gnerate'"),
        (["generate"], ConfigError, "the following arguments are required: RUN, --out; see audiojax generate --help."),
        (["generate", "x", "--out=y", "--count=two"], ConfigError, "--count: invalid int value: 'two'"),
        (["generate", "nowhere", "--out=y"], RunError, "nowhere holds no finished run; train it first."),
    ],
)
def test_a_mistake_is_one_sentence(argv, error, sentence):
    with pytest.raises(error, match=re.escape(sentence)) as raised:
        cli.run(argv)
    assert "\n" not in str(raised.value)
