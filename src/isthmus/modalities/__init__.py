"""What a modality is: a name, and one specification that holds everything the system needs to know of it."""

from isthmus.modalities.kinds import CLIP, CLOUD, GRID, RASTER, SERIES, SIGNAL, Kind
from isthmus.modalities.names import Modality, Spec, is_medium, known_media
from isthmus.modalities.shipped import DEPTH, IMU, MEDIA, THERMAL

__all__ = [
    "CLIP",
    "CLOUD",
    "DEPTH",
    "GRID",
    "IMU",
    "MEDIA",
    "RASTER",
    "SERIES",
    "SIGNAL",
    "THERMAL",
    "Kind",
    "Modality",
    "Spec",
    "is_medium",
    "known_media",
]
