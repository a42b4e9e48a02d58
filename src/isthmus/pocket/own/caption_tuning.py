"""Trains experts for a user's own captioned media: ``python -m isthmus.pocket.train --manifest``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from isthmus.pocket.experts import imagebind_captions
from isthmus.pocket.experts.language import captioner
from isthmus.pocket.experts.points import point_bert_captions
from isthmus.pocket.own.captioned import CaptionedSet
from isthmus.pocket.own.tuning import Figures, run
from isthmus.types import Modality


def tune(
    captioned: CaptionedSet,
    out: Path,
    start: Path,
    scratch: Path,
    effort: float = 1.0,
    seed: int = 0,
    experts: Sequence[str] | None = None,
) -> dict[str, Figures]:
    """Writes the LLM and the encoders below ``out``; returns their figures on test data, kept in ``figures.json``.

    Args:
        captioned: the user's media.
        out: the folder of the experts' folders.
        start: that of the embedded experts, from whose weights the encoders start.
        scratch: folder for snapshots of interrupted trainings.
        effort: factor of all numbers of steps.
        seed: of all random choices.
        experts: those to train, in this order. By default the LLM and the encoders of the training split's modalities.

    Raises:
        ValueError: an unknown expert, or the set lacks media that an expert needs.
    """
    settings = (effort, seed, scratch)
    trainings: dict[str, Callable[[], Figures]] = {
        "llama": lambda: captioner.train(out / "llama", captioned, *settings),
        "imagebind": lambda: imagebind_captions.tune(out / "imagebind", start / "imagebind", captioned, *settings),
        "point_bert": lambda: point_bert_captions.tune(out / "point_bert", start / "point_bert", captioned, *settings),
    }
    if experts is None:
        served = {
            "llama": True,
            "imagebind": any(modality in captioned.modalities for modality in imagebind_captions.SEEN),
            "point_bert": Modality.POINTS in captioned.modalities,
        }
        experts = [name for name, is_served in served.items() if is_served]
    return run(trainings, list(experts), out)
