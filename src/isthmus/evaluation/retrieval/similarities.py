"""Similarities of media and captions: cosines in the encoder's joint space, and likelihoods by the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from isthmus.data.conversations.schema import Conversation, MediumItem, Message, TextItem
from isthmus.data.media.files import read_media
from isthmus.encoders.base import Encoder
from isthmus.encoders.imagebind.encoder import ImageBind
from isthmus.model import AnyToAny
from isthmus.types import Media, Modality

ROWS = 64


def medium_of(conversation: Conversation) -> MediumItem:
    """The prompt's only medium.

    Raises:
        ValueError: there is none, or there are several.
    """
    items = [item for message in conversation.prompt().messages for item in message.content]
    given = [item for item in items if isinstance(item, MediumItem)]
    if len(given) != 1:
        raise ValueError(
            f"conversation {conversation.details.get('id', '')}: found {len(given)} media; expected one, to retrieve "
            "it by its caption. Fix: give retrieval a source of single media."
        )
    return given[0]


def has_joint_space(encoder: Encoder) -> bool:
    """Whether the encoder embeds texts and media in one space."""
    return isinstance(encoder, ImageBind) and encoder.tokens == "pooled" and "text" in encoder.config.modalities


@torch.no_grad()
def joint_similarity(
    model: AnyToAny, modality: Modality, conversations: Sequence[Conversation], captions: Sequence[str]
) -> Tensor:
    """(n, c) cosines in the encoder's joint space.

    Args:
        model: the model whose encoder is used.
        modality: of the media.
        conversations: n, of one medium each.
        captions: c.
    """
    side, collator = model.input_side, model.prompt_collator()
    assert side is not None
    encoder = side.encoder(modality)
    assert isinstance(encoder, ImageBind)
    rows = []
    for start in range(0, len(conversations), ROWS):
        batch = collator(conversations[start : start + ROWS]).to(model.device)
        rows.append(side.features(modality, batch.media[modality]).tokens[:, 0].float())
    texts = [
        encoder.encode_text(encoder.tokenize(captions[start : start + ROWS]).to(model.device)).float()
        for start in range(0, len(captions), ROWS)
    ]
    return F.normalize(torch.cat(rows), dim=-1) @ torch.cat(texts).T


@torch.no_grad()
def likelihood_similarity(
    model: AnyToAny, modality: Modality, conversations: Sequence[Conversation], captions: Sequence[str]
) -> Tensor:
    """(n, c) pointwise mutual information: log p(caption | medium) - log p(caption).

    p(caption) is the mean over these media, so that short and frequent captions aren't favoured. Each medium is encoded
    once, and n * c answers are scored.

    Args:
        model: the model to measure.
        modality: of the media.
        conversations: n, of one medium each; their last answer is replaced by each caption in turn.
        captions: c.
    """
    side = model.input_side
    assert side is not None
    rows = []
    for conversation in conversations:
        collator = model.collator()
        item = medium_of(conversation)
        assert item.media is not None
        encoder, medium = side.encoder(modality), item.media
        if not isinstance(medium, Media):
            medium = read_media(medium, modality, request=encoder.request(modality), rate=item.rate)
        # The medium is read and preprocessed once for all captions.
        inputs = encoder.preprocess(medium)
        collator.preprocess[modality] = partial(_known, inputs)
        collator.cached.pop(modality, None)
        prompt = _with_medium(conversation.prompt(), item, medium)
        found, projected = [], None
        for start in range(0, len(captions), ROWS):
            answers = [_answered(prompt, caption) for caption in captions[start : start + ROWS]]
            batch = collator(answers).to(model.device)
            if projected is None:
                projected = side(collator(answers[:1]).to(model.device).media)[modality]
            repeated = tuple(part.expand(len(answers), *part.shape[1:]) for part in projected)
            found.append(model.score(batch, projected={modality: (repeated[0], repeated[1])}).text.float())
        rows.append(torch.cat(found))
    likelihoods = torch.stack(rows)
    return likelihoods - likelihoods.logsumexp(dim=0, keepdim=True)


def _known(inputs: dict[str, Tensor], medium: Media) -> dict[str, Tensor]:
    return inputs


def _with_medium(prompt: Conversation, item: MediumItem, medium: Media) -> Conversation:
    messages = tuple(
        Message(one.role, tuple(replace(item, media=medium) if part is item else part for part in one.content))
        for one in prompt.messages
    )
    return Conversation(messages, prompt.details)


def _answered(prompt: Conversation, caption: str) -> Conversation:
    return Conversation((*prompt.messages, Message("assistant", (TextItem(caption),))), prompt.details)
