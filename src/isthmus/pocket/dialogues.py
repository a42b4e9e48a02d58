"""Requests and answers about concepts, with placeholders for media.

Exchanges have two uses: with media they train and measure the any-to-any model (:mod:`isthmus.pocket.tasks`); with
descriptions instead of media they are text, on which the LLM is pretrained (:mod:`isthmus.pocket.language`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from numpy.random import Generator as Random

from isthmus.pocket.world import COLOURS, DIGITS, MOTIONS, Concept
from isthmus.types import Modality

_ARTICLE = re.compile(r"\b([Aa]) (?=(?!one\b|uni|eu|us)[aeiou]|8\b|11\b|18\b)")

Attribute = Literal["digit", "colour", "motion"]

UNSAID = "unsaid"
"""The answer to a question about an attribute that the input doesn't determine."""

DONE: dict[Modality, str] = {
    Modality.IMAGE: "drawn",
    Modality.VIDEO: "filmed",
    Modality.AUDIO: "played",
    Modality.POINTS: "carved",
}
"""The word of an answer right before a medium. It determines the modality, so that a frozen LLM, whose new output rows
are linear in its last state, can begin the right run of signal tokens there and nowhere else."""
OUTPUTS: tuple[Modality, ...] = (Modality.TEXT, *DONE)

DESCRIBE = ("{} describe it", "{} what is it?", "describe {}", "what is this? {}")
ASK: dict[Attribute, tuple[str, ...]] = {
    "digit": ("{} which digit is it?", "which digit is this? {}", "{} what number is it?"),
    "colour": ("{} what colour is it?", "what colour is this? {}", "{} name its colour"),
    "motion": ("{} which way does it move?", "which way does this move? {}", "{} where is it going?"),
}
MAKE: dict[Modality, tuple[str, ...]] = {
    Modality.IMAGE: ("{} draw it", "draw {}", "draw this {}", "{} make an image of it"),
    Modality.VIDEO: ("{} film it", "film {}", "film this {}", "{} make a video of it"),
    Modality.AUDIO: ("{} play it", "play {}", "play this {}", "{} make a sound of it"),
    Modality.POINTS: ("{} carve it", "carve {}", "carve this {}", "{} make a solid of it"),
}
ADD: dict[Modality, tuple[str, ...]] = {
    Modality.TEXT: (
        "{} {} what is their sum?",
        "what is the sum of {} and {}?",
        "add {} and {}",
        "what is {} plus {}?",
        "{} plus {}",
    ),
    Modality.IMAGE: ("{} {} draw their sum", "draw the sum of {} and {}", "draw {} plus {}"),
    Modality.VIDEO: ("{} {} film their sum", "film the sum of {} and {}", "film {} plus {}"),
    Modality.AUDIO: ("{} {} play their sum", "play the sum of {} and {}", "play {} plus {}"),
    Modality.POINTS: ("{} {} carve their sum", "carve the sum of {} and {}", "carve {} plus {}"),
}
AGAIN: dict[Modality, tuple[str, ...]] = {
    Modality.TEXT: ("describe it", "now describe it", "what is it?"),
    Modality.IMAGE: ("draw it", "now draw it", "make an image of it"),
    Modality.VIDEO: ("film it", "now film it", "make a video of it"),
    Modality.AUDIO: ("play it", "now play it", "make a sound of it"),
    Modality.POINTS: ("carve it", "now carve it", "make a solid of it"),
}
"""Requests about the medium of an earlier turn."""


def with_articles(text: str) -> str:
    """The text with "an" for "a" before a vowel's sound: "an eight", but "a one"."""
    return _ARTICLE.sub(lambda found: found[1] + "n ", text)


@dataclass(frozen=True)
class Shown:
    """A placeholder of a concept in a turn: a medium, or text if ``modality`` is text."""

    modality: Modality
    concept: Concept

    @property
    def known(self) -> Concept:
        """The attributes that the modality shows."""
        return self.concept.restricted(self.modality)

    @property
    def caption(self) -> str:
        """These attributes in canonical words."""
        return self.concept.caption(self.modality)


Part = str | Shown


@dataclass(frozen=True)
class Exchange:
    """The user's turn and its answer. Parts are joined without spaces."""

    user: tuple[Part, ...]
    assistant: tuple[Part, ...]


Dialogue = tuple[Exchange, ...]


