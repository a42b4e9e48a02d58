"""The captions of the image and video generators, their tokenizer and their text encoder."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from isthmus.pocket.experts.fitting import fit
from isthmus.pocket.experts.tokenizers import clip_tokenizer
from isthmus.pocket.world import COLOURS, DIGITS, MOTIONS, Concept
from isthmus.types import Modality

if TYPE_CHECKING:
    from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    TextModel = TypeVar("TextModel", CLIPTextModel, CLIPTextModelWithProjection)

CONTEXT = 8
"""Tokens of a caption, begin and end included: "a red seven moving left" has seven."""
WIDTH = 64


def caption_concepts() -> list[Concept]:
    """Every concept of a video, with or without each attribute except the digit, in fixed order."""
    choices = product(range(10), (None, *COLOURS), (None, *MOTIONS))
    return [Concept(digit, colour, motion) for digit, colour, motion in choices]


def build_tokenizer() -> CLIPTokenizer:
    """A CLIP tokenizer to which every word of the world is one token; any other text falls back to bytes."""
    return clip_tokenizer(["a", "the", "tone", "of", "solid", "moving", *DIGITS, *COLOURS, *MOTIONS], CONTEXT)


def tokenized(tokenizer: CLIPTokenizer, captions: list[str]) -> Tensor:
    """Ids (B, CONTEXT), padded as the diffusers pipelines pad."""
    ids: Tensor = tokenizer(
        captions, padding="max_length", max_length=CONTEXT, truncation=True, return_tensors="pt"
    ).input_ids
    return ids


def build_text_model(kind: type[TextModel], tokenizer: CLIPTokenizer, inner: int) -> TextModel:
    """CLIP's text tower with two layers, untrained."""
    from transformers import CLIPTextConfig

    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=inner,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=CONTEXT,
        projection_dim=WIDTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    encoder = kind(config)
    # With CLIP's scale of embeddings (0.02), words would have hardly any influence in an untrained two-layer model.
    embedding = encoder.get_input_embeddings().weight
    assert isinstance(embedding, Tensor)
    nn.init.normal_(embedding, std=0.3)
    return encoder


def train_text_encoder(tokenizer: CLIPTokenizer, steps: int, seed: int) -> CLIPTextModel:
    """A CLIP text model trained by temporary heads that predict the attributes from its pooled output."""
    from transformers import CLIPTextModel

    torch.manual_seed(seed)
    encoder = build_text_model(CLIPTextModel, tokenizer, 4 * WIDTH)
    sizes = (10, len(COLOURS) + 1, len(MOTIONS) + 1)
    heads = nn.ModuleList(nn.Linear(WIDTH, size) for size in sizes)
    concepts = caption_concepts()
    ids = tokenized(tokenizer, [concept.caption(Modality.VIDEO) for concept in concepts])
    labels = torch.tensor(
        [(c.digit, (None, *COLOURS).index(c.colour), (None, *MOTIONS).index(c.motion)) for c in concepts]
    )

    def loss(step: int) -> Tensor:
        chosen = torch.randint(len(concepts), (64,))
        pooled = encoder(ids[chosen]).pooler_output
        terms = [functional.cross_entropy(head(pooled), labels[chosen, i]) for i, head in enumerate(heads)]
        return torch.stack(terms).sum()

    fit("captions", nn.ModuleList([encoder, heads]), loss, steps, 2e-3, seed=seed)
    encoder.eval().requires_grad_(False)
    return encoder
