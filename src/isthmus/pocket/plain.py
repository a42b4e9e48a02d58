"""What people type to the embedded model: requests put in other ways, greetings, and requests that it can't meet.

Its LLM knows a hundred words and spells all others, so its answers stay within these words, and its requests mostly.
Prompts are held out by template.
"""

from __future__ import annotations

from numpy.random import Generator as Random

from isthmus.pocket.dialogues import DONE, Exchange, answer, pick, with_articles
from isthmus.pocket.wording.grammar import Choices, put
from isthmus.pocket.wording.subjects import PEOPLE, SCENES, SOUNDS, THINGS
from isthmus.pocket.world import DIGITS, Split, draw_concept
from isthmus.types import Modality

SKILLS = "i can describe, draw, film, play and carve digits"

ASKED = Choices(
    """{} / {} / please {} / {} please / can you {}? / could you {}? / can you please {}? / would you {}? / hi, {} /
    hello, can you {}? / now {} / i want you to {} / can you {} for me? / {} for me / please {} now""",
    "hello, {} / could you please {}?",
    "hi, can you {}? / {} for me please / would you please {}? / i would like you to {}",
)
ACTIONS: dict[Modality, Choices] = {
    Modality.IMAGE: Choices(
        """draw {} / draw me {} / make an image of {} / show me an image of {} / make me an image of {} / draw an
        image of {} / make a picture of {} / show me a picture of {} / draw a picture of {} / paint {} / make a
        drawing of {}""",
        "show me {} in an image",
        "make me a picture of {} / let me see an image of {} / show me a drawing of {}",
    ),
    Modality.VIDEO: Choices(
        """film {} / film me {} / make a video of {} / show me a video of {} / make me a video of {} / film a video
        of {} / make a film of {} / show me a film of {} / make a clip of {} / animate {}""",
        "show me {} in a video",
        "make me a film of {} / let me see a video of {} / show me a clip of {}",
    ),
    Modality.AUDIO: Choices(
        """play {} / play me {} / let me hear {} / make the sound of {} / play the sound of {} / let me hear the
        sound of {} / make a sound of {} / make me hear {}""",
        "can i hear {}",
        "play me the sound of {} / make me the sound of {}",
    ),
    Modality.POINTS: Choices(
        """carve {} / carve me {} / make a solid of {} / make a model of {} / show me a solid of {} / show me a model of
        {} / make me a solid of {} / make a 3d model of {} / carve a model of {} / sculpt {}""",
        "show me {} as a solid",
        "make me a model of {} / carve me a solid of {} / show me a 3d model of {}",
    ),
}
NAMED = Choices(
    "a {} / a {} / a {} / the number {} / the digit {} / number {} / {}",
    "this number, {}",
    "digit {} / one {}",
)
COLOURED = Choices(
    "a {c} {n} / a {c} {n} / {c} {n} / a {n} in {c} / the number {n} in {c}",
    "the digit {n} in {c}",
    "number {n} in {c}",
)
TALK: tuple[tuple[Choices, str], ...] = (
    (
        Choices(
            "hello / hi / hey / hello you / good morning / good evening / hi, how are you? / hello, how are you?",
            "good day / hi you",
            "hello there / hi there / hey, how are you? / good afternoon",
        ),
        "hello",
    ),
    (
        Choices(
            "thank you / thanks / thank you, good / thanks a lot / thank you very much",
            "many thanks",
            "ok, thank you / thank you so much / great, thanks",
        ),
        "you are welcome",
    ),
    (
        Choices(
            """what can you do? / what can you do for me? / help / can you help me? / what can you show me? / what
            do you do?""",
            "what are you to do?",
            "what can you make? / help me / what can i do?",
        ),
        SKILLS,
    ),
    (
        Choices(
            "who are you? / what are you? / what is your name? / are you a model?",
            "are you a person?",
            "who is this? / tell me who you are / are you a robot?",
        ),
        "a small model of digits",
    ),
)
QUESTIONS = Choices(
    """what is the [capital|weather|population|president|language|name|king|price] of <thing>? / who
    [made|was|is|wrote| painted|found] <thing>? / how [old|big|far|tall|fast] is <thing>? / where is <thing>? /
    why is <thing> so [big|good| old]? / when was <thing> [born|built|made]? / tell me [a story|something|a
    joke] about <thing> / write [a poem|a letter| a song] about <thing> / how do i [cook|find|build|like]
    <thing>? / do you like <thing>? / what do you know about <thing>? / what time is it? / tell me a joke / what
    is the weather? / sing a song / what is love? / how are digits made?""",
    "explain <thing> to me / which is better, <thing> or money?",
    """what does <thing> mean? / can you tell me about <thing>? / who knows <thing>? / what is the history of
    <thing>? / give me a recipe / what day is it today?""",
)


def in_words(random: Random, split: Split) -> Exchange:
    """A greeting, or a request that can't be met, and an answer in words."""
    if random.random() < 0.4:
        asked, said = TALK[random.integers(len(TALK))]
        return Exchange((asked.own(random, split),), (said,))
    return Exchange((unmet(random, split),), (SKILLS,))


def paraphrased(random: Random, output: Modality, split: Split) -> Exchange:
    """A request for a medium of a digit, in one of many wordings."""
    concept = draw_concept(random, 0.25, 0.25).restricted(output)
    digit = DIGITS[concept.digit] if random.random() < 0.85 else str(concept.digit)
    if concept.colour is None:
        words = put(NAMED.any(random, split), digit)
    else:
        words = COLOURED.any(random, split).replace("{c}", concept.colour).replace("{n}", digit)
    if concept.motion is not None:
        words += f" {pick(random, ('moving', 'going'))} {concept.motion}"
    asked = put(ASKED.own(random, split), put(ACTIONS[output].any(random, split), with_articles(words)))
    return Exchange((asked,), answer(concept, output))


def unmet(random: Random, split: Split) -> str:
    """A request for a medium of anything else, or a question about it."""
    kinds = (THINGS, SCENES, PEOPLE)
    thing = with_articles(kinds[random.integers(len(kinds))].any(random, split))
    if random.random() < 0.5:
        return QUESTIONS.own(random, split).replace("<thing>", thing)
    output = tuple(DONE)[random.integers(len(DONE))]
    wanted = SOUNDS.any(random, split) if output is Modality.AUDIO else thing
    return put(ASKED.own(random, split), put(ACTIONS[output].any(random, split), wanted))
