"""Writers of each kind of dialogue."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from numpy.random import Generator as Random

from isthmus.data.building.media_pool import Captioned, MediaPool
from isthmus.data.building.script import Filling, Script, with_article
from isthmus.data.building.templates import EARLIER
from isthmus.types import Modality

Choice = TypeVar("Choice")

NEEDS_OTHERS = frozenset({"convert", "remake"})
"""Kinds that need two modalities of the same content."""

MAKES = NEEDS_OTHERS | {"make", "make_two", "clarify", "refuse", "offer"}
"""Kinds that generate a medium, or name media that can be generated."""


@dataclass
class Writing:
    """A dialogue during its construction, and its ingredients."""

    script: Script
    pool: MediaPool
    outputs: Sequence[Modality]
    alike: Sequence[Mapping[Modality, Sequence[Captioned]]]
    random: Random

    def pick(self, choices: Sequence[Choice]) -> Choice:
        """A random choice."""
        return choices[int(self.random.integers(len(choices)))]

    def given(self) -> Captioned:
        """An input medium: modalities are equally likely, whatever their numbers of media."""
        return self.pick(self.pool.by_modality[self.pick(list(self.pool.by_modality))])

    def made(self) -> Captioned:
        """An output medium, chosen likewise among the output modalities."""
        return self.pick(self.pool.by_modality[self.pick(self.outputs)])

    def pair_of_same_content(self) -> tuple[Captioned, Captioned]:
        """An input medium, and an output medium of another modality with the same content."""
        alike = self.pick(self.alike)
        made = self.pick([modality for modality in alike if modality in self.outputs])
        given = self.pick([modality for modality in alike if modality is not made])
        return self.pick(alike[given]), self.pick(alike[made])

    def any_turn(self, given: Captioned | None = None) -> None:
        """A turn that describes or, if possible, makes a medium: ``given``, or a random one if None."""
        can_make = self.outputs if given is None else given.modality in self.outputs
        self.pick((describe, make) if can_make else (describe,))(self, given)

    def turn(self, kind: str, fillings: Mapping[str, Filling], ask: str = "ask", say: str = "say") -> None:
        """A question and its answer, each from a random template of the kind."""
        turns = self.script.templates.turns[kind]
        self.script.add("user", self.pick(turns[ask]), fillings)
        self.script.add("assistant", self.pick(turns[say]), fillings)

    def one(self, medium: Captioned) -> dict[str, Filling]:
        """The fillings of a template for one medium."""
        return {"medium": medium, "caption": medium.caption, **self.words(medium.modality)}

    def words(self, modality: Modality, prefix: str = "") -> dict[str, Filling]:
        """The fillings of a modality's name."""
        word = self.script.templates.word(modality)
        return {f"{prefix}word": word, f"a_{prefix}word": with_article(word)}

    def unknown(self) -> dict[str, Filling]:
        """The fillings of a thing that can't be made, and of those that can."""
        thing = self.pick(self.script.templates.unknown)
        return {"unknown": thing, "a_unknown": with_article(thing), **self.makeable()}

    def makeable(self) -> dict[str, Filling]:
        """The filling that lists the output modalities."""
        made = [with_article(self.script.templates.word(modality)) for modality in self.outputs]
        listed = " or ".join(part for part in (", ".join(made[:-1]), made[-1]) if part)
        return {"makeable": listed}


def describe(writing: Writing, medium: Captioned | None = None) -> None:
    """A medium is described."""
    writing.turn("describe", writing.one(medium or writing.given()))


def make(writing: Writing, medium: Captioned | None = None) -> None:
    """A medium is made from its caption."""
    writing.turn("make", writing.one(medium or writing.made()))


def convert(writing: Writing) -> None:
    """A medium is converted to another modality of the same content."""
    given, made = writing.pair_of_same_content()
    writing.turn("convert", {**writing.one(made), "given": given, **writing.words(given.modality, "given_")})


def compare(writing: Writing) -> None:
    """Two media of one turn are described."""
    writing.turn("compare", _two(writing.given(), writing.given(), writing))


def make_two(writing: Writing) -> None:
    """Two media are made in one answer."""
    writing.turn("make_two", _two(writing.made(), writing.made(), writing))


def recall(writing: Writing) -> None:
    """Some turns, then a question about one of their media."""
    for _ in range(int(writing.random.integers(1, EARLIER + 2))):
        writing.any_turn()
    medium = writing.pick(writing.script.media)
    ordinal = writing.script.ordinal(medium)
    assert ordinal is not None, "a dialogue has fewer media than there are ordinals"
    of = {**writing.one(medium), "ordinal": ordinal}
    writing.turn("recall", {name: filling for name, filling in of.items() if name != "medium"})


def remake(writing: Writing) -> None:
    """Some turns, then one of their media is made in another modality."""
    given, made = writing.pair_of_same_content()
    before = int(writing.random.integers(EARLIER + 1))
    at = int(writing.random.integers(before + 1))
    for place in range(before + 1):
        writing.any_turn(given if place == at else None)
    ordinal = writing.script.ordinal(given)
    assert ordinal is not None, "a dialogue has fewer media than there are ordinals"
    writing.turn("remake", {**writing.one(made), "ordinal": ordinal, **writing.words(given.modality, "given_")})


def clarify(writing: Writing) -> None:
    """An incomplete request: the assistant asks for the content, the user gives it, and it is made."""
    fillings = writing.one(writing.made())
    writing.turn("clarify", fillings)
    writing.turn("clarify", fillings, "then", "made")


def refuse(writing: Writing) -> None:
    """A request for something that can't be made is refused."""
    writing.turn("refuse", {"caption": writing.given().caption, **writing.unknown()})


def offer(writing: Writing) -> None:
    """A question whether something can be made is answered by text."""
    medium = writing.made()
    writing.turn("offer", {"caption": medium.caption, **writing.words(medium.modality), **writing.makeable()})


def _two(first: Captioned, second: Captioned, writing: Writing) -> dict[str, Filling]:
    fillings: dict[str, Filling] = {}
    for name, medium in {"first": first, "second": second}.items():
        fillings |= {name: medium, f"{name}_caption": medium.caption, **writing.words(medium.modality, f"{name}_")}
    return fillings


WRITERS: dict[str, Callable[[Writing], None]] = {
    "describe": describe,
    "make": make,
    "convert": convert,
    "compare": compare,
    "make_two": make_two,
    "recall": recall,
    "remake": remake,
    "clarify": clarify,
    "refuse": refuse,
    "offer": offer,
}
"""Writers by kind."""
