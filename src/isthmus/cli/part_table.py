"""What is known of each part beside its code: one entry a class. A test holds the rooms' classes against it."""

from __future__ import annotations

from dataclasses import dataclass

KINDS = {
    "encoders": "encoder",
    "input_projectors": "input projector",
    "backbones": "backbone",
    "output_projectors": "output projector",
    "generators": "generator",
}
"""Room -> what its parts are, in the order in which data flows through them."""

OURS = "Apache-2.0 (here)"
TRANSFORMERS = "Apache-2.0 (transformers)"
DIFFUSERS = "Apache-2.0 (diffusers)"
TRAINED = "trained here"


@dataclass(frozen=True)
class Part:
    """A class that a config can name.

    Attributes:
        class_path: as in a config.
        takes, gives: media, or tensors in the letters of :mod:`isthmus.types`.
        widths: of the published checkpoint, or where they come from.
        code: licence of the code that runs, and whose it is.
        weights: licence of the published weights.
        checkpoint: what it reads, and an example that can be downloaded.
        extra: of pyproject.toml, where the base install isn't enough.
        within: the argument of another part that it is given to, where it is none of the five kinds itself.
    """

    class_path: str
    takes: str
    gives: str
    widths: str
    code: str
    weights: str
    checkpoint: str
    extra: str = ""
    within: str = ""

    @property
    def kind(self) -> str:
        """What it is, by its room; or what it stands within."""
        return f"within {self.within}" if self.within else KINDS[self.class_path.split(".")[1]]

    @property
    def name(self) -> str:
        """The class's own name."""
        return self.class_path.rpartition(".")[2]


ENCODERS = (
    Part(
        "isthmus.encoders.ImageBind",
        takes="image, video, audio",
        gives="F (B, N, D): 1 token, or patches",
        widths="1024 pooled; patches 1280, audio 768",
        code=OURS,
        weights="CC-BY-NC-SA 4.0",
        checkpoint="imagebind_huge.pth, or a folder of config.json and weights",
    ),
    Part(
        "isthmus.encoders.TransformersVision",
        takes="image",
        gives="F (B, N, D): patches, or 1 token",
        widths="1024 (CLIP ViT-L/14), 1152 (SigLIP so400m)",
        code=TRANSFORMERS,
        weights="the model's own: CLIP MIT, SigLIP and DINOv2 Apache-2.0",
        checkpoint="a folder as of openai/clip-vit-large-patch14 or google/siglip-so400m-patch14-384",
    ),
    Part(
        "isthmus.encoders.TimmVision",
        takes="image",
        gives="F (B, N, D): patches, or 1 token",
        widths="1408 (EVA-CLIP-g), 1024 (EVA-02-L), 3072 (NFNet-F6)",
        code="Apache-2.0 (timm)",
        weights="the model's own: EVA-CLIP MIT, NFNet-F6 Apache-2.0",
        checkpoint="a weights file as timm or open_clip publishes it",
        extra="timm",
    ),
    Part(
        "isthmus.encoders.TilesEncoder",
        takes="image",
        gives="F (B, N, D): a thumbnail's tokens, then its tiles'",
        widths="the image encoder's",
        code=OURS,
        weights="the image encoder's",
        checkpoint="none of its own: it wraps an image encoder",
    ),
    Part(
        "isthmus.encoders.FrequencyEncoder",
        takes="image (pages)",
        gives="F (B, N, D): a token for every 64 x 64 pixels",
        widths="1344",
        code=OURS,
        weights="none: nothing is learnt",
        checkpoint="a folder of config.json",
    ),
    Part(
        "isthmus.encoders.FramesEncoder",
        takes="video, image",
        gives="F (B, N, D): each frame's tokens, or their mean",
        widths="the image encoder's",
        code=OURS,
        weights="the image encoder's; Flan-T5 Apache-2.0",
        checkpoint="none of its own: it wraps an image encoder, and may add a T5",
    ),
    Part(
        "isthmus.encoders.PointBert",
        takes="points",
        gives="F (B, N, D): 1 token, or 513 patches",
        widths="1280 pooled (ULIP-1: 512); patches 384",
        code=OURS,
        weights="none stated; its code is BSD-3-Clause",
        checkpoint="ULIP-2's or ULIP-1's .pt, or a folder of config.json and weights",
    ),
    Part(
        "isthmus.encoders.Beats",
        takes="audio",
        gives="F (B, N, D): 50 tokens a second, or 1",
        widths="768",
        code=OURS,
        weights="MIT",
        checkpoint="a published BEATs .pt, or a folder of config.json and weights",
    ),
    Part(
        "isthmus.encoders.Whisper",
        takes="audio (speech)",
        gives="F (B, N, D): 50 tokens a second, or 1",
        widths="1280",
        code=TRANSFORMERS,
        weights="Apache-2.0",
        checkpoint="a folder as of openai/whisper-large-v3",
    ),
    Part(
        "isthmus.encoders.Hubert",
        takes="audio (speech)",
        gives="F (B, N, D): 50 tokens a second, or 1",
        widths="1024",
        code=TRANSFORMERS,
        weights="Apache-2.0",
        checkpoint="a folder as of facebook/hubert-large-ll60k",
    ),
    Part(
        "isthmus.encoders.CFormer",
        takes="audio (speech)",
        gives="F (B, N, D): a token for each unit said, or 1",
        widths="512",
        code=OURS,
        weights="none published: train it",
        checkpoint="a folder of config.json and weights",
    ),
)

