"""The tone generator's conditioner: its byte-level tokenizer and its CLAP text encoder."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from isthmus.pocket.experts.fitting import fit
from isthmus.pocket.world import COLOURS, DIGITS, MOTIONS, draw_concept
from isthmus.types import Modality

CONTEXT = 12
"""Tokens of a caption, begin and end included."""
WIDTH = 64
"""Width of the text embedding: K of the tone generator's condition."""
WORDS = ("the", "tone", "of", "a", "solid", "moving", *DIGITS, *COLOURS, *MOTIONS)
NOTHING = 10
"""The class of a caption that names no digit."""
_SHARPNESS = 12.0


def _merge(pieces: list[str], pair: tuple[str, str]) -> list[str]:
    merged: list[str] = []
    for piece in pieces:
        if merged and (merged[-1], piece) == pair:
            merged[-1] += piece
        else:
            merged.append(piece)
    return merged


def word_merges(words: list[str]) -> list[tuple[str, str]]:
    """Byte-pair merges, by rank, that join each word into one piece. A word's merges don't depend on later words."""
    merges: list[tuple[str, str]] = []
    for word in words:
        pieces = list(word)
        for pair in merges:
            pieces = _merge(pieces, pair)
        while len(pieces) > 1:
            merges.append((pieces[0], pieces[1]))
            pieces = _merge(pieces, merges[-1])
    return merges


def build_tokenizer() -> Any:
    """A ``RobertaTokenizer`` to which each word of the world is one token, after a space or not; the rest is bytes."""
    from transformers import RobertaTokenizer
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    merges = word_merges([*WORDS, *(f"Ġ{word}" for word in WORDS)])
    # A dictionary, which keeps the order: special tokens come first, and two merges may give the same piece.
    tokens = dict.fromkeys(
        ["<s>", "<pad>", "</s>", "<unk>", *bytes_to_unicode().values(), *map("".join, merges), "<mask>"]
    )
    vocabulary = {token: index for index, token in enumerate(tokens)}
    kind: Any = RobertaTokenizer
    return kind(vocab=vocabulary, merges=merges, model_max_length=CONTEXT)


def embedded(encoder: Any, tokenizer: Any, captions: list[str]) -> Tensor:
    """Captions -> (B, WIDTH), L2-normalised, padded as diffusers' AudioLDM pads."""
    inputs = tokenizer(captions, padding="max_length", max_length=CONTEXT, truncation=True, return_tensors="pt")
    embeddings: Tensor = encoder(inputs.input_ids, attention_mask=inputs.attention_mask).text_embeds
    return functional.normalize(embeddings, dim=-1)


def draw_caption(random: np.random.Generator) -> tuple[str, int]:
    """A caption with its class: a canonical one of some modality, random words with one digit, or without any."""
    concept = draw_concept(random, drop_colour=0.4, drop_motion=0.5)
    kind = random.random()
    if kind < 0.7:
        spoken = (Modality.AUDIO, Modality.AUDIO, Modality.IMAGE, Modality.VIDEO, Modality.POINTS)
        return concept.caption(spoken[random.integers(len(spoken))]), concept.digit
    others = [word for word in WORDS if word not in DIGITS]
    words = [others[random.integers(len(others))] for _ in range(random.integers(0, 5))]
    if kind < 0.85:
        words.insert(int(random.integers(len(words) + 1)), DIGITS[concept.digit])
        return " ".join(words), concept.digit
    return " ".join(words), NOTHING


def train_text_encoder(tokenizer: Any, steps: int, seed: int) -> Any:
    """A ``ClapTextModelWithProjection`` whose embedding encodes the named digit, if any, which is all that tones show.

    Its embeddings are trained towards one learned direction for each class and away from the others.
    """
    from transformers import ClapTextConfig, ClapTextModelWithProjection

    torch.manual_seed(seed)
    encoder: Any = ClapTextModelWithProjection(
        ClapTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            intermediate_size=2 * WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=CONTEXT + 2,
            type_vocab_size=1,
            projection_dim=WIDTH,
        )
    )
    # With BERT's scale of embeddings (0.02), words would have hardly any influence in an untrained two-layer model.
    nn.init.normal_(encoder.get_input_embeddings().weight, std=0.3)
    directions = nn.Linear(WIDTH, NOTHING + 1, bias=False)

    def loss(step: int) -> Tensor:
        random = np.random.default_rng((seed, step))
        captions, classes = zip(*(draw_caption(random) for _ in range(64)), strict=True)
        cosines = embedded(encoder, tokenizer, list(captions)) @ functional.normalize(directions.weight, dim=1).T
        return functional.cross_entropy(_SHARPNESS * cosines, torch.tensor(classes))

    fit("tone captions", nn.ModuleList([encoder, directions]), loss, steps, 2e-3, seed=seed)
    return encoder.eval().requires_grad_(False)
