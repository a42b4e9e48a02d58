"""``isthmus leaderboard``: the runs of a folder by their figures."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from jsonargparse import Namespace

from isthmus.cli.parsing.parser import Parser
from isthmus.evaluation.comparing.forms import FORMS
from isthmus.evaluation.comparing.leaderboard import leaderboard
from isthmus.paths import user_path


def parser() -> Parser:
    """The command's options."""
    made = Parser(description="A table of runs by figures, each by one protocol, with the best of each marked.")
    made.add_argument("folder", type=user_path, nargs="?", default=Path("runs"), help="to look in; four folders deep")
    made.add_argument("--by", help="the figure by which runs are sorted, as 'coco/text/cider'; their names otherwise")
    made.add_argument(
        "--figures", action="append", default=[], metavar="PATTERN", help="only these, as 'coco/*'; repeatable"
    )
    made.add_argument("--format", type=Literal["md", "csv", "html", "json"], default="md", help="of the table")
    return made


def run(options: Namespace) -> None:
    """Prints it.

    Raises:
        ValueError: there is no run with figures, or no figure is called so.
    """
    print(FORMS[options.format](leaderboard(options.folder, options.by, options.figures)).rstrip("\n"))