INPUT_PROJECTORS = (
    Part(
        "isthmus.input_projectors.Linear",
        takes="F (B, N, D)",
        gives="P (B, N x positions, E)",
        widths="the encoder's D, the LLM's E",
        code=OURS,
        weights=TRAINED,
        checkpoint="none",
    ),
    Part(
        "isthmus.input_projectors.MLP",
        takes="F (B, N, D)",
        gives="P (B, N x positions, E)",
        widths="the encoder's D, the LLM's E",
        code=OURS,
        weights=TRAINED,
        checkpoint="none",
    ),
    Part(
        "isthmus.input_projectors.TokenMerging",
        takes="F (B, N, D)",
        gives="P (B, N / 4, E)",
        widths="the encoder's D, the LLM's E",
        code=OURS,
        weights=TRAINED,
        checkpoint="none",
    ),
    Part(
        "isthmus.input_projectors.CrossAttention",
        takes="F (B, N, D)",
        gives="P (B, M, E), M learned queries",
        widths="the encoder's D, the LLM's E",
        code=OURS,
        weights=TRAINED,
        checkpoint="none",
    ),
    Part(
        "isthmus.input_projectors.QFormer",
        takes="F (B, N, D)",
        gives="P (B, M, E), M learned queries",
        widths="768 inside; 32 queries",
        code=TRANSFORMERS,
        weights="trained here, or from BLIP-2's (MIT)",
        checkpoint="none, or a folder as of Salesforce/blip2-opt-2.7b",
    ),
    Part(
        "isthmus.input_projectors.CFormerProjector",
        takes="F (B, N, D) of CFormer",
        gives="P (B, N, E)",
        widths="768 inside",
        code=TRANSFORMERS,
        weights=TRAINED,
        checkpoint="none",
    ),
)

BACKBONES = (
    Part(
        "isthmus.backbones.CausalBackbone",
        takes="text, P (B, M, E)",
        gives="text, S (B, S, E)",
        widths="4096 (Vicuna-7B, Qwen3-8B)",
        code=TRANSFORMERS,
        weights="the LLM's own: Vicuna v1.5 Llama 2, Qwen3 Apache-2.0",
        checkpoint="a folder of a decoder-only LLM and its tokenizer",
    ),
    Part(
        "isthmus.backbones.EncoderDecoderBackbone",
        takes="text, P (B, M, E)",
        gives="text, S (B, S, E)",
        widths="4096 (Flan-T5-XXL, UL2)",
        code=TRANSFORMERS,
        weights="the LLM's own: Flan-T5 and UL2 Apache-2.0",
        checkpoint="a folder of a T5 or mT5 and its tokenizer",
    ),
)

