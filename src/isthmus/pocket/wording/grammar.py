"""Sentences by composition: templates with alternatives, some of which are kept for validation and for test."""

from __future__ import annotations

import re

from numpy.random import Generator as Random

from isthmus.pocket.dialogues import pick, with_articles
from isthmus.pocket.world import Split

PRONOUNS = ("it", "this", "that")
ADJECTIVES = (
    "large|huge|giant|tiny|wide|narrow|tall|short|long|thin|thick|fat|round|square|curly|crooked|tilted|wobbly|plain|"
    "fancy|pretty|lovely|beautiful|cute|cool|great|perfect|neat|tidy|clean|messy|modern|antique|old|new|young|elegant|"
    "serious|sad|angry|happy|funny|sleepy|friendly|lonely|proud|shiny|glossy|bold|smooth|rough|fresh|classic|typical|"
    "ordinary|normal|regular|random|standard|unusual|strange|mysterious|famous|favorite|lucky|magic|festive|printed"
)
"""What anything may be called: it decides neither which medium is asked for nor whether that can be made."""
_GROUP = re.compile(r"\[([^\[\]]*)\]")


def expand(random: Random, template: str) -> str:
    """The template with one alternative of each ``[a|b|]`` chosen, innermost groups first, and its articles right."""
    while match := _GROUP.search(template):
        choice = pick(random, tuple(match[1].split("|")))
        template = template[: match.start()] + choice + template[match.end() :]
    return with_articles(" ".join(template.split()))


class Choices:
    """The templates that can stand in one place of a sentence, written one after the other: "draw {} / paint {}".

    One that is written twice is chosen twice as often. ``<adjective>`` stands for any of :data:`ADJECTIVES`.

    Args:
        train: those that training draws from.
        validation: those that only validation draws from.
        test: those that only the test draws from.
    """

    def __init__(self, train: str, validation: str = "", test: str = "") -> None:
        self.reserved: dict[Split, tuple[str, ...]] = {
            "train": _listed(train),
            "validation": _listed(validation),
            "test": _listed(test),
        }

    def own(self, random: Random, split: Split) -> str:
        """A template of this split alone: at least one place of a held-out sentence is chosen by this."""
        return expand(random, pick(random, self.reserved[split]))

    def any(self, random: Random, split: Split) -> str:
        """A template of this split or of training."""
        own = () if split == "train" else self.reserved[split]
        return expand(random, pick(random, self.reserved["train"] + own))


def _listed(templates: str) -> tuple[str, ...]:
    templates = " ".join(templates.split()).replace("<adjective>", f"[{ADJECTIVES}]")
    return tuple(words for template in templates.split(" / ") if (words := template.strip()))


def put(template: str, words: str) -> str:
    """The template with its ``{}`` replaced by words, which may hold a ``{}`` themselves.

    "draw me {}" loses its "me" before a pronoun: "draw it".
    """
    assert template.count("{}") == 1, template
    if words in PRONOUNS or re.match(r"it\b", words):
        template = template.replace(" me {}", " {}")
    if words.startswith("what "):
        template = template.replace("what {} sounds like", "{}")
    return template.replace("{}", words)
