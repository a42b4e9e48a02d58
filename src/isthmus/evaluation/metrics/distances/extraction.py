"""Media -> features, in fixed chunks that processes share, and kept on a disk where a folder is given."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import torch

from isthmus.cache.store import Tensors, TensorStore
from isthmus.evaluation.metrics.base import Processes
from isthmus.evaluation.metrics.distances.base import Features
from isthmus.evaluation.metrics.distances.media import Held
from isthmus.evaluation.metrics.extractors.base import Extractor, measuring_device

Array = np.ndarray[Any, Any]
MOST_BYTES = 20_000_000_000
"""The limit of a folder of kept features: the least recently used go first."""


class Extraction:
    """Runs one extractor.

    A chunk of media is kept and found as a whole, by the extractor's identity and the media's contents: a network's
    last bits may depend on what else is in its batch, and the same media must always give the same features.

    Args:
        extractor: the network.
        folder: of kept features; None computes them each time.
    """

    def __init__(self, extractor: Extractor, folder: Path | None = None) -> None:
        self.extractor = extractor
        self.store = None if folder is None else TensorStore(folder, MOST_BYTES)

    @cached_property
    def identity(self) -> Mapping[str, Any]:
        """The extractor's; the files of its weights are read once."""
        return self.extractor.identity()

    def features(self, held: Sequence[Held], processes: Processes, what: str) -> tuple[Features, str]:
        """The features of media, one or more, in order, and a digest of their contents.

        Raises:
            DataError: a file is absent or damaged.
            ValueError: a medium can't be read by the extractor, or its features aren't finite.
        """
        rows = processes.map(self._chunk, held, self.extractor.chunk, what)
        values = np.stack([row[0] for row in rows]).astype(np.float64)
        scores = [row[1] for row in rows if row[1] is not None]
        logits = np.stack(scores).astype(np.float64) if scores else None
        contents = [row[2] for row in rows]
        owners, prompts, places = zip(*((one.owner, one.prompt, one.place) for one in held), strict=True)
        return Features(values, logits, owners, prompts, places, contents), digest_of(contents)

    def _chunk(self, held: Sequence[Held]) -> list[tuple[Array, Array | None, str]]:
        contents = [one.content for one in held]
        name = digest_of([json.dumps(dict(self.identity), sort_keys=True, default=str), *contents])
        kept = None if self.store is None else self.store.get(name)
        if kept is None:
            kept = self._computed(held)
            if self.store is not None:
                self.store.put({name: kept})
        values = kept["values"].numpy()
        logits = kept["logits"].numpy() if "logits" in kept else None
        return [(values[at], None if logits is None else logits[at], contents[at]) for at in range(len(held))]

    def _computed(self, held: Sequence[Held]) -> Tensors:
        request = self.extractor.request(held[0].modality)
        media = [one.read(request) for one in held]
        # Whatever precision the Trainer runs in, figures are those of the extractor's own.
        with torch.no_grad(), torch.autocast(measuring_device().type, enabled=False):
            values, logits = self.extractor.extract(media)
        for found in (values, logits):
            if found is not None and not np.isfinite(found).all():
                at = int((~np.isfinite(found)).any(1).argmax())
                raise ValueError(
                    f"{media[at].source}: {type(self.extractor).__name__} gives values that aren't finite; expected "
                    "numbers. Fix: look at the file, and check the extractor's weights."
                )
        kept = {"values": torch.from_numpy(np.ascontiguousarray(values))}
        return kept if logits is None else kept | {"logits": torch.from_numpy(np.ascontiguousarray(logits))}


def digest_of(parts: Sequence[str]) -> str:
    """A digest of texts in order."""
    digest = blake2b(digest_size=16)
    for part in parts:
        digest.update(f"{len(part)}:{part}".encode())
    return digest.hexdigest()
