"""Media -> F (B, N, D), by frozen experts: one folder for each expert or family; base.py has the interface."""

from __future__ import annotations

from typing import TYPE_CHECKING

from isthmus.exports import lazy

if TYPE_CHECKING:
    from isthmus.encoders.beats.encoder import Beats
    from isthmus.encoders.c_former.encoder import CFormer
    from isthmus.encoders.imagebind.encoder import ImageBind
    from isthmus.encoders.point_bert.encoder import PointBert
    from isthmus.encoders.speech.hubert import Hubert
    from isthmus.encoders.speech.whisper import Whisper
    from isthmus.encoders.vision.frames_encoder import FramesEncoder
    from isthmus.encoders.vision.frequency_encoder import FrequencyEncoder
    from isthmus.encoders.vision.tiles_encoder import TilesEncoder
    from isthmus.encoders.vision.timm_vision import TimmVision
    from isthmus.encoders.vision.transformers_vision import TransformersVision

__all__ = [
    "Beats",
    "CFormer",
    "FramesEncoder",
    "FrequencyEncoder",
    "Hubert",
    "ImageBind",
    "PointBert",
    "TilesEncoder",
    "TimmVision",
    "TransformersVision",
    "Whisper",
]

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

__getattr__, __dir__ = lazy(__name__, _HOMES)
