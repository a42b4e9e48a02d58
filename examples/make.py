"""Makes what lies in this folder: `python examples/make.py`. The pocket world draws every medium, from fixed seeds.

The media beside this file are those that the README's conversations show. `captioned/` is a set as a user may have it:
pictures, and a table with a caption and a split for each. Its test pictures show handwriting that no training has seen.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from isthmus.data.media.files import save_media
from isthmus.data.sampling.seeds import derive_seed
from isthmus.pocket.world import COLOURS, DIGITS, Concept, Split, draw
from isthmus.types import Modality

SHOWN: dict[str, tuple[Modality, Concept]] = {
    "three.png": (Modality.IMAGE, Concept(3, "red")),
    "four.wav": (Modality.AUDIO, Concept(4)),
    "six.mp4": (Modality.VIDEO, Concept(6, "blue", "left")),
    "seven.npy": (Modality.POINTS, Concept(7, "green")),
}
"""What the README's conversations show, by file."""

PICTURES: dict[Split, int] = {"train": 4, "validation": 1, "test": 2}
"""How many pictures the captioned set has of each digit in each colour, by split."""


def make_shown(folder: Path) -> None:
    """Writes one medium of each kind, of the test split."""
    for name, (modality, concept) in SHOWN.items():
        save_media(draw(modality, concept, "test", np.random.default_rng(derive_seed("examples", name))), folder / name)


def make_captioned(folder: Path) -> None:
    """Writes the pictures and ``metadata.csv``, in the layout of Hugging Face's ImageFolder."""
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    rows = []
    for split, count in PICTURES.items():
        for number in range(count):
            for digit, word in enumerate(DIGITS):
                for colour in COLOURS:
                    name = f"pictures/{split}_{colour}_{word}_{number}.png"
                    random = np.random.default_rng(derive_seed("examples", name))
                    concept = Concept(digit, colour)
                    save_media(draw(Modality.IMAGE, concept, split, random), folder / name)
                    rows.append((name, concept.caption(Modality.IMAGE), split))
    with (folder / "metadata.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([("file_name", "text", "split"), *rows])


if __name__ == "__main__":
    here = Path(__file__).resolve().parent
    make_shown(here)
    make_captioned(here / "captioned")
