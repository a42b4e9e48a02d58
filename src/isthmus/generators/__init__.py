"""H -> media; media and H -> denoising loss; captions -> condition. The contract stands in base.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

from isthmus.exports import lazy

if TYPE_CHECKING:
    from isthmus.generators.audio.audioldm import AudioLDM
    from isthmus.generators.audio.audioldm2 import AudioLDM2
    from isthmus.generators.audio.stable_audio import StableAudio
    from isthmus.generators.image.stable_diffusion import StableDiffusion
    from isthmus.generators.image.stable_diffusion_3 import StableDiffusion3
    from isthmus.generators.image.stable_diffusion_xl import StableDiffusionXL
    from isthmus.generators.points.shap_e import ShapE
    from isthmus.generators.video.wan import Wan
    from isthmus.generators.video.zeroscope import ZeroScope

__all__ = [
    "AudioLDM",
    "AudioLDM2",
    "ShapE",
    "StableAudio",
    "StableDiffusion",
    "StableDiffusion3",
    "StableDiffusionXL",
    "Wan",
    "ZeroScope",
]

_HOMES = {
    "StableDiffusion": "isthmus.generators.image.stable_diffusion",
    "StableDiffusionXL": "isthmus.generators.image.stable_diffusion_xl",
    "StableDiffusion3": "isthmus.generators.image.stable_diffusion_3",
    "ZeroScope": "isthmus.generators.video.zeroscope",
    "Wan": "isthmus.generators.video.wan",
    "AudioLDM": "isthmus.generators.audio.audioldm",
    "AudioLDM2": "isthmus.generators.audio.audioldm2",
    "StableAudio": "isthmus.generators.audio.stable_audio",
    "ShapE": "isthmus.generators.points.shap_e",
}

__getattr__, __dir__ = lazy(__name__, _HOMES)
