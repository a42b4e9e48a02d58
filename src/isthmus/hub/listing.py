"""What a repository holds at a commit, as the hub tells it: kept in its cache, since a commit never changes."""

from __future__ import annotations

import json
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from uuid import uuid4

from isthmus.hub.address import Address, told

DIGEST = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
"""Of a file: git's SHA-1, or SHA-256."""


@dataclass(frozen=True)
class StoredFile:
    """A file's size in bytes, and its digest: SHA-256, or of a small file git's SHA-1."""

    size: int
    digest: str


@dataclass(frozen=True)
class Listing:
    """A repository at a commit: its files by name, and the licence that its model card names."""

    files: dict[str, StoredFile]
    licence: str


def list_repository(address: Address) -> Listing:
    """All files of a resolved address's repository. The hub is asked once a commit.

    Raises:
        ValueError: the hub can't be reached, or refuses.
    """
    file = _kept(address)
    if (found := _read(file)) is None:
        found = _asked(address)
        files = {name: [own.size, own.digest] for name, own in found.files.items()}
        with suppress(OSError):  # a cache that can't be written to: the hub is asked again
            file.parent.mkdir(parents=True, exist_ok=True)
            aside = file.with_name(f"{file.name}.{uuid4().hex}")
            aside.write_text(json.dumps({"licence": found.licence, "files": files}), encoding="utf-8")
            os.replace(aside, file)
    return found


def stated_on_hub(address: Address) -> list[str]:
    """The licence that was told with the listing of a resolved address; nothing if nobody has asked for that."""
    found = _read(_kept(address))
    return [found.licence] if found is not None and found.licence else []


def is_listed(address: Address) -> bool:
    """Whether :func:`list_repository` needs no hub."""
    return _read(_kept(address)) is not None


def _kept(address: Address) -> Path:
    return address.cache_folder / "isthmus" / f"{address.revision}.json"


def _read(file: Path) -> Listing | None:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        files = {name: StoredFile(int(size), str(digest)) for name, (size, digest) in content["files"].items()}
        return Listing(files, str(content["licence"]))
    except (OSError, ValueError, LookupError, TypeError, AttributeError):  # absent or damaged: it is asked for anew
        return None


def _asked(address: Address) -> Listing:
    from huggingface_hub import HfApi

    with told(str(address)):
        info = HfApi().model_info(address.repository, revision=address.revision, files_metadata=True)
    files = {}
    for own in info.siblings or []:
        digest = own.blob_id if own.lfs is None else own.lfs.sha256
        path = PurePosixPath(own.rfilename)
        if own.size is None or not DIGEST.fullmatch(digest or "") or path.is_absolute() or ".." in path.parts:
            raise ValueError(
                f"{address}: found {own.rfilename!r} with size {own.size} and digest {digest} in the hub's listing; "
                "expected a name within the repository, a size, and a digest by which what is fetched is checked. Fix: "
                "unset HF_ENDPOINT if it names a mirror."
            )
        files[own.rfilename] = StoredFile(own.size, str(digest))
    card = info.card_data
    licence = getattr(card, "license", None) or ""
    if licence == "other":
        licence = getattr(card, "license_name", None) or licence
    return Listing(files, ", ".join(licence) if isinstance(licence, list) else str(licence))
