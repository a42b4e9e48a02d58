"""Requests for words alone, many of which speak of media, and what the model says of itself."""

from __future__ import annotations

from numpy.random import Generator as Random

from isthmus.pocket.dialogues import Exchange, pick
from isthmus.pocket.wording.grammar import Choices, expand, put
from isthmus.pocket.wording.knowledge import ASKED, MEANT, of_split
from isthmus.pocket.wording.things import named, told
from isthmus.pocket.world import COLOURS, MOTIONS, Concept, Split
from isthmus.types import Modality

MEANING = Choices(
    """what is {}? / what's {}? / define {} / explain what {} is / can you explain what {} is? / tell me what {} is
    / what do people mean by {}?""",
    "give me a definition of {} / what exactly is {}?",
    "how would you define {}? / in your own words, what is {}? / I don't know what {} is",
)
ASKING = Choices(
    """{} / {} / {} / {} / please tell me: {} / a question: {} / hi, {} / I have a question: {} / {} answer in
    words / no picture please, just words: {}""",
    "tell me, {} / quick question: {}",
    "one more question: {} / my kid asks: {} / answer briefly: {} / don't show anything. {}",
)

SELF: tuple[tuple[Choices, str], ...] = (
    (
        Choices(
            """hello / hi / hey / good [morning|evening|afternoon] / hi there / hello there / hello, how are you? /
            hi, how are you [doing|today]? / hey, what's up?""",
            "good day / hello again",
            "howdy / greetings / hiya / hello friend",
        ),
        "Hello! I can draw, film, play and model digits. What would you like?",
    ),
    (
        Choices(
            """[what|which things] can you do? / what are you able to do? / help / how can you help me? / what can
            I ask you? / what can you [draw|make|show me]? / what do you do?""",
            "what are your skills?",
            "what are you good at? / how do I use you? / what sort of things can you make?",
        ),
        "I can draw, film, play and model the digits zero to nine, and tell you which one you show me.",
    ),
    (
        Choices(
            """who are you? / what are you? / what is your name? / are you [a robot|human|a person|an AI]? / tell
            me about yourself / introduce yourself""",
            "what's your name?",
            "who am I talking to? / are you a machine? / what kind of program are you?",
        ),
        "I am a small language model that speaks, draws, films, plays and models digits.",
    ),
    (
        Choices(
            """thanks / thank you / thanks a lot / thank you very much / great, thanks /
            [nice|perfect|great|wonderful|well done], thank you / thx""",
            "many thanks",
            "cheers / that's great, thanks / much appreciated",
        ),
        "You are welcome!",
    ),
    (
        Choices(
            "bye / goodbye / see you / bye bye / good night",
            "so long",
            "farewell / that's all for today / see you later",
        ),
        "Goodbye!",
    ),
    (
        Choices(
            """[nice|good|great|wonderful|cool|wow] / that's [nice|great|good|lovely|pretty] / I like it / well
            done / ok / okay""",
            "not bad",
            "awesome / how beautiful / good job",
        ),
        "Thank you! Would you like another one?",
    ),
)
"""Greetings, thanks and questions about the model, each with its answer."""

IMAGINED = Choices(
    """don't [draw|film|play] it, just tell me: what would {} look like? / describe {} in words, no picture /
    describe in words what {} looks like / in words only: {} / don't draw {}, describe it / just write it, don't
    draw it: {} / no images please. Describe {} / describe a [picture|video] of {} in words / tell me about {} but
    don't show it / just text, please: {} / a description of {}, no image / say what {} looks like, no need to make it
    / I only want to read about {} / write one sentence about {}, nothing else / please don't make {}, only describe it
    / {}, but only as a sentence / never mind a picture, tell me what {} looks like / I can't open [images|videos|files]
    here, describe {} / leave the [picture|video|drawing] out and describe {} / rather than a [picture|video] I want a
    sentence about {} / how would you describe {} to someone who can't see it?""",
    "I don't want to see {}, just tell me about it",
    "without drawing it, describe {} / use words and no pictures for {} / put {} into words instead of drawing it",
)


def meaning(random: Random, split: Split) -> Exchange:
    """What a medium is."""
    word = pick(random, of_split(MEANT, split))
    return Exchange((put(MEANING.own(random, split), word),), (MEANT[word],))


def asked(random: Random, split: Split) -> Exchange:
    """A question or a task that speaks of media."""
    words = pick(random, of_split(ASKED, split))
    return Exchange((put(ASKING.own(random, split), words),), (ASKED[words],))


def about_itself(random: Random, split: Split) -> Exchange:
    """A greeting, thanks, or a question about the model."""
    choices, said = SELF[random.integers(len(SELF))]
    return Exchange((choices.own(random, split),), (said,))


def imagined(random: Random, split: Split, digit: int | None = None) -> tuple[Exchange, Concept]:
    """A digit in words, where media are named and not wanted; and what the words are to say. The digit may be given."""
    concept = Concept(
        int(random.integers(10)) if digit is None else digit,
        pick(random, COLOURS),
        pick(random, tuple(MOTIONS)) if random.random() < 0.4 else None,
    )
    words = put(IMAGINED.own(random, split), named(random, concept, Modality.VIDEO, split))
    return Exchange((words,), (f"It would show {told(concept, Modality.VIDEO)}.",)), concept


def colours_known(random: Random, split: Split) -> Exchange:
    """Which colours and directions there are."""
    if random.random() < 0.5:
        words = expand(random, "[which|what] [colors|colours] [can you use|do you have|do you know|are there]?")
        return Exchange((words,), (f"My colors are {', '.join(COLOURS[:-1])} and {COLOURS[-1]}.",))
    words = expand(random, "[which way|in which directions] can [the digits|they|a digit] move?")
    return Exchange((words,), ("A digit can move left, right, up or down.",))


def in_words(random: Random, split: Split) -> Exchange:
    """One of these."""
    if random.random() < 0.5:  # orders to draw are far more frequent, and these look like them
        return imagined(random, split)[0]
    kinds = (meaning, asked, about_itself, colours_known)
    return kinds[random.choice(len(kinds), p=(0.24, 0.4, 0.3, 0.06))](random, split)
