"""The command `audiojax`, which uses trained runs. Each module of this package is one subcommand."""

import argparse
import importlib

import audiojax
from audiojax import names, process
from audiojax.errors import ConfigError


class Parser(argparse.ArgumentParser):
    """A parser that raises ConfigError, with one sentence, where argparse prints the usage and exits."""

    def error(self, message: str):
        raise ConfigError(f"{message}; see {self.prog} --help.")


def main() -> None:
    """Runs the program's command line. An error ends the process with one sentence on stderr."""
    process.run(run, lambda: None)


def run(argv: list[str] | None = None) -> None:
    """Runs a command line, by default the program's.

    A subcommand's module has a docstring, which is its help, `add_arguments(parser)` and `run(arguments)`.

    Raises:
      AudiojaxError: what is wrong, where, and what to do.
    """
    parser = Parser("audiojax", description="Uses trained runs of audiojax.")
    parser.add_argument("--version", action="version", version=f"audiojax {audiojax.__version__}")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for name in names.modules("cli"):
        module = importlib.import_module(f"audiojax.cli.{name}")
        summary, style = module.__doc__.splitlines()[0], argparse.RawDescriptionHelpFormatter
        subparser = subparsers.add_parser(name, help=summary, description=module.__doc__, formatter_class=style)
        module.add_arguments(subparser)
        subparser.set_defaults(command=module.run)
    arguments = parser.parse_args(argv)
    arguments.command(arguments)
