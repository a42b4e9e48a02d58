"""H -> media; media and H -> denoising loss; captions -> condition. The interface is in base.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

from isthmus.exports import lazy

if TYPE_CHECKING:
    from isthmus.generators.audio.audioldm import AudioLDM as AudioLDM
    from isthmus.generators.audio.audioldm2 import AudioLDM2 as AudioLDM2
    from isthmus.generators.audio.stable_audio import StableAudio as StableAudio
    from isthmus.generators.image.stable_diffusion import StableDiffusion as StableDiffusion
    from isthmus.generators.image.stable_diffusion_3 import StableDiffusion3 as StableDiffusion3
    from isthmus.generators.image.stable_diffusion_xl import StableDiffusionXL as StableDiffusionXL
    from isthmus.generators.points.shap_e import ShapE as ShapE
    from isthmus.generators.video.wan import Wan as Wan
    from isthmus.generators.video.zeroscope import ZeroScope as ZeroScope

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

__all__ = list(_HOMES)
__getattr__, __dir__ = lazy(__name__, _HOMES)
