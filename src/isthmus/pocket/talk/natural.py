"""Natural requests with what is expected of their answers: the test of intent, attributes, declines and words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any

import yaml
from numpy.random import Generator as Random

from isthmus.data.conversations.schema import Conversation
from isthmus.pocket.conversations import conversation
from isthmus.pocket.dialogues import Dialogue, Exchange, Shown, draw_pair, pick, with_articles
from isthmus.pocket.talk.exchanges.numbers import NAMES
from isthmus.pocket.talk.exchanges.turns import order
from isthmus.pocket.tasks import PocketSource
from isthmus.pocket.wording.things import WAYS, number
from isthmus.pocket.world import COLOURS, MOTIONS, Concept
from isthmus.pocket.worlds import World
from isthmus.types import Modality

VALIDATION_EVERY = 6


@dataclass(frozen=True)
class NaturalLine:
    """A request of the test, with places for what it names.

    Attributes:
        text: the request.
        kind: what is asked for: ``make``, ``two``, ``sum_made``, ``follow``, ``convert``, ``describe``, ``sum``,
            ``decline``, ``ask_back`` or ``words``.
        media: what the answer must hold, and nothing else.
        given: the medium that stands before the request, if any.
        after: the medium that the turn before has made, if any.
        change: what a later turn changes of it: ``colour``, ``motion``, ``digit``, ``medium``, or nothing: ``again``.
        says: the attributes that the words must name, of a question about a given medium.
    """

    text: str
    kind: str
    media: tuple[Modality, ...] = ()
    given: Modality | None = None
    after: Modality | None = None
    change: str | None = None
    says: tuple[str, ...] = ()

    @property
    def varies(self) -> bool:
        """Whether another drawing of what it names makes another prompt of it."""
        return "{" in self.text or self.given is not None or self.after is not None


@cache
def natural_lines(split: str) -> tuple[NaturalLine, ...]:
    """The lines of ``natural.yaml``: every sixth is validation's, the others are the test's."""
    sections = yaml.safe_load(files("isthmus.pocket.talk").joinpath("natural.yaml").read_text(encoding="utf-8"))
    lines = [line for section in sections for line in _lines(section)]
    is_validation = split == "validation"
    return tuple(
        line for i, line in enumerate(lines) if (i % VALIDATION_EVERY == VALIDATION_EVERY - 1) == is_validation
    )


def _lines(section: Mapping[str, Any]) -> list[NaturalLine]:
    given, after = section.get("given"), section.get("after")
    return [
        NaturalLine(
            text,
            section["kind"],
            tuple(Modality(name) for name in section.get("media", ())),
            Modality(given) if given else None,
            Modality(after) if after else None,
            section.get("change"),
            tuple(section.get("says", ())),
        )
        for text in section["lines"].splitlines()
    ]


class NaturalRequests(PocketSource):
    """Requests as people write them, in no wording that training has; each line once, then again with other contents.

    Prompts end with the user's turn. ``details`` hold ``task`` (``natural``), ``kind``, ``media`` (what the answer must
    hold, and no other), ``expect`` (the attributes that each of them must show, or one entry for words that must name
    them) and ``answer``, where the words must say it.

    Args:
        split: ``test`` or ``validation``, whose lines are others.
        size: number of prompts.
        seed: of all random choices.
        world: the source of media that the user shows; by default they are drawn.

    Raises:
        ValueError: another split, or a size below one.
    """

    name = "talk_natural"

    def __init__(self, split: str = "test", size: int = 400, seed: int = 0, world: World | None = None) -> None:
        if split == "train":
            raise ValueError(
                f"{self.name}.split: found 'train'; expected validation or test, since these requests only measure. "
                "Fix: train on isthmus.pocket.talk.AnyToAny and Chat."
            )
        super().__init__(split, size, seed, world)

    def __getitem__(self, index: int) -> Conversation:
        """The prompt.

        Raises:
            IndexError: outside the source.
        """
        random = self.random(index)
        line = self.line(index)
        dialogue, expected, answer = _filled(line, random)
        details: dict[str, Any] = {
            "task": "natural",
            "kind": line.kind,
            "media": [str(modality) for modality in line.media],
            "expect": expected,
        }
        if answer is not None:
            details["answer"] = answer
        whole = conversation(dialogue, self.split, random, world=self.world)
        return Conversation(whole.prompt().messages, details)

    def line(self, index: int) -> NaturalLine:
        """The line of item ``index``."""
        lines = natural_lines(self.split)
        if index < len(lines):
            return lines[index]
        varied = [line for line in lines if line.varies]
        return varied[(index - len(lines)) % len(varied)]


def _filled(line: NaturalLine, random: Random) -> tuple[Dialogue, list[dict[str, Any]], str | None]:
    """A line's dialogue up to its request, what its answer's media or words must show, and what its words must say."""
    first, second = (_any_concept(random) for _ in range(2))
    if line.kind in ("sum", "sum_made"):
        first, second = (replace(first, digit=digit) for digit in draw_pair(random))
    request = _written(line.text, first, second, random)
    # A request names what it has a place for, and a medium that it refers to shows the rest.
    wanted = Concept(
        first.digit, first.colour if "{c}" in line.text else None, first.motion if "{m}" in line.text else None
    )
    turns: Dialogue = (Exchange((request,), ()),)
    if line.given is not None:
        shown = Shown(line.given, first)
        turns, wanted = (Exchange((shown, f" {request}"), ()),), shown.known
    elif line.after is not None:
        earlier = order(random, line.after, "train")
        (made,) = (part for part in earlier.assistant if isinstance(part, Shown))
        turns, wanted = (earlier, *turns), _changed(made.concept, first, line.change)
    elif line.kind == "sum_made":
        wanted = Concept(first.digit + second.digit)
    if line.says:
        attributes = _attributes(wanted)
        return turns, [{name: attributes[name] if name in line.says else None for name in attributes}], None
    other = Concept(second.digit, second.colour if "{c2}" in line.text else None)
    concepts = (wanted, other) if line.kind == "two" else (wanted,) * len(line.media)
    expected = [_attributes(c.restricted(modality)) for c, modality in zip(concepts, line.media, strict=True)]
    return turns, expected, NAMES[first.digit + second.digit] if line.kind == "sum" else None


def _any_concept(random: Random) -> Concept:
    return Concept(int(random.integers(10)), pick(random, COLOURS), pick(random, tuple(MOTIONS)))


def _written(text: str, first: Concept, second: Concept, random: Random) -> str:
    """The text with its places filled."""
    for concept, place in ((first, ""), (second, "2")):
        text = text.replace(f"{{n{place}}}", number(random, concept.digit))
        text = text.replace(f"{{c{place}}}", str(concept.colour))
    return with_articles(text.replace("{m}", pick(random, WAYS[str(first.motion)])))


def _changed(made: Concept, named: Concept, change: str | None) -> Concept:
    """What a later turn asks for: what was made, with one attribute of those that the turn names."""
    match change:
        case "colour":
            return replace(made, colour=named.colour)
        case "motion":
            return replace(made, motion=named.motion)
        case "digit":
            return replace(made, digit=named.digit)
        case _:
            return made


def _attributes(concept: Concept) -> dict[str, Any]:
    return {"digit": concept.digit, "colour": concept.colour, "motion": concept.motion}
