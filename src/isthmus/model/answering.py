"""From prompts to replies: decode text and signal runs, then make each run's medium."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from isthmus.backbones.base import Answer, Sampling, SignalRun
from isthmus.data.conversations.schema import parse_conversation
from isthmus.data.sampling.seeds import derive_seed
from isthmus.model.memory import Memory
from isthmus.model.reply import Reply
from isthmus.types import MEDIA, Batch, Features, Media, Modality

if TYPE_CHECKING:
    from isthmus.model.any_to_any import AnyToAny


@torch.no_grad()
def answer(
    model: AnyToAny,
    batch: Batch,
    sampling: Sampling,
    required: Sequence[Sequence[Modality]] | None = None,
    allowed: Sequence[Modality] | None = None,
    seeds: Sequence[int] | None = None,
    steps: int | None = None,
    guidance: float | None = None,
    memory: Memory | None = None,
    features: Mapping[Modality, Features] | None = None,
) -> list[Reply]:
    """Answers a batch of prompts; the media of all of them are made together, a modality at a time.

    Args:
        model: built.
        batch: prompts, as ``model.prompts`` and ``model.collator("test")`` make them.
        sampling: how text is drawn.
        required: for each prompt the media that its reply must hold; what the LLM doesn't ask for is forced.
        allowed: media that may be made; all that have a generator if None.
        seeds: one a prompt, of its media; ``sampling.seed`` plus the row if None.
        steps: of the generators; each one's own if None.
        guidance: likewise.
        memory: of the conversation, for a batch of one prompt that was made with it: what it holds isn't computed
            again, and what is new is added.
        features: F of the prompts' media by modality, where they are known; they are encoded otherwise.

    Raises:
        ValueError: a required medium has no generator.
    """
    outputs = model.outputs
    for row in required or ():
        for modality in row:
            if modality not in outputs:
                raise ValueError(
                    f"{modality} is required, but this model makes {', '.join(['text', *outputs])}: "
                    f"ask for one of these, or configure a generator for {modality}"
                )
    permitted = outputs if allowed is None else [modality for modality in allowed if modality in outputs]
    side, kept = model.input_side, None if memory is None else memory.prefix
    if side is None:
        projected: dict[Modality, tuple[Tensor, Tensor]] = {}
    else:
        projected = side(batch.media, features) if memory is None else memory.project(side, batch.media)
    closed = batch if side is None else side.closed(batch, projected)
    answers = model.backbone.language_model.generate(closed, projected, sampling, required, permitted, kept)
    row_seeds = [sampling.seed + row for row in range(len(answers))] if seeds is None else list(seeds)
    media = _media(model, answers, row_seeds, steps, guidance)
    left_out = batch.left_out or [0] * len(answers)
    return [_reply(answered, media, row, left_out[row]) for row, answered in enumerate(answers)]


def _media(
    model: AnyToAny, answers: Sequence[Answer], seeds: Sequence[int], steps: int | None, guidance: float | None
) -> dict[tuple[int, int], Media]:
    """(row, piece) -> its medium."""
    made: dict[tuple[int, int], Media] = {}
    for modality in model.outputs:
        assert model.output_side is not None
        places, states = [], []
        for row, answered in enumerate(answers):
            for index, piece in enumerate(answered.pieces):
                if isinstance(piece, SignalRun) and piece.modality is modality:
                    places.append((row, index))
                    states.append(piece.states)
        if places:
            # Two media of one reply differ, and a reply's media don't depend on who else is in the batch.
            own = [derive_seed(seeds[row], index) % 2**31 for row, index in places]
            drawn = model.output_side.generate(modality, torch.stack(states), own, steps, guidance)
            made |= dict(zip(places, drawn, strict=True))
    return made


def _reply(answered: Answer, media: Mapping[tuple[int, int], Media], row: int, left_out: int) -> Reply:
    content: list[str | Media] = []
    forced = []
    for index, piece in enumerate(answered.pieces):
        if isinstance(piece, SignalRun):
            content.append(media[row, index])
            if piece.forced:
                forced.append(piece.modality)
        else:
            content.append(piece)
    return Reply(content, forced, answered.ended, answered.tokens, answered.ids, left_out)


def converse(
    model: AnyToAny,
    messages: Sequence[Mapping[str, Any]],
    require: Sequence[str],
    sampling: Sampling,
    steps: int | None = None,
    guidance: float | None = None,
) -> Reply:
    """Answers the last turn of a conversation in the chat-content convention.

    Where it exceeds the LLM's context, whole oldest exchanges are left out: ``Reply.left_out``.

    Args:
        model: built.
        messages: ``{"role", "content"}``; content is a string or a list of text and media, which are paths, arrays,
            pictures or :class:`~isthmus.types.Media`. Media of earlier answers go back in as they came.
        require: media that the reply must hold, such as ``["image"]``.
        sampling: how text is drawn; its seed fixes the media too.
        steps: of the generators.
        guidance: of the generators.

    Raises:
        ValueError: a message is malformed, a medium isn't served, or a required one has no generator.
    """
    unknown = [name for name in require if name not in MEDIA]
    if unknown:
        raise ValueError(f"require: found '{unknown[0]}'; expected media: {', '.join(MEDIA)}")
    conversation = parse_conversation({"messages": list(messages)}, "messages", captions_required=False)
    required = [[Modality(name) for name in require]]
    batch = model.prompts([conversation], sampling, required)
    (reply,) = answer(model, batch, sampling, required, None, [sampling.seed], steps, guidance)
    return reply