def fill(template: str, *places: Part) -> tuple[Part, ...]:
    """The template with each ``{}`` replaced by a part."""
    texts = template.split("{}")
    assert len(texts) == len(places) + 1, template
    parts: list[Part] = [texts[0]]
    for place, text in zip(places, texts[1:], strict=True):
        parts += [place, text]
    return tuple(part for part in parts if part)


def pick(random: Random, choices: tuple[str, ...]) -> str:
    """A random choice."""
    return choices[random.integers(len(choices))]


def answer(concept: Concept, output: Modality) -> tuple[Part, ...]:
    """The concept's caption in this modality and, unless it is text, the medium after it."""
    shown = Shown(output, concept.restricted(output))
    return (shown.caption,) if output is Modality.TEXT else (f"{shown.caption}, {DONE[output]}", shown)


def describe(random: Random, source: Shown) -> Exchange:
    """Asks what the source is. The answer names the attributes that it shows, in its modality's words."""
    return Exchange(fill(pick(random, DESCRIBE), source), (source.caption,))


def attribute(concept: Concept, name: Attribute) -> str:
    """The attribute in one word."""
    values = {"digit": DIGITS[concept.digit], "colour": concept.colour, "motion": concept.motion}
    return values[name] or UNSAID


def askable(known: Concept) -> tuple[Attribute, ...]:
    """The attributes that are known."""
    return tuple(name for name in ASK if attribute(known, name) != UNSAID)


def ask(random: Random, source: Shown, name: Attribute) -> Exchange:
    """Asks for one attribute of the source."""
    return Exchange(fill(pick(random, ASK[name]), source), (attribute(source.known, name),))


def make(random: Random, source: Shown, output: Modality) -> Exchange:
    """Asks for the source in another modality. Attributes that the source doesn't show aren't named."""
    if output is Modality.TEXT:
        return describe(random, source)
    return Exchange(fill(pick(random, MAKE[output]), source), answer(source.known, output))


def make_changed(random: Random, source: Shown, output: Modality) -> Exchange:
    """Asks for an image or a video of the source, in a colour or a direction that the request names."""
    known = source.known
    if output is Modality.VIDEO and random.random() < 0.5:
        motion = pick(random, tuple(MOTIONS))
        changed, words = Concept(known.digit, known.colour, motion), f"{{}} film it moving {motion}"
    else:
        colour = pick(random, COLOURS)
        changed = Concept(known.digit, colour, known.motion)
        words = f"{{}} {'film' if output is Modality.VIDEO else 'draw'} it in {colour}"
    return Exchange(fill(words, source), answer(changed, output))


def make_two(random: Random, source: Shown) -> Exchange:
    """Asks for two different media at once."""
    first, second = random.permutation(len(DONE))[:2]
    outputs = tuple(DONE)
    verbs = [AGAIN[output][0] for output in (outputs[first], outputs[second])]
    one, other = answer(source.known, outputs[first]), answer(source.known, outputs[second])
    return Exchange(fill(f"{{}} {verbs[0]} and {verbs[1]}", source), (*one, " ", *other))


def add(random: Random, first: Shown | str, second: Shown | str, total: int, output: Modality) -> Exchange:
    """Asks for the sum of two digits, as text or in any medium. It has no colour: the summands don't determine it."""
    said: tuple[Part, ...] = (DIGITS[total],) if output is Modality.TEXT else answer(Concept(total), output)
    return Exchange(fill(pick(random, ADD[output]), first, second), said)


def make_next(random: Random, source: Shown, output: Modality) -> Exchange:
    """Asks for the source's successor, which keeps its colour and motion; the source isn't a nine."""
    known = source.known
    verb = AGAIN[output][0].removesuffix(" it")
    successor = Concept(known.digit + 1, known.colour, known.motion)
    return Exchange(fill(f"{{}} {verb} its successor", source), answer(successor, output))


def follow(random: Random, source: Shown, outputs: tuple[Modality, ...] = OUTPUTS) -> Exchange:
    """A later turn about the source, which isn't repeated: a question, or a request for another medium."""
    known = source.known
    if random.random() < 0.5:
        output = outputs[random.integers(len(outputs))]
        said = (source.caption,) if output is Modality.TEXT else answer(known, output)
        return Exchange((pick(random, AGAIN[output]),), said)
    names = askable(known)
    name = names[random.integers(len(names))]
    return Exchange((ASK[name][0].removeprefix("{} "),), (attribute(known, name),))


def draw_pair(random: Random) -> tuple[int, int]:
    """Two digits whose sum is one digit, uniform over all such pairs."""
    pairs = [(first, second) for first in range(10) for second in range(10 - first)]
    return pairs[random.integers(len(pairs))]
