"""The model's sentences. They vary little: what a small model has to learn is what to give, not how to say it.

A medium follows the sentence that names its kind and what it shows, in the words that alignment knows it by.
"""

from __future__ import annotations

from collections.abc import Sequence

from numpy.random import Generator as Random

from isthmus.pocket.dialogues import Part, Shown, attribute, pick
from isthmus.pocket.wording.things import told
from isthmus.pocket.world import Concept
from isthmus.types import Modality

HERE: dict[Modality, tuple[str, ...]] = {
    Modality.IMAGE: (*("Here is a drawing of {}.",) * 3, "Here is a picture of {}."),
    Modality.VIDEO: (*("Here is a video of {}.",) * 3, "Here is a short video of {}."),
    Modality.AUDIO: (*("Here is {}.",) * 3, "Here is the sound, {}."),
    Modality.POINTS: (*("Here is a 3D model of {}.",) * 3, "Here is a solid model of {}."),
}
"""The sentences right before a medium; no other answer has "Here is". Greedy decoding says the commonest."""


def given(random: Random, concept: Concept, *outputs: Modality) -> tuple[Part, ...]:
    """The media of one concept, in order, each after its sentence."""
    return given_each(random, [Shown(output, concept.restricted(output)) for output in outputs])


def given_each(random: Random, media: Sequence[Shown]) -> tuple[Part, ...]:
    """Media, each after its sentence."""
    parts: list[Part] = []
    for place, shown in enumerate(media):
        sentence = pick(random, HERE[shown.modality]).format(told(shown.concept, shown.modality))
        parts += [" " + sentence if place else sentence, shown]
    return tuple(parts)


def described(random: Random, shown: Shown) -> str:
    """What a medium shows, in a sentence."""
    return pick(random, ("It is {}.", "It is {}.", "This is {}.")).format(told(shown.known, shown.modality))


def attribute_told(shown: Shown, name: str) -> str:
    """One attribute in a sentence.

    Args:
        shown: the medium.
        name: ``digit``, ``colour`` or ``motion``; the medium shows it.
    """
    word = attribute(shown.known, name)  # type: ignore[arg-type]  # one of the three
    return {"digit": f"It is {told(Concept(shown.known.digit), Modality.IMAGE)}.", "colour": f"It is {word}."}.get(
        name, f"It is moving {word}."
    )
