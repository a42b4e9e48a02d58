"""Requests around a medium or a concept that is there already: in another medium, changed, or again in a later turn."""

from __future__ import annotations

from dataclasses import replace

from numpy.random import Generator as Random

from isthmus.pocket.dialogues import DONE, Exchange, Shown, pick
from isthmus.pocket.talk.exchanges import questions
from isthmus.pocket.talk.exchanges.answers import given, given_each
from isthmus.pocket.wording.grammar import Choices, expand, put
from isthmus.pocket.wording.requests import ORDERS, WISHES, action, request
from isthmus.pocket.wording.things import WAYS, named
from isthmus.pocket.world import COLOURS, MOTIONS, Concept, Split, draw_concept
from isthmus.types import Modality

MADE: tuple[Modality, ...] = tuple(DONE)
IT = Choices(
    """it / it / it / this / this [digit|number] / that / the [digit|number] in the <noun> / what you <perceive> /
    what the <noun> shows""",
    "this one / the thing in the <noun>",
    "that one / the <noun>'s digit / what is in there",
)
TURNED = Choices(
    """turn [it|this] into <a noun> / convert [it|this] to <a noun> / [make|create] <a noun> [out of it|of
    this|from this] / <a noun> of this[ please|] / now as <a noun>""",
    "change this to <a noun>",
    "transform it into <a noun> / I'd rather have it as <a noun> / do you have that as <a noun>?",
)
A_NOUN: dict[Modality, tuple[str, ...]] = {
    Modality.IMAGE: ("a picture", "an image", "a drawing", "a painting"),
    Modality.VIDEO: ("a video", "a clip", "an animation", "a film"),
    Modality.AUDIO: ("a sound", "a tone", "audio", "a beep"),
    Modality.POINTS: ("a 3D model", "a point cloud", "a sculpture", "a solid"),
}
IN_COLOUR = Choices(
    "{} in {c} / {} in {c} / {} but in {c} / {} [colored|coloured] {c} / {} in {c} instead",
    "{} but {c}",
    "{}, only {c} / {} with {c} as its [color|colour]",
)
MOVING_SO = Choices(
    "{} moving {m} / {} going {m} / {} but moving {m}",
    "{} as it goes {m}",
    "{} on its way {m} / {} while it floats {m}",
)
TAILS: dict[Modality, tuple[str, ...]] = {
    Modality.IMAGE: ("and show it to me", "so that I can see it"),
    Modality.VIDEO: ("and let me watch it", "so that I can watch it"),
    Modality.AUDIO: ("and let me hear it", "so that I can hear it"),
    Modality.POINTS: ("and let me look at it", "so that I can turn it"),
}
"""What may stand after a request, and asks for nothing more."""
NEXT = (
    "its successor",
    "the next [digit|number]",
    "the [digit|number] after [it|that]",
    "the [digit|number] that comes next",
)


def _referred(random: Random, shown: Shown, split: Split) -> str:
    """What a request calls the medium beside it."""
    perceived = "hear" if shown.modality is Modality.AUDIO else "see"
    words = IT.any(random, split).replace("<noun>", pick(random, questions.NOUN[shown.modality]))
    words = words.replace("shows", "plays") if shown.modality is Modality.AUDIO else words
    return words.replace("<perceive>", perceived)


def _as(random: Random, output: Modality, split: Split) -> str:
    return TURNED.own(random, split).replace("<a noun>", pick(random, A_NOUN[output]))


def converted(random: Random, shown: Shown, output: Modality, split: Split) -> Exchange:
    """Asks for what a medium shows in another, or in the same anew."""
    style = random.random()
    if style < 0.25:
        words = _as(random, output, split)
    elif style < 0.33 and split == "train":
        words = _wondered(random, output, split, pick(random, ("it", "this", "this number")))
    elif style < (0.47 if split == "train" else 0.41):  # more in training: they are easily answered in words alone
        question = questions.question(random, questions.ASPECTS["digit"], shown.modality, split)
        words = f"{question}{'' if question.endswith('?') else ','} {put(action(random, output, split), 'it')}"
    else:
        words = put(request(random, output, split), _referred(random, shown, split))
    return Exchange(questions.beside(random, shown, words), given(random, shown.known, output))


def _wondered(random: Random, output: Modality, split: Split, thing: str) -> str:
    """A question that is answered by a medium, since an order follows it."""
    asked = expand(random, f"what does {thing} {'sound' if output is Modality.AUDIO else 'look'} like?")
    return f"{asked} {put(action(random, output, split), 'it')}"


