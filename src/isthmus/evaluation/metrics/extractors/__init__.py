"""Frozen networks whose features of media are compared; configs name one by ``class_path``, its weights by path."""

from __future__ import annotations

from typing import TYPE_CHECKING

from isthmus.exports import lazy

if TYPE_CHECKING:
    from isthmus.evaluation.metrics.extractors.encoder import EncoderFeatures as EncoderFeatures
    from isthmus.evaluation.metrics.extractors.inception import InceptionFeatures as InceptionFeatures
    from isthmus.evaluation.metrics.extractors.transformers_audio import TransformersAudio as TransformersAudio
    from isthmus.evaluation.metrics.extractors.transformers_images import TransformersImages as TransformersImages
    from isthmus.evaluation.metrics.extractors.transformers_videos import TransformersVideos as TransformersVideos

_ROOM = "isthmus.evaluation.metrics.extractors"
_HOMES = {
    "EncoderFeatures": f"{_ROOM}.encoder",
    "InceptionFeatures": f"{_ROOM}.inception",
    "TransformersAudio": f"{_ROOM}.transformers_audio",
    "TransformersImages": f"{_ROOM}.transformers_images",
    "TransformersVideos": f"{_ROOM}.transformers_videos",
}

__all__ = list(_HOMES)
__getattr__, __dir__ = lazy(__name__, _HOMES)
