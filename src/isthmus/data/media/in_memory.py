"""Converts media in memory: decoded media, Pillow images, and plain arrays with a rate."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from isthmus.data.errors import DataError, Fault, fault
from isthmus.data.media.images.files import image_array
from isthmus.data.media.limits import MediaLimits
from isthmus.data.media.points.columns import float32_cloud
from isthmus.modalities import CLOUD, RASTER
from isthmus.types import Media, Modality


def to_media(value: Any, modality: Modality, rate: float | None, where: str) -> Media:
    """A :class:`Media`, a Pillow image or an array -> a medium.

    Args:
        value: an array as :class:`Media` describes it; what is float32 may also be float64.
        modality: its stated modality.
        rate: frames or samples per second, for an array.
        where: the field's name in an error.

    Raises:
        DataError: another type, or an array that doesn't fit the modality.
    """
    if isinstance(value, Media):
        if value.modality is not modality:
            raise fault(where, f"found a {value.modality}", f"a {modality}", "give it under its own type")
        return value
    if isinstance(value, Image.Image) and modality.kind is RASTER:
        return Media(modality, image_array(value, where), source=where)
    if isinstance(value, np.ndarray):
        if modality.kind is CLOUD and value.dtype == np.float64 and value.ndim == 2 and value.shape[1] in (3, 6):
            value = float32_cloud(value, where, MediaLimits())
        is_real = modality.kind.is_real and value.dtype == np.float64
        try:
            return Media(modality, value.astype(np.float32) if is_real else value, rate=rate, source=where)
        except ValueError as error:
            raise DataError(Fault.SCHEMA, str(error)) from error
    expected = "a path, a Media, an array with 'rate'" + (", a Pillow image" if modality.kind is RASTER else "")
    raise fault(where, f"found {type(value).__name__}", expected, "convert it")
