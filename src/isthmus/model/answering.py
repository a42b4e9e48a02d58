"""From decoded text and signal runs to replies: each run's medium is made, and stands where its run stood."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch

from isthmus.backbones.base import Answer, SignalRun
from isthmus.data.sampling.seeds import derive_seed
from isthmus.generators.steps import named_rows
from isthmus.model.output_side import OutputSide
from isthmus.model.reply import Reply
from isthmus.types import Media, Modality


def check_served(required: Sequence[Sequence[Modality]] | None, outputs: Sequence[Modality]) -> None:
    """Holds the media that replies must hold against those that the model makes.

    Raises:
        ValueError: a required medium has no generator.
    """
    for row in required or ():
        for modality in row:
            if modality not in outputs:
                raise ValueError(
                    f"{modality} is required, but this model makes {', '.join(['text', *outputs])}. Fix: ask for one "
                    f"of these, or configure a generator for {modality}."
                )


def media_of(answered: Answer, serving: Iterable[Modality]) -> list[Modality]:
    """The modalities of an answer's media, in the order in which they are made."""
    held = {piece.modality for piece in answered.pieces if isinstance(piece, SignalRun)}
    return [modality for modality in serving if modality in held]


def make_media(
    side: OutputSide,
    modality: Modality,
    answers: Sequence[Answer],
    seeds: Sequence[int],
    num_inference_steps: int | None,
    guidance_scale: float | None,
) -> list[dict[int, Media]]:
    """Of each answer, piece -> its medium of this modality; those of all answers are made together.

    Whoever watches the steps names a medium by the numbers of its answer and of its piece.

    Args:
        side: the model's.
        modality: of the media.
        answers: decoded.
        seeds: one an answer, of its media.
        num_inference_steps: of the generators; each one's own if None.
        guidance_scale: likewise.
    """
    places, states = [], []
    for row, answered in enumerate(answers):
        for index, piece in enumerate(answered.pieces):
            if isinstance(piece, SignalRun) and piece.modality is modality:
                places.append((row, index))
                states.append(piece.states)
    made: list[dict[int, Media]] = [{} for _ in answers]
    if places:
        # Two media of one reply differ, and a reply's media don't depend on who else is in the batch.
        own = [derive_seed(seeds[row], index) % 2**31 for row, index in places]
        with named_rows(places):
            drawn = side.generate(modality, torch.stack(states), own, num_inference_steps, guidance_scale)
        for (row, index), medium in zip(places, drawn, strict=True):
            made[row][index] = medium
    return made


def reply_of(answered: Answer, media: Mapping[int, Media], left_out: int) -> Reply:
    """An answer as a reply, its runs replaced by their media, which are given by piece."""
    content: list[str | Media] = []
    forced = []
    for index, piece in enumerate(answered.pieces):
        if isinstance(piece, SignalRun):
            content.append(media[index])
            if piece.forced:
                forced.append(piece.modality)
        else:
            content.append(piece)
    return Reply(content, forced, answered.ended, answered.tokens, answered.ids, left_out)
