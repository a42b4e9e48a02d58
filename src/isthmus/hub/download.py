"""One file of a repository into the hub's cache: a broken download goes on, and a wrong digest never gets there."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from isthmus.hub.address import Address, told
from isthmus.hub.listing import StoredFile

CHUNK = 1 << 22
"""Bytes that are hashed at a time."""
SHA256 = 64
"""Hexadecimal digits of a SHA-256; shorter ones are git's SHA-1."""
PARTIAL = ".isthmus-partial"
"""What the name of a file ends in that isn't whole. The library's own partial files don't outlive their process."""


def fetch_file(address: Address, name: str, stored: StoredFile) -> None:
    """Fetches a file into the snapshot of a resolved address. Processes that want it at once fetch it once.

    Raises:
        ValueError: the hub can't be reached, or what it sent is not what its listing says.
    """
    from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]  # not in its __all__

    blob = address.cache_folder / "blobs" / stored.digest
    linked = address.snapshot / name
    lock = address.cache_folder.parent / ".locks" / address.cache_folder.name / f"{stored.digest}.lock"
    for folder in (blob.parent, linked.parent, lock.parent):
        folder.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(lock):  # the library's own lock of this file
        if linked.exists():
            return
        if not blob.exists():
            _download(address, name, stored, blob)
        linked.unlink(missing_ok=True)  # a link to a file that was removed
        try:
            linked.symlink_to(os.path.relpath(blob, linked.parent))
        except OSError:  # no links here: the library, too, then keeps files in snapshots themselves
            os.replace(blob, linked)


def _download(address: Address, name: str, stored: StoredFile, blob: Path) -> None:
    from huggingface_hub import hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # likewise

    partial = blob.with_name(blob.name + PARTIAL)
    if partial.exists() and partial.stat().st_size > stored.size:
        partial.unlink()
    with told(f"{address}: {name}"), partial.open("ab") as file:
        http_get(
            hf_hub_url(address.repository, name, revision=address.revision),
            file,
            resume_size=file.tell(),
            headers=build_hf_headers(),
            expected_size=stored.size,
            displayed_filename=name,
        )
    found = _digest(partial, len(stored.digest) == SHA256)
    if found != stored.digest:
        partial.unlink()
        raise ValueError(
            f"{address}: {name}: found content with digest {found}; expected {stored.digest}, as the hub's listing "
            "says. It was thrown away. Fix: run this again; if it stays, something between here and the hub changes "
            "files."
        )
    os.replace(partial, blob)


def _digest(file: Path, is_sha256: bool) -> str:
    if is_sha256:
        digest = hashlib.sha256()
    else:  # git's name for a file's content
        digest = hashlib.sha1(f"blob {file.stat().st_size}\0".encode(), usedforsecurity=False)
    with file.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
