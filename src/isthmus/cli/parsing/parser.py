"""Parsers that say a mistake in one message and leave the usage to ``--help``."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from typing import Any, NoReturn

from jsonargparse import ArgumentParser, Namespace

from isthmus.cli.parsing.faults import read_fault
from isthmus.cli.parsing.help import HelpFormatter
from isthmus.cli.parsing.making import first_failure_counts, make
from isthmus.cli.parsing.words import flags_of, worded

NO_COMMAND = re.compile(r'expected "(?:([\w-]+)\.)?subcommand" to be one of')


class Parser(ArgumentParser):
    """A parser that exits with code 2 and one message. Options aren't abbreviated: a typo would be taken for another.

    Args:
        args: of jsonargparse's.
        kwargs: likewise.

    Attributes:
        read: the configs that it has read.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        ours: dict[str, Any] = {"allow_abbrev": False, "formatter_class": HelpFormatter}
        super().__init__(*args, **ours | kwargs)
        self.read: list[str] = []

    @property
    def prog(self) -> str:
        """The command as a user types it; jsonargparse puts ``[options]`` between a command and the one below it."""
        return self._prog

    @prog.setter
    def prog(self, name: str) -> None:
        self._prog = name.replace(" [options]", "")

    def instantiate_classes(self, *args: Any, **kwargs: Any) -> Namespace:
        """As jsonargparse's; what a class raises as it is made is a ``ValueError`` that names the class."""
        self.add_instantiator(make, object)  # behind those that there are, such as Lightning's for the model
        with first_failure_counts():
            made: Namespace = super().instantiate_classes(*args, **kwargs)
        return made

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Writes the message and exits with code 2; a part's own parser raises, and the outer one exits.

        With ``ISTHMUS_DEBUG=1`` jsonargparse's own message comes before it: every type that was tried, and all values.
        """
        if not self.exit_on_error:
            super().error(message, ex)
        if os.environ.get("ISTHMUS_DEBUG") == "1":
            sys.stderr.write(f"{message}\n\n")
        parser = getattr(ex, "subcommand_parser", None) or self
        sys.stderr.write(f"error: {parser.told(message)}\n" if isinstance(parser, Parser) else f"error: {message}\n")
        raise SystemExit(2) from ex

    def told(self, message: str) -> str:
        """The message in our words."""
        parsers = list(_with_commands(self))
        if command := NO_COMMAND.match(message):
            names = next(each._subcommands_action.choices for at, each in parsers if at == (command[1] or ""))
            return f"found no command; expected one of {', '.join(names)}. --help says what each does."
        files = [file for _, parser in parsers for file in getattr(parser, "read", [])]
        flags = {name: flag for _, parser in reversed(parsers) for name, flag in flags_of(parser).items()}
        return worded(read_fault(message), flags, files)


def _with_commands(parser: ArgumentParser, at: str = "") -> Iterator[tuple[str, Any]]:
    """A parser and those of the commands below it, by the names that lead to them."""
    yield at, parser
    if parser._subcommands_action is not None:
        for name, below in parser._subcommands_action.choices.items():
            yield from _with_commands(below, f"{at}.{name}" if at else name)
