"""Files made of other files, kept from run to run: what was unpacked, or an index that took a while."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from uuid import uuid4


def cache_folder() -> Path:
    """Where such files lie: ``$XDG_CACHE_HOME/isthmus``, by default ``~/.cache/isthmus``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "isthmus"


def derived_file(source: Path, form: str, make: Callable[[Path], None]) -> Path:
    """A file that is made of another one, once for all processes of this machine, and anew when that has changed.

    Args:
        source: the file, known by its path, size and time of change.
        form: what is made of it.
        make: writes it; at most one process at a time.

    Raises:
        ValueError: the cache's folder can't be written, or is full.
    """
    import fcntl

    facts = source.stat()
    told = f"{source.resolve()}\n{facts.st_size}\n{facts.st_mtime_ns}\n{form}"
    name = blake2b(told.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
    folder = cache_folder() / "derived" / name[:2]
    place = folder / name
    if place.exists():
        return place
    aside = folder / f"{uuid4().hex}.partial"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # A lock that a killed process held is free again. Few locks serve all files: they are never removed.
        with (folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not place.exists():
                make(aside)
                os.replace(aside, place)
    except OSError as error:
        raise ValueError(
            f"{source}: found that what is made of it can't be written to {folder} ({error}); expected a folder with "
            "room. Fix: set XDG_CACHE_HOME to one."
        ) from error
    finally:
        with suppress(OSError):
            aside.unlink()
    return place
