"""Lengths of real captions, and conversations of words that have them.

What a word says doesn't matter to how long a step takes; how many there are does. Words a caption: CC3M 10.3 with a
deviation of 4.5 (Sharma et al. 2018, table 1); WebVid about 12 (Bain et al., arXiv 2104.00650) and AudioCaps about 9
(Kim et al. 2019), to which we give CC3M's relative deviation. An answer of instruction data is three sentences. A word
is 1.35 tokens of Llama's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from isthmus.data.conversations.schema import ContentItem, Conversation, MediumItem, Message, TextItem
from isthmus.types import Media, Modality

WORDS = {Modality.IMAGE: 10.3, Modality.VIDEO: 12.0, Modality.AUDIO: 9.0}
DEVIATION = 4.5 / 10.3
TOKENS_A_WORD = 1.35
SENTENCES = 3
MODALITIES = tuple(WORDS)
SETS: dict[str, tuple[Modality | None, Modality | None]] = {
    "audio_instruction": (None, Modality.AUDIO),
    "video_instruction": (None, Modality.VIDEO),
    "image_instruction": (None, Modality.IMAGE),
    "llava_instruction": (Modality.IMAGE, None),
    "alpaca_instruction": (None, None),
}
"""The sets of NExT-GPT v1's own third stage (``code/config/stage_3.yaml``) -> the media that they take and make."""


def words(count: int, generator: np.random.Generator, known: int) -> str:
    """So many tokens, of ``known`` different ones."""
    return " ".join(f"w{number}" for number in generator.integers(0, known, count))


def caption_tokens(modality: Modality, generator: np.random.Generator) -> int:
    """The length of a caption in tokens, at least three: gamma distributed, as lengths are skewed."""
    shape = 1 / DEVIATION**2
    drawn = generator.gamma(shape, WORDS[modality] * TOKENS_A_WORD / shape)
    return max(3, round(drawn))


def medium(modality: Modality, generator: np.random.Generator, side: int) -> Media:
    """Noise of the modality: a picture of so many pixels a side, 3 s of video, 3 s of sound."""
    match modality:
        case Modality.IMAGE:
            return Media(modality, generator.integers(0, 256, (side, side, 3), dtype=np.uint8))
        case Modality.VIDEO:
            return Media(modality, generator.integers(0, 256, (24, side, side, 3), dtype=np.uint8), rate=8.0)
        case _:
            return Media(modality, generator.normal(0, 0.1, 48_000).astype(np.float32), rate=16_000.0)


def conversation(stage: int, modality: Modality, generator: np.random.Generator, side: int, known: int) -> Conversation:
    """One sample of NExT-GPT's stage 1, 2 or 3, its medium and caption drawn.

    Stage 1: a medium and ``generate a caption`` -> the caption. Stage 2: a caption -> the same caption and the medium.
    Stage 3: a medium and a question -> an answer of three sentences, and for every other sample a medium.
    """
    text = words(caption_tokens(modality, generator), generator, known)
    seed = int(generator.integers(1 << 31))
    asked: tuple[ContentItem, ...]
    said: tuple[ContentItem, ...]
    match stage:
        case 1:
            asked = (MediumItem(modality, medium(modality, generator, side)), TextItem(" w1 w2 w3 w4"))
            said = (TextItem(text),)
        case 2:
            asked = (TextItem(text),)
            said = (TextItem(text), MediumItem(modality, None, text))
        case _:
            asked, said = _instruction(text, modality, modality, 0.5, generator, side, known)
    return Conversation((Message("user", asked), Message("assistant", said)), {"seed": seed})


def _instruction(
    text: str,
    takes: Modality | None,
    makes: Modality | None,
    share: float,
    generator: np.random.Generator,
    side: int,
    known: int,
) -> tuple[tuple[ContentItem, ...], tuple[ContentItem, ...]]:
    """A medium, if one is taken, and a question; an answer of three sentences, with a medium of ``text`` in a share."""
    about = takes or makes or Modality.IMAGE
    question = words(caption_tokens(about, generator), generator, known)
    answer = [words(caption_tokens(about, generator), generator, known) for _ in range(SENTENCES)]
    taken = () if takes is None else (MediumItem(takes, medium(takes, generator, side)),)
    made = () if makes is None or generator.random() >= share else (MediumItem(makes, None, text),)
    return (*taken, TextItem(f" {question}")), (TextItem(" ".join(answer)), *made)


def instructions(each: int, side: int, known: int, seed: int = 0) -> dict[str, list[Conversation]]:
    """``each`` samples of each of ``SETS``: v1 draws them equally often, whatever their sizes."""
    generator = np.random.default_rng([seed, len(SETS)])
    found: dict[str, list[Conversation]] = {name: [] for name in SETS}
    for name, (takes, makes) in SETS.items():
        for number in range(each):
            text = words(caption_tokens(makes or Modality.IMAGE, generator), generator, known)
            asked, said = _instruction(text, takes, makes, 1.0, generator, side, known)
            found[name].append(Conversation((Message("user", asked), Message("assistant", said)), {"seed": number}))
    return found


def conversations(stage: int, each: int, side: int, known: int, seed: int = 0) -> dict[Modality, list[Conversation]]:
    """``each`` samples of every modality."""
    generator = np.random.default_rng([seed, stage])
    return {m: [conversation(stage, m, generator, side, known) for _ in range(each)] for m in MODALITIES}


def mixed(by_kind: Mapping[Any, list[Conversation]], size: int) -> Iterator[list[Conversation]]:
    """The same samples in batches of ``size`` that hold every modality, or set, in equal parts."""
    rows = [row for one_each in zip(*by_kind.values(), strict=True) for row in one_each]
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def alone(by_kind: Mapping[Any, list[Conversation]], size: int) -> Iterator[list[Conversation]]:
    """The same samples in batches of ``size`` that hold one modality, or set, each."""
    for rows in by_kind.values():
        for start in range(0, len(rows), size):
            yield rows[start : start + size]
