"""Media -> F (B, N, D), by frozen experts: one folder for each expert or family; base.py has the interface."""

from __future__ import annotations

from typing import TYPE_CHECKING

from isthmus.exports import lazy

if TYPE_CHECKING:
    from isthmus.encoders.beats.encoder import Beats as Beats
    from isthmus.encoders.c_former.encoder import CFormer as CFormer
    from isthmus.encoders.imagebind.encoder import ImageBind as ImageBind
    from isthmus.encoders.point_bert.encoder import PointBert as PointBert
    from isthmus.encoders.speech.hubert import Hubert as Hubert
    from isthmus.encoders.speech.whisper import Whisper as Whisper
    from isthmus.encoders.vision.frames_encoder import FramesEncoder as FramesEncoder
    from isthmus.encoders.vision.frequency_encoder import FrequencyEncoder as FrequencyEncoder
    from isthmus.encoders.vision.tiles_encoder import TilesEncoder as TilesEncoder
    from isthmus.encoders.vision.timm_vision import TimmVision as TimmVision
    from isthmus.encoders.vision.transformers_vision import TransformersVision as TransformersVision

_HOMES = {
    "ImageBind": "isthmus.encoders.imagebind.encoder",
    "PointBert": "isthmus.encoders.point_bert.encoder",
    "Beats": "isthmus.encoders.beats.encoder",
    "CFormer": "isthmus.encoders.c_former.encoder",
    "TransformersVision": "isthmus.encoders.vision.transformers_vision",
    "TimmVision": "isthmus.encoders.vision.timm_vision",
    "TilesEncoder": "isthmus.encoders.vision.tiles_encoder",
    "FramesEncoder": "isthmus.encoders.vision.frames_encoder",
    "FrequencyEncoder": "isthmus.encoders.vision.frequency_encoder",
    "Whisper": "isthmus.encoders.speech.whisper",
    "Hubert": "isthmus.encoders.speech.hubert",
}

__all__ = list(_HOMES)
__getattr__, __dir__ = lazy(__name__, _HOMES)
