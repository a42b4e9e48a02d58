"""A generator's accuracy given its own condition of the true caption: the ceiling of all cells with its output."""

from __future__ import annotations

import numpy as np

from isthmus.generators.base import Generator
from isthmus.pocket.judges.base import MediaJudge
from isthmus.pocket.worlds import DRAWN, World


def generator_ceiling(
    generator: Generator, judge: MediaJudge, count: int = 400, seed: int = 0, world: World = DRAWN
) -> dict[str, float]:
    """The judge's accuracy on generated media, for each attribute of the world; n = ``count``."""
    random = np.random.default_rng(seed)
    modality = generator.modality
    drawn = [world.concept(random).restricted(modality) for _ in range(count)]
    media = generator.generate(generator.condition([concept.caption(modality) for concept in drawn]), range(count))
    readings = judge.many(media)
    return {
        name: float(np.mean([reading[name] == getattr(c, name) for reading, c in zip(readings, drawn, strict=True)]))
        for name in (judge.attributes if world.has_attributes else ("digit",))
    }
