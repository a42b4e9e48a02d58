"""Requests that leave something open, and the questions that ask for it."""

from __future__ import annotations

from numpy.random import Generator as Random

from isthmus.pocket.dialogues import DONE, Exchange, pick
from isthmus.pocket.talk.exchanges.answers import given
from isthmus.pocket.talk.exchanges.declining import VERB
from isthmus.pocket.wording.grammar import Choices, put
from isthmus.pocket.wording.requests import request
from isthmus.pocket.wording.things import named, told
from isthmus.pocket.world import COLOURS, Concept, Split
from isthmus.types import Modality

OPEN = Choices(
    """a digit / a digit / a number / a number / one of your digits / any of the digits / a [red|blue|green|yellow]
    [digit|number]""",
    "some digit / a single number",
    "one digit / some number or other / a numeral / a [cyan|magenta] digit",
)
NO_KIND = Choices(
    "[make|create|do|generate|produce|give me] {} / I want {} / {} / {} please / I'd like {}",
    "could you do {}? / {}, thanks",
    "let me have {} / how about {}? / can you produce {}?",
)
NOTHING = Choices(
    """make something / make me something / create something [nice|] / do something / surprise me / can you make
    something for me? / show me something""",
    "produce something / give me anything",
    "generate something cool / I'm bored, make something / what about making something?",
)
LATER = Choices(
    "{} / {} / {} please / {}, please / [make it|let it be|I want|how about|take|do] {}",
    "{} it is / {}, thanks",
    "{} then / I think {} / go for {}",
)


def which(output: Modality) -> str:
    """Asks which digit is meant."""
    return f"Which digit shall I {VERB[output]}, from zero to nine?"


def no_digit(random: Random, split: Split) -> tuple[Exchange, ...]:
    """Names the medium and no digit; often the user then names one, and gets it."""
    output = tuple(DONE)[random.integers(4)]
    opened = OPEN.any(random, split)
    colour = next((colour for colour in COLOURS if colour in opened), None) if output is not Modality.AUDIO else None
    first = Exchange((put(request(random, output, split), opened),), (which(output),))
    if random.random() < 0.5:
        return (first,)
    digit = int(random.integers(10))
    named_later = Concept(
        digit,
        None if output is Modality.AUDIO else pick(random, COLOURS) if not colour and random.random() < 0.4 else None,
    )
    words = put(LATER.own(random, split), named(random, named_later, output, split))
    return (first, Exchange((words,), given(random, Concept(digit, named_later.colour or colour), output)))


def no_kind(random: Random, split: Split) -> Exchange:
    """Names a digit and no medium."""
    concept = Concept(int(random.integers(10)), None if random.random() < 0.5 else pick(random, COLOURS))
    words = put(NO_KIND.own(random, split), named(random, concept, Modality.IMAGE, split))
    return Exchange((words,), (f"Shall I draw, film, play or model {told(concept, Modality.IMAGE)}?",))


def nothing(random: Random, split: Split) -> Exchange:
    """Names neither."""
    return Exchange(
        (NOTHING.own(random, split),),
        ("What shall I make? I can draw, film, play or model a digit from zero to nine.",),
    )


def ask_back(random: Random, split: Split) -> tuple[Exchange, ...]:
    """One of these."""
    kind = random.random()
    if kind < 0.55:
        return no_digit(random, split)
    return (no_kind(random, split) if kind < 0.85 else nothing(random, split),)
