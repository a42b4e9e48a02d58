"""Requests that can't be met, and answers that say so and what can be done instead."""

from __future__ import annotations

from numpy.random import Generator as Random

from isthmus.pocket.dialogues import DONE, Exchange, pick, with_articles
from isthmus.pocket.wording.grammar import put
from isthmus.pocket.wording.requests import ORDERS, request
from isthmus.pocket.wording.subjects import COLOURS, KINDS, NUMBERS, PEOPLE, SCENES, SOUNDS, THINGS, WORK
from isthmus.pocket.wording.things import number
from isthmus.pocket.world import COLOURS as KNOWN_COLOURS
from isthmus.pocket.world import Split
from isthmus.types import Modality

VERB: dict[Modality, str] = {
    Modality.IMAGE: "draw",
    Modality.VIDEO: "film",
    Modality.AUDIO: "play",
    Modality.POINTS: "model",
}
CAN: dict[Modality, str] = {
    Modality.IMAGE: "I draw the digits zero to nine.",
    Modality.VIDEO: "I film the digits zero to nine.",
    Modality.AUDIO: "I play the tones of the digits zero to nine.",
    Modality.POINTS: "I model the digits zero to nine.",
}
SKILLS = "I can draw, film, play and model the digits zero to nine."
PALETTE = f"My colors are {', '.join(KNOWN_COLOURS[:-1])} and {KNOWN_COLOURS[-1]}."
POSSESSIVE = {"my ": "your ", "our ": "your ", "myself": "you", "you": "myself", "your ": "my "}


def _seen_from_here(words: str) -> str:
    """What the user calls "my dog" is "your dog" in the answer."""
    for theirs, ours in POSSESSIVE.items():
        if words == theirs or (theirs.endswith(" ") and words.startswith(theirs)):
            return words.replace(theirs, ours, 1)
    return words


def unknown_thing(random: Random, split: Split) -> Exchange:
    """Asks for a medium of what isn't a digit."""
    output = tuple(DONE)[random.choice(4, p=(0.45, 0.2, 0.2, 0.15))]
    seen = (THINGS, SCENES, SCENES, PEOPLE)[random.integers(4)]
    thing = with_articles((SOUNDS if output is Modality.AUDIO else seen).any(random, split))
    # Tones belong to keys: nobody asks for "the key tone of a song".
    if output is Modality.AUDIO:
        asked = put(
            ORDERS.own(random, split),
            f"{pick(random, ('play', 'play me', 'let me hear', 'make the sound of'))} {thing}",
        )
    else:
        asked = put(request(random, output, split), thing)
    return Exchange((asked,), (f"I can't {VERB[output]} {_seen_from_here(thing)}. {CAN[output]}",))


def unknown_number(random: Random, split: Split) -> Exchange:
    """Asks for a medium of a number of two digits or more."""
    output = tuple(DONE)[random.integers(4)]
    figures = str(random.integers(10, 10 ** random.integers(2, 4)))
    words = NUMBERS.any(random, split) if random.random() < 0.5 else figures
    thing = pick(random, ("the number {}", "{}", "a {}", "number {}")).format(words)
    asked = put(request(random, output, split), with_articles(thing).replace("a a ", "a "))
    return Exchange((asked,), (f"I can't {VERB[output]} {words}. {CAN[output]}",))


def unknown_colour(random: Random, split: Split) -> Exchange:
    """Asks for a digit in a colour that there isn't."""
    output = (Modality.IMAGE, Modality.VIDEO, Modality.POINTS)[random.integers(3)]
    colour, digit = COLOURS.any(random, split), number(random, int(random.integers(10)))
    thing = pick(random, ("a {c} {n}", "a {c} {n}", "a {n} in {c}", "the number {n} in {c}", "a {c} number {n}"))
    asked = put(request(random, output, split), with_articles(thing.replace("{c}", colour).replace("{n}", digit)))
    return Exchange((asked,), (f"I can't make it {colour}. {PALETTE}",))


def unknown_work(random: Random, split: Split) -> Exchange:
    """Asks for work of another kind."""
    name = pick(random, tuple(WORK))
    words = WORK[name].own(random, split)
    asked = words if words.endswith("?") else put(ORDERS.any(random, split), words)
    return Exchange((asked,), (f"I can't {name}. {SKILLS}",))


def unknown_kind(random: Random, split: Split) -> Exchange:
    """Asks for a kind of medium that it doesn't make."""
    kind = KINDS.any(random, split)
    digit = number(random, int(random.integers(10)))
    thing = pick(random, ("{k}", "{k} of a {n}", "{k} with the number {n}")).replace("{k}", kind).replace("{n}", digit)
    asked = put(
        ORDERS.own(random, split), f"{pick(random, ('make', 'create', 'give me', 'make me', 'generate'))} {thing}"
    )
    return Exchange((with_articles(asked),), (f"I can't make {kind}. {SKILLS}",))


KINDS_OF_DECLINES = (
    unknown_thing,
    unknown_thing,
    unknown_thing,
    unknown_number,
    unknown_number,
    unknown_colour,
    unknown_colour,
    unknown_work,
    unknown_kind,
)


def decline(random: Random, split: Split) -> Exchange:
    """One of these."""
    return KINDS_OF_DECLINES[random.integers(len(KINDS_OF_DECLINES))](random, split)
