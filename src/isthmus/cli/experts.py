"""``isthmus experts``: published experts, what of them is there, and fetching them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jsonargparse import Namespace

from isthmus.cli.parsing.parser import Parser
from isthmus.paths import user_path

HEADINGS = ("expert", "is", "licence", "size", "")


def parser() -> Parser:
    """The options of ``isthmus experts``."""
    made = Parser(description="Lists published experts, or fetches them: nothing is fetched that isn't asked for.")
    made.add_argument("names", nargs="*", help="of published experts; all of them if none is named")
    made.add_argument("--fetch", action="store_true", help="fetch those that aren't there")
    made.add_argument("--folder", type=user_path, default=Path("checkpoints/published"), help="where to")
    return made


def run(options: Namespace) -> None:
    """Lists them, after fetching them where that is asked for.

    Raises:
        ValueError: a name isn't known, or an expert can't be fetched.
    """
    from isthmus.cli.quiet import hush
    from isthmus.importing.published import EXPERTS, fetch_published

    hush()
    if unknown := [name for name in options.names if name not in EXPERTS]:
        raise ValueError(
            f"{unknown[0]}: found no published expert of this name; expected some of {', '.join(EXPERTS)}. "
            "Fix: correct the name."
        )
    if options.fetch and not options.names:
        raise ValueError(f"--fetch: found no names; expected some of {', '.join(EXPERTS)}. Fix: name them.")
    rows = []
    for name in options.names or EXPERTS:
        expert, folder = EXPERTS[name], options.folder / name
        if options.fetch and not folder.is_dir():
            print(f"fetching {name}: {expert.download / 1e6:.0f} MB", flush=True)
            fetch_published(name, options.folder)
        is_there = str(folder) if folder.is_dir() else f"missing: isthmus experts --fetch {name}"
        rows.append((name, expert.says, expert.licence, f"{expert.size / 1e6:.0f} MB", is_there))
    print(as_table([HEADINGS, *rows]))


def as_table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of one width, in aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
