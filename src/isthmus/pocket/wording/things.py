"""A concept as noun phrases: as users name it, in many orders and spellings, and as answers name it, always alike."""

from __future__ import annotations

from numpy.random import Generator as Random

from isthmus.pocket.dialogues import pick, with_articles
from isthmus.pocket.wording.grammar import Choices, put
from isthmus.pocket.world import DIGITS, Concept, Split
from isthmus.types import Modality

NUMBER = Choices(
    """a {} / a {} / a {} / a {} / a {} / the number {} / the digit {} / number {} / the figure {} / {} /
    one {} / a simple {} / a single {} / a nice {} / a little {} / a <adjective> {} / a <adjective> {} / a
    <adjective> and <adjective> {} / a <adjective> [number|digit] {} / the <adjective> {}""",
    "one single {} / the numeral {}",
    "a big {} / a handwritten {} / just the number {}",
)
COLOURED = Choices(
    """a {c} {n} / a {c} {n} / a {c} {n} / a {c} {n} / a {c} {n} / {c} {n} / a {n} in {c} / the number {n} in {c} /
    the digit {n} in {c} / number {n} in {c} / a {c} number {n} / a {c} digit {n} / a {n} that is {c} / a {n}
    [colored|coloured] {c} / a {n}, in {c} / {n} in {c} / {n}, {c} / a {n} using {c} / a {n} in {c} [ink|paint] /
    the digit {n}, color {c} / a single {c} {n} / one {c} {n} / a simple {c} {n} / the {c} [digit|number] {n} / a
    little {c} {n} / a <adjective> {c} {n} / a <adjective> {c} {n} / a {c} <adjective> {n} / a <adjective> {n} in
    {c} / a <adjective> {c} [number|digit] {n}""",
    "a {n} written in {c} / the {c} numeral {n}",
    "a {c}-[colored|coloured] {n} / a {n} of {c} [color|colour] / a bright {c} {n} / the digit {n} painted {c}",
)
MOVING = Choices(
    """{} moving {m} / {} moving {m} / {} going {m} / {} that moves {m} / {} that goes {m} / {} sliding {m} / {}
    drifting {m} / {} which is moving {m}""",
    "{} travelling {m} / {} as it moves {m}",
    "{} floating {m} / {} that flies {m} / {} heading {m} / {} on its way {m}",
)
WAYS: dict[str, tuple[str, ...]] = {
    "left": ("left", "left", "to the left", "leftwards"),
    "right": ("right", "right", "to the right", "rightwards"),
    "up": ("up", "up", "upwards", "upward"),
    "down": ("down", "down", "downwards", "downward"),
}
KEY = Choices(
    "{} / {} / {} / number {} / the number {} / the digit {} / a {} / key {}",
    "the numeral {}",
    "the {} key / the button {}",
)


def number(random: Random, digit: int) -> str:
    """The digit in letters, or as a figure."""
    return DIGITS[digit] if random.random() < 0.6 else str(digit)


def named(random: Random, concept: Concept, output: Modality, split: Split) -> str:
    """How a user names what a medium is to show: all of the concept's attributes that this modality has."""
    shown = concept.restricted(output)
    digit = number(random, shown.digit)
    if output is Modality.AUDIO:
        return with_articles(put(KEY.any(random, split), digit))
    if shown.colour is None:
        words = put(NUMBER.any(random, split), digit)
    else:
        words = COLOURED.any(random, split).replace("{c}", shown.colour).replace("{n}", digit)
    if shown.motion is not None:
        way = pick(random, WAYS[shown.motion])
        words = put(MOVING.any(random, split).replace("{m}", way), words)
    return with_articles(words)


def told(concept: Concept, modality: Modality) -> str:
    """How an answer names it: the caption of this modality with the right article, without "solid"."""
    return with_articles(concept.caption(modality)).replace(
        "a solid ", "an " if concept.digit == 8 and not concept.colour else "a "
    )
