"""Conversations of the embedded world, and an independent reading of what a tiny model should make of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from isthmus.data.conversations.schema import Conversation, MediumItem, Message, TextItem
from isthmus.model import AnyToAny
from isthmus.pocket.world import Concept, draw
from isthmus.types import IGNORED, MEDIA, Features, Media, Modality
from isthmus.vocabulary import MEDIA_POSITION

Piece = str | tuple[str, int]
"""Words, or a medium: its modality and the digit that it shows."""


def medium(modality: str, digit: int) -> Media:
    """The same digit is the same array each time."""
    return draw(Modality(modality), Concept(digit, "red", "left"), "test", np.random.default_rng(digit))


def caption(modality: str, digit: int) -> str:
    return Concept(digit, "red", "left").caption(Modality(modality))


def talk(asked: Sequence[Piece], said: Sequence[Piece], with_content: bool = True, seed: int = 0) -> Conversation:
    """One turn each. What the assistant makes brings its caption, and its medium if ``with_content``."""
    given = [TextItem(p) if isinstance(p, str) else MediumItem(Modality(p[0]), medium(*p)) for p in asked]
    made = [
        TextItem(p)
        if isinstance(p, str)
        else MediumItem(Modality(p[0]), medium(*p) if with_content else None, caption(*p))
        for p in said
    ]
    return Conversation((Message("user", tuple(given)), Message("assistant", tuple(made))), {"seed": seed})


def mixed() -> list[Conversation]:
    """Every input, every output of the tiny world; rows of several lengths, and runs with and without a file."""
    return [
        talk(["what is ", ("image", 3), " and ", ("audio", 4)], ["seven: ", ("image", 7), " or ", ("image", 2)]),
        talk([("points", 5), ("image", 1)], [("audio", 5)], seed=40),
        talk(["say hi"], ["hi"]),
        talk([("video", 2), "again"], ["see ", ("video", 2), ("image", 9)], with_content=False),
    ]


@dataclass
class Run:
    """A run's states (S, E), the state (E,) that predicts its first token, and whether that token was the likeliest."""

    modality: Modality
    states: Tensor
    before: Tensor
    is_called: bool


@dataclass
class Read:
    """What one conversation comes to: summed cross-entropy, hits, targets, and its runs in order."""

    text: Tensor
    correct: int
    tokens: int
    runs: list[Run]


@torch.no_grad()
def read(model: AnyToAny, conversation: Conversation) -> Read:
    """Runs the LLM's own forward over one conversation, without padding, cache or chunks."""
    collated = model.collator()([conversation])
    ids, labels = collated.ids[0], collated.labels[0]
    language_model = model.backbone.language_model
    vocabulary, rows = language_model.vocabulary, language_model.rows
    llm = language_model.llm
    table = torch.cat([llm.get_input_embeddings().weight, rows.media_tags, rows.signal_rows])
    embeddings = table[ids.clamp(min=0)]
    places = (ids == MEDIA_POSITION).nonzero().flatten().tolist()
    items = [item for message in conversation.messages for item in message.content]
    for item in items:
        if isinstance(item, MediumItem) and isinstance(item.media, Media) and item.caption is None:
            encoder = model.input_side.encoder(item.modality)
            encoder.load()
            inputs = {name: tensor[None] for name, tensor in encoder.preprocess(item.media).items()}
            features: Features = encoder(item.modality, inputs)
            projected, mask = model.input_side.projector(item.modality)(features)
            for row in projected[0][mask[0]]:
                embeddings[places.pop(0)] = row
    assert not places, "as many positions as rows"
    hidden = llm(inputs_embeds=embeddings[None], output_hidden_states=True).hidden_states[-1][0]
    logits = torch.cat([hidden @ llm.get_output_embeddings().weight.T, hidden @ rows.run_starts.T], -1)
    starts = list(vocabulary.starts())
    text, correct = torch.zeros(()), 0
    found: list[Run] = []
    for place in (labels != IGNORED).nonzero().flatten().tolist():
        label = int(labels[place])
        column = vocabulary.base_size + starts.index(label) if label in starts else label
        text = text - logits[place - 1].log_softmax(-1)[column]
        hit = int(logits[place - 1].argmax()) == column
        correct += hit
        if label in starts:
            modality = vocabulary.starts()[label]
            run = slice(place, place + vocabulary.signal_counts[modality])
            found.append(Run(modality, hidden[run] + embeddings[run], hidden[place - 1], hit))
    return Read(text, correct, int((labels != IGNORED).sum()), found)


@torch.no_grad()
def insist(model: AnyToAny, conversation: Conversation, modality: str) -> None:
    """Turns a medium's output row so that it is the likeliest beginning of an answer to this prompt of words alone."""
    rows = model.backbone.language_model.rows
    llm = model.backbone.language_model.llm
    state = llm(model.prompts([conversation]).ids, output_hidden_states=True).hidden_states[-1][0, -1]
    rows.run_starts[MEDIA.index(Modality(modality))] = 200 * state / state.square().sum()
