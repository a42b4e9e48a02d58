"""Media as bytes that a browser or a notebook displays, and as data URIs within a page."""

from __future__ import annotations

import io
import wave
from base64 import b64encode
from typing import Any

import numpy as np

from isthmus.modalities import CLIP, CLOUD, RASTER, SIGNAL
from isthmus.types import Media

LARGEST = 256
"""Longer side of embedded images, pixels: a page with videos of full size would have hundreds of megabytes."""
LOSSLESS = 64
"""Videos up to this side, in pixels, are embedded losslessly."""
SPECTROGRAM = (128, 64)
"""Width and height of a spectrogram."""

Array = np.ndarray[Any, Any]


def image_png(array: Array, largest: int = LARGEST) -> bytes:
    """(H, W, 3) uint8 -> a PNG file, whose longer side is at most ``largest``."""
    file = io.BytesIO()
    _fitted(array, largest).save(file, format="PNG")
    return file.getvalue()


def video_webp(array: Array, rate: float, largest: int = LARGEST) -> bytes:
    """(F, H, W, 3) uint8 at ``rate`` frames a second -> an animated WebP file that loops; ``largest`` as above."""
    frames = [_fitted(frame, largest) for frame in array]
    file = io.BytesIO()
    frames[0].save(
        file,
        format="WEBP",
        save_all=True,
        append_images=frames[1:],
        duration=round(1000 / rate),
        loop=0,
        lossless=max(array.shape[1:3]) <= LOSSLESS,
    )
    return file.getvalue()


def audio_wav(array: Array, rate: float) -> bytes:
    """(L,) float32 in [-1, 1] -> a WAV file of 16-bit samples."""
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(round(rate))
        sound.writeframes((np.clip(array, -1, 1) * 32767).round().astype("<i2").tobytes())
    return file.getvalue()


def spectrogram_png(array: Array) -> bytes:
    """(L,) float32 -> a PNG of its log spectrogram: time to the right, frequencies up to a quarter of its rate."""
    from PIL import Image

    length = 512
    padded = np.pad(array.astype(np.float64), (0, max(0, length - len(array))))
    windows = np.lib.stride_tricks.sliding_window_view(padded, length)
    picked = windows[np.linspace(0, len(windows) - 1, SPECTROGRAM[0]).round().astype(int)]
    power = np.abs(np.fft.rfft(picked * np.hanning(length)))[:, : length // 4].T ** 2
    level = np.log10(power + 1e-9)
    shade = np.clip((level - level.max() + 5) / 5, 0, 1)[::-1]  # the loudest 50 dB
    tinted = np.stack([shade**2 * 250, shade * 200, 70 + 110 * shade], axis=-1).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(tinted).resize(SPECTROGRAM, Image.Resampling.BILINEAR).save(file, format="PNG")
    return file.getvalue()


def points_bytes(array: Array) -> bytes:
    """(P, 3 or 6) float32 -> six bytes for each point: x, y, z in the bounding sphere of the centred cloud, colour."""
    place = array[:, :3] - (array[:, :3].max(0) + array[:, :3].min(0)) / 2
    place = place / max(float(np.linalg.norm(place, axis=1).max()), 1e-9)
    colour = array[:, 3:] if array.shape[1] == 6 else np.full_like(place, 0.55)
    whole = np.concatenate([(place + 1) / 2, np.clip(colour, 0, 1)], axis=1)
    return (whole * 255).round().astype(np.uint8).tobytes()


def data_uri(kind: str, content: bytes) -> str:
    """A file as a URI: ``data:image/png;base64,...``."""
    return f"data:{kind};base64,{b64encode(content).decode('ascii')}"


def embedded(medium: Media, largest: int = LARGEST) -> dict[str, str]:
    """What a page needs to show a medium: ``kind`` and ``uri`` or ``points``, and of a sound its ``spectrum``.

    What a browser has no way to show is shown by a picture, film, sound or cloud of it, as its modality says.
    """
    shown: Media = medium.modality.spec.function("view")(medium)
    array, rate, name = shown.array, shown.rate, str(medium.modality)
    if shown.modality.kind is RASTER:
        return {"kind": "image", "name": name, "uri": data_uri("image/png", image_png(array, largest))}
    if shown.modality.kind is CLIP:
        assert rate is not None, "a clip has a rate"
        return {"kind": "video", "name": name, "uri": data_uri("image/webp", video_webp(array, shown.pace, largest))}
    if shown.modality.kind is SIGNAL:
        assert rate is not None, "a signal has a rate"
        spectrum = data_uri("image/png", spectrogram_png(array))
        return {
            "kind": "audio",
            "name": name,
            "uri": data_uri("audio/wav", audio_wav(array, rate)),
            "spectrum": spectrum,
        }
    if shown.modality.kind is CLOUD:
        return {"kind": "points", "name": name, "points": b64encode(points_bytes(array)).decode("ascii")}
    raise ValueError(
        f"modality {name}: its view gives {shown.modality}, a {shown.modality.kind.name}; expected a raster, clip, "
        "signal or cloud, which a page can show. Fix: give the specification another view."
    )


def _fitted(array: Array, largest: int) -> Any:
    from PIL import Image

    picture = Image.fromarray(array)
    picture.thumbnail((largest, largest))
    return picture
