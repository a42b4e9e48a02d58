"""A folder on a disk or in an object store, by fsspec. What fails in passing is tried again."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from fsspec import AbstractFileSystem
from fsspec.core import url_to_fs

from isthmus.data.errors import DataError, Fault, is_machines
from isthmus.data.retries import Retries, is_disks, is_stores
from isthmus.paths import user_path

Found = TypeVar("Found")


class Storage:
    """The files of one folder, by name. Only the user's address is ever contacted.

    Args:
        address: a folder's path, or a URL for fsspec, such as ``s3://bucket/set``.
        options: of its file system, such as ``{"anon": true}`` for ``s3``.

    Raises:
        ValueError: no installed package supports the kind of address.
    """

    def __init__(self, address: str, options: Mapping[str, Any] | None = None) -> None:
        # Not always a Path, which would remove a slash from a URL.
        address = str(user_path(address)) if address.startswith("~") else address
        self.address = address.rstrip("/") or address
        self.options = dict(options or {})
        self._opened: tuple[int, AbstractFileSystem, str] | None = None
        self._open()
        self.retries = Retries(is_disks if self.is_local else is_stores)

    @property
    def is_local(self) -> bool:
        """Whether the folder is on this machine, so that files can be renamed in one step."""
        return "file" in (protocol := self._open()[0].protocol, *([] if isinstance(protocol, str) else protocol))

    def where(self, name: str) -> str:
        """A file's name in errors."""
        return f"{self.address}/{name}"

    def sizes(self) -> dict[str, int]:
        """Sizes in bytes of all files by name; empty if there is no folder or it can't be listed."""
        system, folder = self._open()
        try:
            listed = self.retries.run(self.address, lambda: system.ls(folder, detail=True))
        except Exception:  # a store may allow reading but not listing; exceptions differ
            return {}
        return {
            str(entry["name"]).rstrip("/").rpartition("/")[2]: int(entry["size"])
            for entry in listed
            if entry.get("type") == "file" and entry.get("size") is not None
        }

    def size(self, name: str) -> int | None:
        """A file's size in bytes; None if there is no such file.

        Raises:
            DataError: the store gives no answer.
        """

        def ask(system: AbstractFileSystem, path: str) -> int | None:
            try:
                return int(system.size(path))
            except FileNotFoundError:
                return None

        return self._try(name, ask)

    def read(self, name: str, begin: int | None = None, end: int | None = None) -> bytes:
        """A file's bytes ``begin`` to ``end``, exclusive, in one request.

        Raises:
            DataError: it can't be read.
        """
        return self._try(name, lambda system, path: bytes(system.cat_file(path, start=begin, end=end)))

    def fetch(self, name: str, target: str) -> None:
        """Copies a whole file to this machine.

        Raises:
            DataError: it can't be read.
        """
        self._try(name, lambda system, path: system.get_file(path, target))

    def write(self, name: str, parts: Sequence[bytes]) -> None:
        """Writes a file of these parts atomically; an existing one is replaced.

        Raises:
            DataError: it can't be written.
        """

        def put(system: AbstractFileSystem, path: str) -> None:
            system.makedirs(path.rpartition("/")[0], exist_ok=True)
            # On a disk, a partly written file would be visible; objects become visible only when complete.
            part = f"{path}.partial" if self.is_local else path
            with system.open(part, "wb") as file:
                file.writelines(parts)
                if self.is_local:
                    file.flush()
                    os.fsync(file.fileno())
            if self.is_local:
                os.replace(part, path)

        try:
            self._try(name, put)
        except OSError as error:  # a full disk, say, of which the name tells more
            raise self._fault(name, error) from error

    def _try(self, name: str, do: Callable[[AbstractFileSystem, str], Found]) -> Found:
        """What ``do`` gives; a :class:`DataError` where it fails, but for what tells of this machine."""
        system, folder = self._open()
        try:
            return self.retries.run(self.where(name), lambda: do(system, f"{folder}/{name}"))
        except Exception as error:  # exceptions differ between stores
            if is_machines(error):
                raise
            raise self._fault(name, error) from error

    def _fault(self, name: str, error: Exception) -> DataError:
        return DataError(
            Fault.PATH,
            f"{self.where(name)}: it can't be read or written ({type(error).__name__}: {error}); expected a file of a "
            "set of shards. Fix: check that it exists and that you have permission.",
        )

    def _open(self) -> tuple[AbstractFileSystem, str]:
        # Connections don't survive a fork: each worker process opens its own.
        if self._opened is None or self._opened[0] != os.getpid():
            try:
                system, folder = url_to_fs(self.address, **self.options)
            except (ImportError, ValueError, TypeError) as error:
                raise ValueError(
                    f"{self.address}: found an address that can't be opened ({error}); expected a folder, or a URL "
                    "that fsspec knows. Fix: correct it, or install its package (s3fs for s3://, gcsfs for gs://)."
                ) from error
            self._opened = (os.getpid(), system, folder.rstrip("/"))
        return self._opened[1:]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}
