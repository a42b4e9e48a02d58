"""What a request for an answer may ask, and how long the answer may grow."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from isthmus.types import MEDIA, Modality
from isthmus.vocabulary import Vocabulary


def check_requests(
    prompts: int, required: Sequence[Sequence[Modality]] | None, allowed: Sequence[Modality] | None
) -> tuple[list[list[Modality]], list[Modality]]:
    """The media owed to each prompt, and those that may be emitted at all.

    Raises:
        ValueError: an allowed one is no medium, the required lists differ in number from the prompts, or a required
            medium isn't allowed.
    """
    permitted = list(MEDIA if allowed is None else allowed)
    if unknown := [modality for modality in permitted if modality not in MEDIA]:
        raise ValueError(f"allowed: found {', '.join(unknown)}; expected any of {', '.join(MEDIA)}")
    permitted = [Modality(modality) for modality in permitted]
    if required is None:
        return [[] for _ in range(prompts)], permitted
    if len(required) != prompts:
        raise ValueError(f"required: found {len(required)} lists of media for {prompts} prompts; expected one a prompt")
    for media in required:
        for modality in media:
            if modality not in permitted:
                raise ValueError(
                    f"required: found {modality}, which may not be emitted; "
                    f"expected any of {', '.join(permitted) or 'no media'}"
                )
    return [[Modality(modality) for modality in media] for media in required], permitted


def answer_limits(
    prompt_lengths: Sequence[int],
    max_tokens: int,
    owed: Sequence[Sequence[Modality]],
    permitted: Collection[Modality],
    vocabulary: Vocabulary,
    config: Any,
) -> list[int]:
    """Tokens after which each answer ends, so that it stays within the LLM's positions with all that it owes.

    Room is kept for the owed runs, and for a run that begins at the last moment.

    Raises:
        ValueError: a prompt leaves no room.
    """
    positions = getattr(config, "max_position_embeddings", None)
    if positions is None:
        return [max_tokens] * len(prompt_lengths)
    counts = vocabulary.signal_counts
    longest = max((counts[modality] for modality in permitted), default=1)
    limits = []
    for row, (length, media) in enumerate(zip(prompt_lengths, owed, strict=True)):
        room = positions - length - sum(counts[modality] for modality in media) - (longest - 1)
        if room < 1:
            raise ValueError(
                f"prompt {row}: found {length} positions, of which the LLM has {positions}; expected room for an "
                "answer and its media. "
                "Shorten the conversation or attach fewer media."
            )
        limits.append(min(max_tokens, room))
    return limits
