"""Writes a checkpoint's shards, its structure and its manifest into a folder, and puts that in its place when whole."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import torch
from torch.distributed.checkpoint.filesystem import FileSystem, FileSystemWriter
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta
from torch.distributed.checkpoint.planner import SavePlan, SavePlanner
from torch.distributed.checkpoint.storage import WriteResult
from torch.futures import Future

from isthmus import __version__
from isthmus.training.checkpoints.found import MANIFEST, discard, put
from isthmus.writing import PARTIAL, sync_folder

FORMAT = 1
STRUCTURE, METADATA = "structure.pt", ".metadata"
"""The checkpoint with tensors on the meta device; where each shard lies, as ``torch.distributed.checkpoint`` has it."""


@dataclass(frozen=True)
class Written(WriteResult):
    """A shard as it was written, and the size in bytes and the SHA-256 sum of its whole file."""

    size: int
    digest: str


class ShardWriter(FileSystemWriter):
    """One process's part in writing a checkpoint's folder; the first process completes it.

    All processes write into ``NAME.partial``. The first one adds structure and manifest when all shards are there, and
    renames the folder: a reader finds the earlier checkpoint or this one, whatever ends a writer.

    Args:
        target: the checkpoint's folder.
        structure: content of the file beside the shards.
        told: what the manifest says of the checkpoint, ``step`` among it.
        keep_last: see :class:`~isthmus.training.checkpoints.settings.CheckpointSettings`.

    Attributes:
        partial: where it is written.
    """

    def __init__(self, target: Path, structure: bytes, told: Mapping[str, Any], keep_last: int) -> None:
        self.partial = target.with_name(target.name + PARTIAL)
        super().__init__(self.partial, sync_files=False)  # the disk does it, for all files
        self.target = target
        self.structure = structure
        self.told = dict(told)
        self.keep_last = keep_last
        self.disk = HashingDisk()
        self.fs = self.disk

    def storage_meta(self) -> StorageMeta | None:
        """Nothing: a checkpoint says nothing of the machine that wrote it."""
        return None

    def prepare_global_plan(self, plans: list[SavePlan]) -> list[SavePlan]:
        """Clears the folder of what a killed writer has left: all processes have made it, and none has written yet."""
        discard(self.partial)
        self.partial.mkdir()
        return super().prepare_global_plan(plans)

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        """Writes this process's shards.

        Raises:
            OSError: the disk is full, or can't be written to.
        """
        done: Future[list[WriteResult]] = Future()
        results = super().write_data(plan, planner).wait() if plan.items else []
        files = self.disk.written
        done.set_result(
            [Written(each.index, each.size_in_bytes, each.storage_data, *files[_file(each)]) for each in results]
        )
        return done

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        """Adds structure and manifest to the shards of all processes, and puts the folder in its place.

        Raises:
            ValueError: shards of other processes aren't here.
            OSError: the disk is full, or can't be written to.
        """
        folder = self.partial
        files = {_file(each): (each.size, each.digest) for own in results for each in own if isinstance(each, Written)}
        if absent := sorted(name for name in files if not (folder / name).is_file()):
            raise ValueError(
                f"{self.target}: found no {absent[0]}, which another process has written; expected one folder that all "
                "machines share. Fix: put training.folder on a file system that all of them mount."
            )
        super().finish(metadata, results)
        files[METADATA] = self.disk.written.pop(f"{METADATA}.tmp")
        with self.disk.create_stream(folder / STRUCTURE, "wb") as stream:
            stream.write(self.structure)
        files[STRUCTURE] = self.disk.written[STRUCTURE]
        manifest = {
            "format": FORMAT,
            **self.told,
            "made_by": {"isthmus": __version__, "torch": torch.__version__},
            "files": {name: {"size": size, "sha256": digest} for name, (size, digest) in sorted(files.items())},
        }
        with self.disk.create_stream(folder / MANIFEST, "wb") as stream:
            stream.write((json.dumps(manifest, indent=2) + "\n").encode())
        sync_folder(folder)
        put(folder, self.target, int(self.told["step"]), self.keep_last)


class HashingDisk(FileSystem):
    """Files of the local disk, whose size in bytes and SHA-256 sum are known when they are written.

    Attributes:
        written: both, by the files' names.
    """

    def __init__(self) -> None:
        self.written: dict[str, tuple[int, str]] = {}

    @contextmanager
    def create_stream(self, path: Any, mode: str) -> Iterator[io.IOBase]:
        """See torch."""
        with super().create_stream(path, mode) as raw:
            if mode != "wb":
                yield raw
                return
            stream = _Hashing(raw)
            yield cast(io.IOBase, stream)
            stream.flush()
            os.fsync(stream.fileno())
            self.written[Path(path).name] = stream.size, stream.sum.hexdigest()


class _Hashing:
    """A stream that keeps the first error of its disk for later.

    ``torch.save`` writes from within C++, which ends the process where Python raises in it.
    """

    def __init__(self, raw: Any) -> None:
        self.raw, self.size, self.sum = raw, 0, sha256()
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        """Takes bytes, whether the disk does or not; how many they are."""
        self.sum.update(data)
        length = memoryview(data).nbytes
        self.size += length
        self._try(lambda: self.raw.write(data))
        return length

    def tell(self) -> int:
        """How many bytes came so far."""
        return self.size

    def flush(self) -> None:
        """Hands all bytes to the system."""
        self._try(self.raw.flush)

    def close(self) -> None:
        """As :meth:`flush`: the file itself is closed by who opened it."""
        self.flush()

    def fileno(self) -> int:
        """The file's, for a sync.

        Raises:
            OSError: the first that the disk gave.
        """
        if self.error is not None:
            raise self.error
        number: int = self.raw.fileno()
        return number

    def _try(self, work: Any) -> None:
        try:
            if self.error is None:
                work()
        except OSError as error:
            self.error = error


def _file(result: WriteResult) -> str:
    name: str = result.storage_data.relative_path
    return name
