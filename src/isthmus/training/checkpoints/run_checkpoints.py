"""What a Trainer saves and loads its checkpoints with: whole or not there, in one file or in shards."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as distributed
from pytorch_lightning.plugins.io import TorchCheckpointIO
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultSavePlanner
from torch.distributed.checkpoint.state_dict_saver import save

from isthmus.training.checkpoints.found import discard, fault_of, newest_whole, put
from isthmus.training.checkpoints.settings import CheckpointSettings
from isthmus.training.checkpoints.shard_reader import Layout, fill, read_structure
from isthmus.training.checkpoints.shard_writer import ShardWriter
from isthmus.training.checkpoints.structure import split
from isthmus.writing import worded, write_file

log = logging.getLogger(__name__)

LATER = "optimizer_states"
"""The part of a checkpoint that engines which shard the model read when there is an optimizer to read it into."""


class RunCheckpoints(TorchCheckpointIO):
    """Saves and loads a run's checkpoints; object stores go Lightning's own way.

    Lightning stages a file in ``$TMPDIR`` and copies it over the only good one: a full disk or a kill amid the copy
    leaves neither. Here the earlier checkpoint stays until the new one is complete, synced and renamed. While one is
    written asynchronously, none is removed: the next save, the run's end and an exception wait for it.

    Args:
        settings: how they are written.
        writes: False for a trial run, which leaves no file.

    Attributes:
        fallbacks: what is loaded in the place of a checkpoint that isn't whole, in order.
        loaded: the checkpoint that was loaded last.
        failures: how many in a row couldn't be written.
    """

    def __init__(self, settings: CheckpointSettings | None = None, writes: bool = True) -> None:
        super().__init__()
        self.settings = CheckpointSettings() if settings is None else settings
        self.writes = writes
        self.fallbacks: Sequence[Path] = ()
        self.loaded: Path | None = None
        self.failures = 0
        self._pending: _Pending | None = None
        self._removals: list[Path] = []
        self._executor: ThreadPoolExecutor | None = None
        self._group: distributed.ProcessGroup | None = None

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Saves what one process holds; see Lightning.

        Raises:
            ValueError: this checkpoint or the one before it can't be written; earlier ones are as they were.
        """
        if not self.writes:
            return
        self.finish()
        if storage_options is not None or _is_remote(path):
            super().save_checkpoint(checkpoint, path, storage_options)
        elif self.settings.distributed:
            self._save_folder(Path(path), checkpoint, together=False)
        else:
            self._save_file(Path(path), checkpoint)

    def save_together(self, checkpoint: dict[str, Any], path: Any) -> None:
        """Saves what all processes hold, each its own shards. All of them have to call this.

        Raises:
            ValueError: in all of them; see :meth:`save_checkpoint`.
        """
        if self.writes:
            self.finish()
            self._save_folder(Path(path), checkpoint, together=True)

    def load_checkpoint(
        self, path: Any, map_location: Callable[..., Any] | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """A checkpoint with whole tensors; what was saved on a GPU is read into the CPU's memory. See Lightning.

        Raises:
            ValueError: it isn't whole; the message names the newest one beside it that is.
        """
        if _is_remote(path):
            return super().load_checkpoint(path, map_location or "cpu", weights_only)  # type: ignore[arg-type] # as torch.load takes it
        found = self._whole(Path(path))
        read: dict[str, Any] = fill(found, _structure(found, lazily=False))
        return read

    def load_shares(self, path: Any, layout: Layout) -> dict[str, Any]:
        """A checkpoint with the shards that this process holds; :meth:`load_later` reads those of its optimizers.

        Raises:
            ValueError: in all processes; see :meth:`load_checkpoint`.
        """
        _require_local(path)
        found = self._whole(Path(path))
        structure = _structure(found, lazily=True)
        later = structure.pop(LATER, None)
        read: dict[str, Any] = fill(found, structure, layout)
        return read if later is None else read | {LATER: later}

    def load_later(self, checkpoint: Mapping[str, Any], layout: Layout) -> list[dict[str, Any]]:
        """The optimizers' states of the checkpoint that was loaded last, as shards that this process holds."""
        assert self.loaded is not None, "nothing was loaded"
        states: list[dict[str, Any]] = fill(self.loaded, checkpoint[LATER], layout, (LATER,))
        return states

    def remove_checkpoint(self, path: Any) -> None:
        """Removes a checkpoint once the one that takes its place is whole; where that fails, it stays."""
        self._removals.append(Path(path))
        if self._pending is None:
            self._remove(self.failures == 0)

    def finish(self) -> None:
        """Waits for the checkpoint that is being written.

        Raises:
            ValueError: it can't be written, and no more failures are tolerated.
        """
        if self._pending is None:
            return
        pending, self._pending = self._pending, None
        error = pending.error()
        self.failures = 0 if error is None else self.failures + 1
        self._remove(error is None)
        if error is None:
            return
        tolerated = self.settings.tolerated_failures
        if self.failures > tolerated or not isinstance(error, ValueError):
            raise error
        allowed = f"failure {self.failures} in a row of {tolerated} that training.checkpoints.tolerated_failures allows"
        _say(f"{error} Training goes on: {allowed}.")

    def teardown(self) -> None:
        """See Lightning."""
        self.finish()
        if self._executor is not None:
            self._executor.shutdown()
            self._executor = None

    def _save(self, path: Path, size: int, write: Callable[[], object]) -> None:
        """Writes a checkpoint of so many bytes, or begins to. ``write`` holds a copy where training goes on."""
        if self.settings.asynchronous:
            if self._executor is None:
                self._executor = ThreadPoolExecutor(1, "checkpoint")
            self._pending = _Pending(path, size, self._executor.submit(write))
            self._pending.tell_early()
            return
        done: Future[Any] = Future()
        try:
            done.set_result(write())
        except (Exception, CheckpointException) as error:  # torch's isn't an Exception
            done.set_exception(error)
        self._pending = _Pending(path, size, done)
        self.finish()

    def _save_file(self, path: Path, checkpoint: Mapping[str, Any]) -> None:
        content = io.BytesIO()
        torch.save(checkpoint, content)  # a copy
        data, step, keep_last = content.getbuffer(), int(checkpoint["global_step"]), self.settings.keep_last
        place = partial(put, step=step, keep_last=keep_last)
        self._save(path, len(data), lambda: write_file(path, data, place))

    def _save_folder(self, path: Path, checkpoint: Mapping[str, Any], together: bool) -> None:
        _require_local(path)
        tensors, rest = split(checkpoint)
        structure = io.BytesIO()
        torch.save(rest, structure)
        told = {"step": int(checkpoint["global_step"]), "processes": distributed.get_world_size() if together else 1}
        writer = ShardWriter(path, structure.getvalue(), told, self.settings.keep_last)
        group = self._own_group() if together else None
        is_first = group is None or distributed.get_rank() == 0
        staged: Any = writer.stage(tensors) if self.settings.asynchronous else tensors

        def write() -> None:
            planner = DefaultSavePlanner(flatten_state_dict=False, flatten_sharded_tensors=False)
            try:
                save(staged, storage_writer=writer, planner=planner, process_group=group, no_dist=not together)
            except BaseException:
                if is_first:
                    discard(writer.partial)
                raise

        self._save(path, sum(each.nbytes for each in tensors.values()), write)

    def _whole(self, path: Path) -> Path:
        """The checkpoint, or the first of those that may stand in its place, that is whole."""
        faults: list[str] = []
        for candidate in dict.fromkeys([path, *self.fallbacks]):
            fault = self._fault(candidate)
            if fault is None:
                if faults:
                    _say(f"{'; '.join(faults)}. The newest whole checkpoint is taken instead: {candidate}")
                self.loaded = candidate
                return candidate
            faults.append(f"{candidate}: {fault}")
        raise ValueError(f"{'; '.join(faults)}. {_fix(path)}")

    def _fault(self, path: Path) -> str | None:
        """What keeps a checkpoint from being whole, the same in every process: each reads its part of a folder."""
        if not path.is_dir() or not distributed.is_initialized():
            return fault_of(path)
        found: list[str | None] = [None] * distributed.get_world_size()
        own = fault_of(path, distributed.get_rank(), len(found))
        distributed.all_gather_object(found, own, self._own_group())
        return next((each for each in found if each is not None), None)

    def _own_group(self) -> distributed.ProcessGroup:
        """Apart from that of training: both are at work at once, and collectives of one group come in one order."""
        if self._group is None:
            self._group = distributed.new_group(backend="gloo")
        return self._group

    def _remove(self, is_replaced: bool) -> None:
        """Removes what is to be removed, if what takes its place is whole."""
        for path in self._removals if is_replaced else ():
            discard(path)
        self._removals = []


@dataclass
class _Pending:
    """A checkpoint of so many bytes that is being written."""

    path: Path
    size: int
    future: Future[Any]

    def tell_early(self) -> None:
        """Says what goes wrong as soon as it does: the next save, which waits for this one, may be hours away."""

        def tell(_: Future[Any]) -> None:
            if (error := self.error()) is not None:
                _say(str(error))

        self.future.add_done_callback(tell)

    def error(self) -> Exception | None:
        """Waits; what kept it from being written, in words if it is the disk's or the user's fault."""
        found = self.future.exception()
        if isinstance(found, CheckpointException):
            found = found.failures[min(found.failures)][0]
        try:
            with worded(self.path, self.size):
                if found is not None:
                    raise found
        except Exception as error:
            return error
        return None


def _require_local(path: Any) -> None:
    if _is_remote(path):
        raise ValueError(
            f"{path}: found an address; expected a folder of a file system for a distributed checkpoint. Fix: keep "
            "checkpoints on a file system that all machines mount, or leave training.checkpoints.distributed out."
        )


def _structure(path: Path, lazily: bool) -> dict[str, Any]:
    try:
        return read_structure(path, lazily)
    except ValueError as error:
        raise ValueError(f"{error}. {_fix(path)}") from error


def _say(message: str) -> None:
    """Once, whatever the number of processes: all of them know it."""
    if not distributed.is_initialized() or distributed.get_rank() == 0:
        log.warning("%s", message)


def _is_remote(path: Any) -> bool:
    return "://" in str(path)


def _fix(path: Path) -> str:
    other = newest_whole(path.parent, path)
    if other is None:
        return "Fix: there is no other whole checkpoint beside it, so begin anew, or from a finished stage's weights."
    return f"Fix: the newest whole checkpoint beside it is {other}; go on with --ckpt_path {other}"
