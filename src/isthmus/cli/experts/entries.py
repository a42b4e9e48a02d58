"""An expert by the name that a user has for it: how large it is, under which licence, and what of it is there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from isthmus.cli.experts.known import known_checkpoint
from isthmus.data.licences import stated_licences
from isthmus.hub.address import is_address, parse_address
from isthmus.hub.listing import list_repository
from isthmus.hub.selection import read_files
from isthmus.hub.snapshot import wanted_files
from isthmus.part_card import PartCard
from isthmus.paths import checkpoint_path, shipped_path


@dataclass(frozen=True, kw_only=True)
class Entry:
    """An expert.

    Attributes:
        name: an address on the hub, a name in the package index, or a path.
        purpose: what it is, or what needs it.
        card: of the class that needs it.
        licence: of the weights; empty if nobody says.
        size: bytes of the whole, as far as known.
        about: bytes of the whole at 16 bits, where it isn't there and is known.
        missing: bytes that would be fetched.
        path: where it is.
        fetch: fetches it; None if nobody knows how to.
        fault: why it can't be had; empty if it can.
    """

    name: str
    purpose: str = ""
    card: PartCard | None = None
    licence: str = ""
    size: int = 0
    about: int = 0
    missing: int = 0
    path: Path | None = None
    fetch: Callable[[], Path] | None = None
    fault: str = ""


def entry_of(name: str, folder: Path, purpose: str = "", card: PartCard | None = None) -> Entry:
    """What is known of an expert. The hub is asked for its listing; no file of it is fetched.

    Args:
        name: as a user has it.
        folder: where experts of the package index lie.
        purpose: what needs it.
        card: of the class that needs it.
    """
    if is_address(name):
        return _of_hub(name, purpose, card)
    from isthmus.importing.published import EXPERTS, fetch_published

    path = shipped_path(name)
    known = name if name in EXPERTS else path.name if path.parent == folder and path.name in EXPERTS else ""
    if known:
        expert, path = EXPERTS[known], folder / known
        is_there = path.is_dir()
        return Entry(
            name=name,
            purpose=purpose or expert.says,
            card=card,
            licence=expert.licence,
            size=_size_of(path) if is_there else expert.size,
            missing=0 if is_there else expert.download,
            path=path,
            fetch=partial(fetch_published, known, folder),
        )
    stated = next(filter(None, map(stated_licences, (path, path.parent))), [])
    licence = ", ".join(stated) or ("" if card is None else f"published: {card.weights}")
    if path.exists():
        return Entry(name=name, purpose=purpose, card=card, licence=licence, size=_size_of(path), path=path)
    wanted = f" for {card.checkpoint}" if card is not None else f", and no expert of this name ({', '.join(EXPERTS)})"
    published = known_checkpoint(path)
    fix = "name it on the hub as hf://org/name, or put it there." if published is None else published.command(name)
    return Entry(
        name=name,
        purpose=purpose,
        card=card,
        licence=licence if published is None else published.licence,
        about=0 if published is None else published.size,
        fault=f"{name}: found no such file or folder{wanted}. Fix: {fix}",
    )


def _of_hub(name: str, purpose: str, card: PartCard | None) -> Entry:
    try:
        address = parse_address(name).resolved()
        files = wanted_files(address)
        licence = list_repository(address).licence
    except ValueError as error:
        return Entry(name=name, purpose=purpose, card=card, fault=str(error))
    missing = sum(own.size for file, own in files.items() if not (address.snapshot / file).exists())
    return Entry(
        name=name,
        purpose=purpose,
        card=card,
        licence=licence,
        size=sum(own.size for own in files.values()),
        missing=missing,
        path=address.snapshot / address.path,
        fetch=partial(checkpoint_path, str(address)),
    )


def _size_of(path: Path) -> int:
    return sum(file.stat().st_size for file in (read_files(path) if path.is_dir() else [path]))