def changed(random: Random, shown: Shown, output: Modality, split: Split) -> Exchange:
    """Asks for it as an image, a video or a model, in a colour or a direction that the request names."""
    known, words = shown.known, _referred(random, shown, split)
    if output is Modality.VIDEO and random.random() < 0.5:
        motion = pick(random, tuple(MOTIONS))
        known = Concept(known.digit, known.colour, motion)
        words = put(MOVING_SO.any(random, split).replace("{m}", pick(random, WAYS[motion])), words)
    else:
        colour = pick(random, COLOURS)
        known = Concept(known.digit, colour, known.motion)
        words = put(IN_COLOUR.any(random, split).replace("{c}", colour), words)
    words = put(ORDERS.own(random, split), put(action(random, output, split), words))
    return Exchange(questions.beside(random, shown, words), given(random, known, output))


def successor(random: Random, shown: Shown, output: Modality, split: Split) -> Exchange:
    """Asks for the digit after it, which keeps its colour and motion; it isn't a nine."""
    known = Concept(shown.concept.digit + 1, shown.known.colour, shown.known.motion)
    words = put(request(random, output, split), expand(random, pick(random, NEXT)))
    return Exchange(questions.beside(random, shown, words), given(random, known, output))


def two_media(random: Random, concept: Concept, first: str, split: Split, shown: Shown | None = None) -> Exchange:
    """Asks for one concept in two or three media at once.

    Args:
        random: of all choices.
        concept: what they show.
        first: how the request names it the first time.
        split: of the wordings.
        shown: the medium that it refers to, if any.
    """
    count = 2 if random.random() < 0.8 else 3
    outputs = [MADE[place] for place in random.permutation(len(MADE))[:count]]
    if random.random() < 0.4:
        nouns = [pick(random, A_NOUN[output]) for output in outputs]
        if random.random() < 0.3:
            nouns = [noun.split(" ", 1)[-1] for noun in nouns]
        joined = f"{', '.join(nouns[:-1])} {pick(random, ('and', 'and', 'plus', 'as well as'))} {nouns[-1]}"
        thing = f"{joined} of {first}"
        if len(nouns) == 2 and random.random() < 0.3:
            thing = f"{nouns[0]} of {first} {pick(random, ('and', 'with', 'plus'))} its {nouns[1].split(' ', 1)[-1]}"
        words = put(WISHES.own(random, split), thing)
        if random.random() < 0.5:
            words = put(ORDERS.own(random, split), f"{pick(random, ('make', 'give me', 'create', 'show me'))} {thing}")
    else:
        verbs = [put(action(random, outputs[0], split), first)]
        verbs += [put(action(random, output, split), "it") for output in outputs[1:]]
        listed = ", ".join(verbs[:-1]) + pick(random, (" and ", ", and ", ", then ", " and then ")) + verbs[-1]
        words = put(ORDERS.own(random, split), listed)
    said = given(random, concept, *outputs)
    return Exchange(questions.beside(random, shown, words) if shown else (words,), said)


def two_concepts(random: Random, split: Split) -> Exchange:
    """Asks for two digits at once, in one medium or in two."""
    first, second = (MADE[place] for place in random.integers(len(MADE), size=2))
    media = [Shown(output, drawn(random, output)) for output in (first, first if random.random() < 0.3 else second)]
    things = [named(random, shown.concept, shown.modality, split) for shown in media]
    joint = pick(random, (" and ", ", then ", " and also "))
    if media[0].modality is media[1].modality and random.random() < 0.5:  # "draw a three and a four"
        asked = put(action(random, first, split), joint.join(things))
    else:
        asked = joint.join(
            put(action(random, shown.modality, split), thing) for shown, thing in zip(media, things, strict=True)
        )
    words = put(ORDERS.own(random, split), asked)
    return Exchange((words,), given_each(random, media))


def order(random: Random, output: Modality, split: Split, digit: int | None = None) -> Exchange:
    """A request in words for one medium of a digit that it names; the digit may be given."""
    concept = drawn(random, output)
    concept = concept if digit is None else replace(concept, digit=digit)
    thing = named(random, concept, output, split)
    # What isn't held apart by template is asked in training alone.
    style = random.random() if split == "train" else 1.0
    if style < 0.04:
        words = _wondered(random, output, split, thing)
    elif style < 0.08:
        words = put(
            ORDERS.own(random, split), f"{put(action(random, output, split), thing)} {pick(random, TAILS[output])}"
        )
    else:
        words = put(request(random, output, split), thing)
    return Exchange((words,), given(random, concept, output))


def drawn(random: Random, output: Modality) -> Concept:
    """A concept as a request may name it for this medium: often without colour or motion."""
    return draw_concept(random, 0.25, 0.25).restricted(output)
