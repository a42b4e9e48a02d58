"""How things are said: accents, voices, speeds and heights of espeak-ng, which no two splits share."""

from __future__ import annotations

from dataclasses import dataclass

from numpy.random import Generator as Random

from isthmus.pocket.dialogues import pick
from isthmus.pocket.world import Split

ACCENTS = ("en-us", "en", "en-gb-scotland", "en-gb-x-gbcwmd", "en-gb-x-rp", "en-029")
"""They are shared: a voice is told by its variant, which shapes the sound. British English is ``en``: of ``en-gb``
espeak-ng leaves out the variant without a word, and splits would share its one voice."""
VARIANTS: dict[Split, tuple[str, ...]] = {
    "train": ("m1", "m2", "m3", "m4", "m5", "f1", "f2", "f3", "Alex", "Andy", "Annie", "Lee", "linda", "Mike",
              "Michael", "benjamin", "steph2"),
    "validation": ("m6", "f4", "Andrea", "paul"),
    "test": ("m7", "m8", "f5", "Alicia", "belinda", "david", "rob", "steph"),
}  # fmt: skip
SPEEDS: dict[Split, tuple[int, ...]] = {
    "train": (120, 130, 140, 150, 160, 170, 180, 190),
    "validation": (134, 156, 178),
    "test": (125, 145, 155, 165, 185),
}
"""Words a minute."""
PITCHES: dict[Split, tuple[int, ...]] = {
    "train": (30, 38, 46, 50, 54, 62, 70),
    "validation": (42, 58),
    "test": (34, 48, 52, 66),
}
"""From 0 to 99, as espeak-ng counts."""


@dataclass(frozen=True)
class Voice:
    """One manner of speaking.

    Attributes:
        name: espeak-ng's, an accent and a variant, such as ``en-us+f3``.
        speed: words a minute.
        pitch: 0 to 99.
    """

    name: str
    speed: int
    pitch: int


def draw_voice(split: Split, random: Random) -> Voice:
    """A voice of this split."""
    name = f"{pick(random, ACCENTS)}+{pick(random, VARIANTS[split])}"
    speeds, pitches = SPEEDS[split], PITCHES[split]
    return Voice(name, speeds[random.integers(len(speeds))], pitches[random.integers(len(pitches))])
