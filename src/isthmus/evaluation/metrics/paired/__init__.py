"""Measurements of a made or given medium against its own reference, its own prompt, or the names of classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from isthmus.exports import lazy

if TYPE_CHECKING:
    from isthmus.evaluation.metrics.paired.lpips import Lpips as Lpips
    from isthmus.evaluation.metrics.paired.pictures import PictureLikeness as PictureLikeness
    from isthmus.evaluation.metrics.paired.prompts import PromptLikeness as PromptLikeness
    from isthmus.evaluation.metrics.paired.sounds import SoundLikeness as SoundLikeness
    from isthmus.evaluation.metrics.paired.towers import ImageBindTexts as ImageBindTexts
    from isthmus.evaluation.metrics.paired.towers import TransformersTexts as TransformersTexts
    from isthmus.evaluation.metrics.paired.zero_shot import ZeroShot as ZeroShot

_ROOM = "isthmus.evaluation.metrics.paired"
_HOMES = {
    "ImageBindTexts": f"{_ROOM}.towers",
    "Lpips": f"{_ROOM}.lpips",
    "PictureLikeness": f"{_ROOM}.pictures",
    "PromptLikeness": f"{_ROOM}.prompts",
    "SoundLikeness": f"{_ROOM}.sounds",
    "TransformersTexts": f"{_ROOM}.towers",
    "ZeroShot": f"{_ROOM}.zero_shot",
}

__all__ = list(_HOMES)
__getattr__, __dir__ = lazy(__name__, _HOMES)
