"""Checks of a request for an answer, and limits of the answer's length."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from isthmus.backbones.base import PromptLimits
from isthmus.types import Modality
from isthmus.vocabulary import Vocabulary


def check_requests(
    prompts: int,
    required: Sequence[Sequence[Modality]] | None,
    allowed: Sequence[Modality] | None,
    vocabulary: Vocabulary,
) -> tuple[list[list[Modality]], list[Modality]]:
    """The media required for each prompt, and those that may be emitted.

    Raises:
        ValueError: an allowed one isn't a medium, the number of required lists isn't that of prompts, or a required
            medium isn't allowed.
    """
    permitted = list(vocabulary.media if allowed is None else allowed)
    if unknown := [modality for modality in permitted if modality not in vocabulary.media]:
        raise ValueError(f"allowed: found {', '.join(unknown)}; expected any of {', '.join(vocabulary.media)}")
    permitted = [Modality(modality) for modality in permitted]
    if required is None:
        return [[] for _ in range(prompts)], permitted
    if len(required) != prompts:
        raise ValueError(f"required: found {len(required)} lists of media for {prompts} prompts; expected one for each")
    for media in required:
        for modality in media:
            if modality not in permitted:
                raise ValueError(
                    f"required: found {modality}, which may not be emitted; "
                    f"expected any of {', '.join(permitted) or 'no media'}"
                )
    return [[Modality(modality) for modality in media] for media in required], permitted


def context_of(config: Any, lowered: int | None = None) -> int | None:
    """The most positions of a prompt and its answer together; None if there is no limit.

    It is read from the LLM's configuration. Scaled rotary positions extend it: ``linear`` and ``dynamic`` by their
    factor, ``yarn`` to its factor times the original length; for other kinds the configured number already includes
    the extension. Relative positions (T5, ALiBi) have no limit, unless the configuration names one.

    Args:
        config: of the LLM.
        lowered: a lower limit of the user's.

    Raises:
        ValueError: ``lowered`` exceeds the LLM's limit.
    """
    positions = getattr(config, "max_position_embeddings", None) or getattr(config, "max_seq_len", None)
    if positions is not None:
        rope = getattr(config, "rope_parameters", None) or {}
        factor = rope.get("factor") or 1
        match rope.get("rope_type"):
            case "linear" | "dynamic":
                positions = int(positions * factor)
            case "yarn":
                positions = max(positions, int(factor * rope.get("original_max_position_embeddings", positions)))
    if lowered is not None and positions is not None and lowered > positions:
        raise ValueError(
            f"sampling: found context {lowered}; the LLM has {positions} positions. Fix: lower it, or leave it out."
        )
    return positions if lowered is None else lowered


def prompt_limits(
    context: int | None,
    max_new_tokens: int,
    owed: Sequence[Modality],
    permitted: Collection[Modality],
    vocabulary: Vocabulary,
) -> PromptLimits:
    """The longest prompts that leave room for an answer in the same positions.

    A full answer has ``max_new_tokens``, but at most a quarter of the context, plus the runs that it needs.

    Raises:
        ValueError: the runs leave no room for a prompt.
    """
    if context is None:
        return PromptLimits()
    runs = _room_of_runs(owed, permitted, vocabulary)
    if context < runs + 2:
        raise ValueError(
            f"context: found {context} positions; expected at least {runs + 2}, since the answer's media take {runs}. "
            "Fix: raise sampling.context, or require fewer media."
        )
    return PromptLimits(context - runs - min(max_new_tokens, max(context // 4, 1)), context - runs - 1, context)


def answer_limits(
    prompt_lengths: Sequence[int],
    max_new_tokens: int,
    owed: Sequence[Sequence[Modality]],
    permitted: Collection[Modality],
    vocabulary: Vocabulary,
    context: int | None,
) -> list[int]:
    """The tokens after which each answer ends, so that it fits into the context with its required media.

    Raises:
        ValueError: a prompt leaves no room.
    """
    limits = []
    for row, (length, media) in enumerate(zip(prompt_lengths, owed, strict=True)):
        longest = prompt_limits(context, max_new_tokens, media, permitted, vocabulary).longest
        if longest is not None and length > longest:
            raise ValueError(
                f"prompt {row}: found {length} positions, of which the LLM has {context}; expected room for an "
                "answer and its media. "
                "Shorten the conversation or attach fewer media."
            )
        limits.append(max_new_tokens if longest is None else min(max_new_tokens, longest - length + 1))
    return limits


def _room_of_runs(owed: Sequence[Modality], permitted: Collection[Modality], vocabulary: Vocabulary) -> int:
    """Positions of the required runs, and of the rest of a run that begins at the last token."""
    counts = vocabulary.signal_counts
    longest = max((counts[modality] for modality in permitted if modality in counts), default=1)
    return sum(counts[modality] for modality in owed) + longest - 1
