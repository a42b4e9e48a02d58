"""The command line: ``train.py`` and the console script ``isthmus``. Heavy libraries load when a command runs."""

from __future__ import annotations

import sys

from isthmus import __version__
from isthmus.cli.brought import bring_model
from isthmus.cli.configs import option_names
from isthmus.cli.errors import reader_may_leave, user_errors
from isthmus.cli.parsing.parser import Parser
from isthmus.cli.plain import COMMANDS, IMPORTS
from isthmus.earlier.options import known_names

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
    if args[:1] == ["cache"]:
        with user_errors():
            from isthmus.cli.cache import fill

            fill(args[1:])
        return
    if args[:1] == ["rehearse"]:
        with user_errors():
            from isthmus.cli.rehearse import run as rehearse

            rehearse(args[1:])
        return
    if args[:1] == ["plan"]:
        with user_errors():
            from isthmus.cli.plan import run as plan

            plan(args[1:])
        return
    if args[:1] == ["evaluate"]:
        with user_errors():
            from isthmus.cli.evaluate import run as evaluate

            evaluate(args[1:])
        return
    if args[:1] == ["import"] and (system := IMPORTS.get("".join(args[1:2]))) is not None:
        importer = system.parser()
        importer.prog = f"isthmus import {args[1]}"
        with user_errors():
            system.run(importer.parse_args(args[2:]))
        return
    with user_errors():
        if args:
            known_names(f"isthmus {args[0]}", dict.fromkeys(option_names(args)), f"isthmus {args[0]}")
        bring_model(args)
    parser = Parser(prog="isthmus", description="Any-to-any multimodal language models.", version=__version__)
    commands = parser.add_subcommands()
    for name, says in TRAINING.items():
        commands.add_subcommand(name, Parser(), help=says)
    commands.add_subcommand("cache", Parser(), help="compute what stages need of frozen parts, ahead of fit")
    commands.add_subcommand("rehearse", Parser(), help="try every stage and an answer without weights or a GPU")
    commands.add_subcommand("plan", Parser(), help="say what a cluster needs for every stage, and whether it fits")
    commands.add_subcommand("evaluate", Parser(), help="measure a saved model, or stored answers, on test sets")
    for name, command in COMMANDS.items():
        command.add_to(commands, name)
    chosen = parser.parse_args(args)
    with user_errors(), reader_may_leave():
        COMMANDS[chosen.subcommand].run(chosen[chosen.subcommand])
