"""The options of ``isthmus experts``, and its table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from jsonargparse import Namespace

from isthmus.cli.experts.entries import Entry, entry_of
from isthmus.cli.parsing.parser import Parser
from isthmus.paths import user_path

HEADINGS = ("expert", "for", "licence", "size", "")


def parser() -> Parser:
    """The options."""
    made = Parser(
        description="Lists experts: those that a config needs, those that are named, or all that the package index has."
    )
    made.add_argument(
        "names", nargs="*", default=[], help="of experts in the package index, or addresses hf://org/name[@revision]"
    )
    made.add_argument("-c", "--config", action="append", default=[], help="of fit; repeatable, later ones win")
    made.add_argument("--fetch", action="store_true", help="fetch what isn't there; nothing is fetched otherwise")
    made.add_argument("--folder", type=user_path, default=Path("checkpoints/published"), help="of the package index's")
    return made


def run(options: Namespace) -> None:
    """Lists them, after fetching them where that is asked for.

    Raises:
        ValueError: a name isn't known, an expert can't be fetched, or a config needs one that nobody knows how to.
    """
    from isthmus.cli.quiet import hush
    from isthmus.importing.published import EXPERTS

    hush()
    if options.fetch and not options.names and not options.config:
        raise ValueError(f"--fetch: found no names; expected a -c, hf://org/name, or some of {', '.join(EXPERTS)}.")
    entries = [entry_of(name, options.folder) for name in options.names]
    if options.config:
        from isthmus.cli.experts.needs import needed

        entries += needed(options.config, options.folder)
    if not entries:
        entries = [entry_of(name, options.folder) for name in EXPERTS]
    if options.fetch:
        entries = [_fetched(entry, options.folder) for entry in entries]
    print(as_table([HEADINGS, *map(_row, entries)]))
    if any(entry.about for entry in entries):
        print("about: parameters at 16 bits; a checkpoint that is published in 32 bits is twice as large")
    if missing := [entry for entry in entries if entry.missing]:
        print(f"to be fetched: {_size(sum(entry.missing for entry in missing))}, by --fetch")
    if unknown := [entry for entry in entries if entry.fault]:
        raise ValueError("\n".join(entry.fault for entry in unknown))


def _fetched(entry: Entry, folder: Path) -> Entry:
    if entry.fetch is None or not entry.missing:
        return entry
    print(f"fetching {entry.name}: {_size(entry.missing)}", flush=True)
    entry.fetch()
    return entry_of(entry.name, folder, entry.purpose, entry.card)


def _row(entry: Entry) -> Sequence[str]:
    state = "see below" if entry.fault else f"missing: {_size(entry.missing)}" if entry.missing else str(entry.path)
    about = f"about {_size(entry.about)}" if entry.about else "unknown until fetched"
    return entry.name, entry.purpose, entry.licence or "not said", _size(entry.size) or about, state


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB" if count else ""


def as_table(rows: Iterable[Sequence[str]]) -> str:
    """Rows of one width, in aligned columns."""
    every = list(rows)
    widths = [max(map(len, column)) for column in zip(*every, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in every
    )
