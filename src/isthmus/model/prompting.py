"""Conversations -> prompts, within the LLM's own context: whole oldest exchanges are left out where they exceed it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from isthmus.backbones.base import Sampling
from isthmus.data.batching.collate import Collator
from isthmus.data.conversations.schema import Conversation
from isthmus.model.memory import Memory
from isthmus.types import Batch, Modality

if TYPE_CHECKING:
    from isthmus.model.any_to_any import AnyToAny


def prompt_collator(
    model: AnyToAny, sampling: Sampling, owed: Sequence[Modality] = (), memory: Memory | None = None
) -> Collator:
    """What makes prompts, which share the LLM's context with answers that are drawn so.

    The length of training batches doesn't bind them. See :func:`isthmus.backbones.decoding.limits.prompt_limits`.

    Args:
        model: answers.
        sampling: of the answers.
        owed: media that an answer must hold.
        memory: media that it holds are neither decoded nor preprocessed.
    """
    side = model.input_side
    limits = model.backbone.language_model.prompt_limits(sampling, owed, list({*model.outputs, *owed}))
    return Collator(
        planner=model.backbone.planner,
        preprocess={} if side is None else side.preprocessors(),
        requests={} if side is None else side.requests(),
        positions=no_media if side is None else side.positions,
        outputs=model.outputs,
        prepare={},
        max_tokens=limits.longest,
        full_tokens=limits.full,
        generation_prompt=True,
        cached=None if side is None or memory is None else memory.lookups(side),
    )


def prompts(
    model: AnyToAny,
    conversations: Sequence[Conversation],
    sampling: Sampling,
    required: Sequence[Sequence[Modality]] | None = None,
    memory: Memory | None = None,
) -> Batch:
    """Conversations -> a batch of prompts on the model's device.

    Args:
        model: answers.
        conversations: the answers at their ends are cut off.
        sampling: of the answers.
        required: for each conversation the media that its answer must hold.
        memory: of the conversation, where there is one only.

    Raises:
        DataError: a malformed conversation, a medium that can't be read or isn't served, or a last turn that is too
            long by itself.
    """
    owed: Sequence[Sequence[Modality]] = [()] * len(conversations) if required is None else required
    collators = [prompt_collator(model, sampling, media, memory) for media in owed]
    samples = [collate.sample(conversation) for collate, conversation in zip(collators, conversations, strict=True)]
    return collators[0].batch(samples).to(model.device)


def no_media(modality: Modality, inputs: Mapping[str, Tensor]) -> int:
    """Positions of media for a model that takes none.

    Raises:
        ValueError: always.
    """
    raise ValueError(f"{modality}: this model has no input side and takes text alone; configure model.input_side")