OUTPUT_PROJECTORS = (
    Part(
        "isthmus.output_projectors.MLP",
        takes="S (B, S, E)",
        gives="H (B, C, K)",
        widths="the LLM's E, the generator's (C, K)",
        code=OURS,
        weights=TRAINED,
        checkpoint="none",
    ),
    Part(
        "isthmus.output_projectors.TinyTransformer",
        takes="S (B, S, E)",
        gives="H (B, C, K)",
        widths="the LLM's E, the generator's (C, K); 512 inside",
        code=OURS,
        weights=TRAINED,
        checkpoint="none",
    ),
)

GENERATORS = (
    Part(
        "isthmus.generators.StableDiffusion",
        takes="H (B, C, K)",
        gives="image",
        widths="(77, 768) SD 1; (77, 1024) SD 2",
        code=DIFFUSERS,
        weights="CreativeML OpenRAIL-M (SD 1), OpenRAIL++-M (SD 2)",
        checkpoint="a StableDiffusionPipeline folder, as of stable-diffusion-v1-5/stable-diffusion-v1-5",
    ),
    Part(
        "isthmus.generators.StableDiffusionXL",
        takes="H (B, C, K), pooled (B, K')",
        gives="image",
        widths="(77, 2048), pooled 1280",
        code=DIFFUSERS,
        weights="CreativeML OpenRAIL++-M",
        checkpoint="a StableDiffusionXLPipeline folder, as of stabilityai/stable-diffusion-xl-base-1.0",
    ),
    Part(
        "isthmus.generators.StableDiffusion3",
        takes="H (B, C, K), pooled (B, K')",
        gives="image",
        widths="(333, 4096), pooled 2048",
        code=DIFFUSERS,
        weights="Stability AI Community License",
        checkpoint="a StableDiffusion3Pipeline folder, as of stabilityai/stable-diffusion-3.5-medium",
    ),
    Part(
        "isthmus.generators.ZeroScope",
        takes="H (B, C, K)",
        gives="video",
        widths="(77, 1024)",
        code=DIFFUSERS,
        weights="CC-BY-NC 4.0",
        checkpoint="a TextToVideoSDPipeline folder, as of cerspense/zeroscope_v2_576w",
    ),
    Part(
        "isthmus.generators.Wan",
        takes="H (B, C, K)",
        gives="video",
        widths="(512, 4096)",
        code=DIFFUSERS,
        weights="Apache-2.0",
        checkpoint="a WanPipeline folder, as of Wan-AI/Wan2.1-T2V-1.3B-Diffusers",
    ),
    Part(
        "isthmus.generators.AudioLDM",
        takes="H (B, C, K)",
        gives="audio",
        widths="(1, 512)",
        code=DIFFUSERS,
        weights="CC-BY-NC-SA 4.0",
        checkpoint="an AudioLDMPipeline folder, as of cvssp/audioldm-l-full",
    ),
    Part(
        "isthmus.generators.AudioLDM2",
        takes="H (B, C, K), pooled (B, K')",
        gives="audio",
        widths="(72, 1024), pooled 64",
        code=DIFFUSERS,
        weights="CC-BY-NC-SA 4.0",
        checkpoint="an AudioLDM2Pipeline folder, as of cvssp/audioldm2",
    ),
    Part(
        "isthmus.generators.StableAudio",
        takes="H (B, C, K)",
        gives="audio",
        widths="(128, 768)",
        code=DIFFUSERS,
        weights="Stability AI Community License",
        checkpoint="a StableAudioPipeline folder, as of stabilityai/stable-audio-open-1.0",
    ),
    Part(
        "isthmus.generators.ShapE",
        takes="H (B, 1, K)",
        gives="points",
        widths="(1, 768)",
        code=DIFFUSERS,
        weights="MIT",
        checkpoint="a ShapEPipeline folder, as of openai/shap-e",
    ),
)

PARTS = (*ENCODERS, *INPUT_PROJECTORS, *BACKBONES, *OUTPUT_PROJECTORS, *GENERATORS)
"""Every part, in the order in which data flows."""
