"""Reads a checkpoint's folder: of each tensor the shard that a process holds, or the whole. No communication."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta, TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.tensor import DTensor

from isthmus.backbones.owned_state import share_of
from isthmus.training.checkpoints.files import read_file
from isthmus.training.checkpoints.found import files_of
from isthmus.training.checkpoints.shard_writer import METADATA, STRUCTURE
from isthmus.training.checkpoints.structure import Place, key_of, mapped

Layout = Callable[[Place], Tensor | None]
"""Where a tensor stands in a checkpoint -> a tensor of the layout that it is wanted in; None for whole tensors."""

CLASSES = {
    "torch.distributed.checkpoint.metadata": {
        "Metadata",
        "TensorStorageMetadata",
        "TensorProperties",
        "ChunkStorageMetadata",
        "MetadataIndex",
        "_MEM_FORMAT_ENCODING",
    },
    "torch.distributed.checkpoint.filesystem": {"_StorageInfo"},
    "torch.serialization": {"_get_layout"},
    "torch": {"Size"},
}
"""What the file that says where shards lie may name: plain records of torch's. Reading it runs no other code."""


def whole(_: Place) -> None:
    """The layout of whole tensors."""
    return


def read_structure(path: Path, lazily: bool = True) -> dict[str, Any]:
    """A checkpoint whose tensors aren't read yet: on the meta device for a folder, on the disk for a file.

    Args:
        path: of the checkpoint.
        lazily: whether a file's tensors stay on the disk until they are used.

    Raises:
        ValueError: see :func:`isthmus.training.checkpoints.files.read_file`.
    """
    return read_file(path / STRUCTURE) if path.is_dir() else read_file(path, lazily)


def fill(path: Path, tree: Any, layout: Layout = whole, at: Place = ()) -> Any:
    """Reads the tensors of a part of a checkpoint.

    Args:
        path: the checkpoint, a file or a folder.
        tree: the part, of :func:`read_structure`.
        layout: what each tensor is wanted as. A process reads its own shards of those that are sharded.
        at: where the part stands in the checkpoint.

    Returns:
        The part, with tensors in their layout; whole ones are on the CPU.

    Raises:
        ValueError: the checkpoint's tables don't name these tensors, or name what isn't a tensor.
    """
    targets: dict[str, Tensor] = {}

    def allocated(place: Place, leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        own = layout(place)
        if own is None or own.shape != leaf.shape:  # an optimizer's state may hold tensors of other shapes
            own = None
        if not leaf.is_meta:
            return leaf if own is None else share_of(own, leaf)
        made = torch.empty(leaf.shape, dtype=leaf.dtype) if own is None else torch.empty_like(own, dtype=leaf.dtype)
        targets[key_of(place)] = made
        return made

    filled = mapped(allocated, tree, at)
    if targets:
        reader = _Reader(path)
        if absent := sorted(targets.keys() - reader.metadata.state_dict_metadata.keys()):
            raise ValueError(f"{path}: {METADATA} has no {absent[0]}, which {STRUCTURE} names. Copy the folder anew.")
        planner = DefaultLoadPlanner(flatten_state_dict=False, flatten_sharded_tensors=False)
        load(targets, storage_reader=reader, planner=planner, no_dist=True)  # each process reads by itself
    return filled


class _Reader(FileSystemReader):
    """Torch's, which reads its table as plain records, of this folder's files."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        table = folder / METADATA
        try:
            with table.open("rb") as file:
                metadata = _Records(file).load()
        except (pickle.UnpicklingError, AttributeError, EOFError, IndexError, TypeError, ValueError) as error:
            raise ValueError(f"{table}: damaged, or no table of shards ({error}). Copy the folder anew.") from error
        if not isinstance(metadata, Metadata) or not all(
            isinstance(each, TensorStorageMetadata) for each in metadata.state_dict_metadata.values()
        ):
            raise ValueError(f"{table}: found more than tensors; expected a checkpoint of this package.")
        known = files_of(folder)
        if strange := {each.relative_path for each in metadata.storage_data.values()} - known.keys():
            raise ValueError(f"{table}: names {min(strange)}, which the manifest doesn't. Copy the folder anew.")
        metadata.storage_meta = StorageMeta()
        self.metadata = metadata

    def read_metadata(self) -> Metadata:
        """See torch."""
        return self.metadata


class _Records(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        found = getattr(torch, name, None) if module == "torch" else None
        if not isinstance(found, torch.dtype) and name not in CLASSES.get(module, ()):
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return super().find_class(module, name)


def layout_of(held: dict[str, Tensor]) -> Layout:
    """The layout of a model's own tensors, for the part of a checkpoint that holds its weights."""

    def find(place: Place) -> Tensor | None:
        return held.get(str(place[1])) if len(place) == 2 and place[0] == "state_dict" else None

    return find


def layout_of_optimizers(optimizers: list[torch.optim.Optimizer]) -> Layout:
    """The layout of optimizers' states: what has a parameter's shape is sharded as the parameter is."""
    held = [[own for group in each.param_groups for own in group["params"]] for each in optimizers]

    def find(place: Place) -> Tensor | None:
        match place:
            case ("optimizer_states", int(index), "state", int(number), str()) if number < len(held[index]):
                own: Tensor = held[index][number]
                return own if isinstance(own, DTensor) else None
        return None

    return find
