"""The command line: ``train.py`` and the console script ``isthmus``. Heavy libraries load when a command runs."""

from __future__ import annotations

import sys

from jsonargparse import ArgumentParser

from isthmus.cli.errors import user_errors
from isthmus.cli.plain import COMMANDS

TRAINING = {
    "fit": "train stages: isthmus fit -c stage1.yaml",
    "validate": "measure the loss on validation data",
    "test": "measure the any-to-any matrix on test data",
}


def train(args: list[str] | None = None) -> None:
    """``train.py``: fit, validate or test."""
    with user_errors():
        from isthmus.cli.training import run

        run(args)


def main(args: list[str] | None = None) -> None:
    """``isthmus``: the same three, and the plain commands."""
    args = sys.argv[1:] if args is None else args
    if args[:1] and args[0] in TRAINING:
        train(args)
        return
    parser = ArgumentParser(prog="isthmus", description="Any-to-any multimodal language models.")
    commands = parser.add_subcommands()
    for name, says in TRAINING.items():
        commands.add_subcommand(name, ArgumentParser(), help=says)
    for name, command in COMMANDS.items():
        commands.add_subcommand(name, command.parser(), help=command.says)
    chosen = parser.parse_args(args)
    with user_errors():
        COMMANDS[chosen.subcommand].run(chosen[chosen.subcommand])
