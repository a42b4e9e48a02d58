"""Published checkpoints that configs name, and that are fetched by hand: size, licence and command."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Known:
    """A published checkpoint.

    Attributes:
        source: where it is published: ``org/name`` on the Hugging Face hub, or an address.
        licence: of the weights.
        billions: of parameters of the published model, those that aren't read here (Whisper's decoder) among them.
        skips: options of ``hf download`` that leave out copies in other forms.
    """

    source: str
    licence: str
    billions: float
    skips: str = ""

    @property
    def size(self) -> int:
        """Bytes of the parameters at 16 bits; a checkpoint of 32 bits is twice as large."""
        return round(2e9 * self.billions)

    def command(self, named: str) -> str:
        """What fetches it to where a config names it: a file of an address, a folder of a repository."""
        if self.source.startswith("https://"):
            return f"curl --create-dirs -o {named} {self.source}"
        return f"hf download {self.source} --local-dir {named}{self.skips}"


KNOWN = {
    "imagebind": Known("https://dl.fbaipublicfiles.com/imagebind/imagebind_huge.pth", "CC-BY-NC-SA 4.0", 1.2),
    "vicuna-7b-v1.5": Known("lmsys/vicuna-7b-v1.5", "Llama 2", 6.74),
    "stable-diffusion-v1-5": Known(
        "stable-diffusion-v1-5/stable-diffusion-v1-5", "CreativeML OpenRAIL-M", 1.07, " --exclude '*.ckpt' 'v1-5*'"
    ),
    "zeroscope_v2_576w": Known("cerspense/zeroscope_v2_576w", "CC-BY-NC 4.0", 1.84),
    "audioldm-l-full": Known("cvssp/audioldm-l-full", "CC-BY-NC-SA 4.0", 0.98),
    "siglip-so400m-patch14-384": Known("google/siglip-so400m-patch14-384", "Apache-2.0", 0.88),
    "whisper-large-v3": Known("openai/whisper-large-v3", "Apache-2.0", 1.55),
    "qwen3-4b-instruct": Known("Qwen/Qwen3-4B-Instruct-2507", "Apache-2.0", 4.02),
    "stable-diffusion-xl-base-1.0": Known(
        "stabilityai/stable-diffusion-xl-base-1.0",
        "CreativeML OpenRAIL++-M",
        3.47,
        " --exclude 'sd_xl*' '*onnx*' '*openvino*' '*flax*' '*fp16*'",
    ),
    "wan2.1-t2v-1.3b": Known("Wan-AI/Wan2.1-T2V-1.3B-Diffusers", "Apache-2.0", 7.23),
    "audioldm2": Known("cvssp/audioldm2", "CC-BY-NC-SA 4.0", 1.1),
    "Llama-3.3-70B-Instruct": Known("meta-llama/Llama-3.3-70B-Instruct", "Llama 3.3", 70.55, " --exclude 'original/*'"),
    "Qwen2.5-7B-Instruct": Known("Qwen/Qwen2.5-7B-Instruct", "Apache-2.0", 7.62),
}
"""By the folder under ``checkpoints/`` that holds it."""


def known_checkpoint(path: Path) -> Known | None:
    """The published checkpoint that a path names, if it is one of these."""
    return next((KNOWN[part] for part in path.parts if part in KNOWN), None)
