"""P of a prompt's media, one medium at a time: so what each gives depends neither on the others nor on their number."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from hashlib import blake2b

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn.utils.rnn import pad_sequence

from isthmus.backbones.decoding.kept import Kept
from isthmus.model.input_side import InputSide
from isthmus.types import MediaBatch, Modality


def finite(projected: Mapping[Modality, tuple[Tensor, Tensor]]) -> Mapping[Modality, tuple[Tensor, Tensor]]:
    """The same P (n, M, E) and masks (n, M) by modality, whose numbers an LLM can go on with.

    Raises:
        ValueError: a medium's tokens aren't finite.
    """
    for modality, (tokens, mask) in projected.items():
        if isinstance(tokens, FakeTensor):  # a rehearsal has no numbers
            continue
        if not (torch.isfinite(tokens).all(-1) | ~mask).all():
            raise ValueError(
                f"messages: the encoder makes numbers that aren't finite of a medium of type {modality}; expected "
                "finite ones. Fix: bring its values to the usual range, or leave it out."
            )
    return projected


class Projecting:
    """The media of one prompt on their way to P. Iterating runs one medium a step, unless it is kept.

    Args:
        side: encodes and projects.
        media: of the prompt.
        kept: P of media by their content, which it adds to.

    Attributes:
        projected: by modality P (n, M, E) and its mask (n, M); whole after the last step.
    """

    def __init__(self, side: InputSide, media: Mapping[Modality, MediaBatch], kept: Kept) -> None:
        self.side, self.media, self.kept = side, media, kept
        self.projected: dict[Modality, tuple[Tensor, Tensor]] = {}

    def __iter__(self) -> Iterator[None]:
        for modality, batch in self.media.items():
            count = len(next(iter(batch.inputs.values())))
            rows = []
            for at in range(count):
                own = replace(
                    batch, inputs={name: each[at : at + 1] for name, each in batch.inputs.items()}, index=None
                )
                digest = self._digest(modality, own)
                found = self.kept.get(digest)
                if found is None:
                    tokens, mask = finite(self.side({modality: own}))[modality]
                    found = tokens[0], mask[0]
                    self.kept.keep(digest, found, tokens.nbytes + mask.nbytes)
                    yield
                rows.append(found)
            padded = [pad_sequence(list(each), batch_first=True) for each in zip(*rows, strict=True)]
            tokens, mask = padded if batch.index is None else (each[batch.index] for each in padded)
            self.projected[modality] = tokens, mask

    def _digest(self, modality: Modality, batch: MediaBatch) -> bytes:
        """Of a medium as it is encoded, and of who encodes it."""
        digest = blake2b(f"{id(self.side)} {modality}".encode(), digest_size=32)
        for name, values in sorted(batch.inputs.items()):
            digest.update(f"{name} {values.dtype} {tuple(values.shape)}".encode())
            digest.update(values.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
        return digest.digest()
