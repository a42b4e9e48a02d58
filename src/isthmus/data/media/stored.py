"""A medium's file that lies inside a larger one, such as a shard: its bytes and the name that says what they are."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath


@dataclass(frozen=True, eq=False)
class StoredFile:
    """A file's bytes as they stand in a shard, not yet decoded.

    Attributes:
        name: the shard and the file in it, for errors; its ending tells the format.
        data: its bytes.
    """

    name: str
    data: bytes = field(repr=False)

    @property
    def suffix(self) -> str:
        """The ending, as ``.png``."""
        return PurePosixPath(self.name).suffix

    def __str__(self) -> str:
        return self.name

    @contextmanager
    def on_disk(self) -> Iterator[Path]:
        """A file with these bytes while the context lasts: decoders open files, and some of them nothing else."""
        with tempfile.TemporaryDirectory(prefix="isthmus-") as folder:
            path = Path(folder) / f"medium{self.suffix}"
            path.write_bytes(self.data)
            yield path
