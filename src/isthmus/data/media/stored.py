"""A medium's file within a larger file, such as a shard: its bytes and its name."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath


@dataclass(frozen=True, eq=False)
class StoredFile:
    """The bytes of a file in a shard, not yet decoded.

    Attributes:
        name: the shard and the file in it, for errors; its suffix gives the format.
        data: its bytes.
    """

    name: str
    data: bytes = field(repr=False)

    @property
    def suffix(self) -> str:
        """The suffix, such as ``.png``."""
        return PurePosixPath(self.name).suffix

    def __str__(self) -> str:
        return self.name

    @contextmanager
    def on_disk(self) -> Iterator[Path]:
        """A temporary file with these bytes, for decoders that can only open files."""
        with tempfile.TemporaryDirectory(prefix="isthmus-") as folder:
            path = Path(folder) / f"medium{self.suffix}"
            path.write_bytes(self.data)
            yield path
