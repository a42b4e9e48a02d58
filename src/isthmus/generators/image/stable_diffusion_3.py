"""Stable Diffusion 3: text -> image, by a transformer and flow matching, conditioned on tokens and a pooled vector.

Source: Esser et al., arXiv 2403.03206; diffusers' ``StableDiffusion3Pipeline`` and its checkpoint format.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from isthmus.generators.caption_ids import CaptionIds, padded_ids
from isthmus.generators.image.stable_diffusion import StableDiffusion
from isthmus.generators.noising import FlowNoising
from isthmus.generators.text_towers import penultimate
from isthmus.part_card import PartCard
from isthmus.precision import Dtype
from isthmus.types import Condition


class StableDiffusion3(StableDiffusion):
    """Stable Diffusion 3 and 3.5, with their T5.

    Its condition is the states before the last layer of two CLIP text towers, concatenated and padded to T5's width,
    then T5's last hidden states. The pooled vector is both towers' text embeddings. (333, 4096) and 2048 at full size.
    Weights: Stability AI Community License.

    Args:
        checkpoint: the pipeline's folder.
        num_inference_steps, guidance_scale, batch_size, dtype, memo_megabytes: as in :class:`DiffusionGenerator`.
        height, width: of the images, in pixels; None is the size that the transformer was trained at.
        caption_tokens: the number of T5 tokens of a caption; the pipeline's by default.

    Raises:
        ValueError: the folder is missing, another pipeline's or damaged, or an argument doesn't fit it.
    """

    card = PartCard(
        takes="H (B, C, K), pooled (B, K')",
        gives="image",
        widths="(333, 4096), pooled 2048",
        code="Apache-2.0 (diffusers)",
        weights="Stability AI Community License",
        checkpoint="a StableDiffusion3Pipeline folder, as of stabilityai/stable-diffusion-3.5-medium",
    )

    pipeline_name = "StableDiffusion3Pipeline"
    conditioner_parts = ("text_encoder", "text_encoder_2", "text_encoder_3")
    tokenizers = ("tokenizer", "tokenizer_2", "tokenizer_3")
    denoiser_part = "transformer"
    default_steps = 28
    default_guidance = 7.0
    noising_class = FlowNoising
    absent_parts: ClassVar[dict[str, Any]] = {}

    text_encoder_2: Any
    text_encoder_3: Any
    tokenizer_2: Any
    tokenizer_3: Any
    transformer: Any

    def __init__(
        self,
        checkpoint: str | Path,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        height: int | None = None,
        width: int | None = None,
        caption_tokens: int = 256,
        batch_size: int = 16,
        dtype: Dtype = "float32",
        memo_megabytes: int = 256,
    ) -> None:
        super().__init__(
            checkpoint, num_inference_steps, guidance_scale, height, width, None, batch_size, dtype, memo_megabytes
        )
        if caption_tokens < 1:
            raise ValueError(f"caption_tokens: found {caption_tokens}; expected at least 1")
        self.clip_tokens, tokens_width = self._condition_shape
        self._condition_shape = self.clip_tokens + caption_tokens, tokens_width
        self.caption_tokens = caption_tokens

    def _read_condition_shape(self) -> tuple[int, int]:
        towers = [self.folder.config(f"text_encoder{which}/config.json") for which in ("", "_2")]
        clip, pooled = (sum(int(tower.get(name, 0)) for tower in towers) for name in ("hidden_size", "projection_dim"))
        width = int(self.folder.value("text_encoder_3/config.json", "d_model"))
        expected = tuple(
            self.folder.value("transformer/config.json", name)
            for name in ("joint_attention_dim", "pooled_projection_dim")
        )
        if (width, pooled) != expected or clip > width:
            raise ValueError(
                f"checkpoint {self.checkpoint}: the text encoders give {clip} (CLIP) and {width} (T5) a token and "
                f"{pooled} pooled; transformer/config.json has joint_attention_dim {expected[0]} and "
                f"pooled_projection_dim {expected[1]}. Expected T5's and the pooled one equal, and CLIP's no wider. "
                f"The parts are of different checkpoints."
            )
        self._pooled_width = pooled
        return int(self.folder.value("tokenizer/tokenizer_config.json", "model_max_length")), width

    def _materialize_conditioner(self) -> None:
        from transformers import CLIPTextModelWithProjection, CLIPTokenizer, T5EncoderModel, T5Tokenizer

        self.tokenizer = self.folder.read("tokenizer", CLIPTokenizer)
        self.tokenizer_2 = self.folder.read("tokenizer_2", CLIPTokenizer)
        self.tokenizer_3 = self.folder.read("tokenizer_3", T5Tokenizer)
        self.caption_ids = CaptionIds(self.tokenizer_3, self.caption_tokens, str(self.checkpoint))
        self.text_encoder = self.folder.read("text_encoder", CLIPTextModelWithProjection, dtype=self.dtype)
        self.text_encoder_2 = self.folder.read("text_encoder_2", CLIPTextModelWithProjection, dtype=self.dtype)
        self.text_encoder_3 = self.folder.read("text_encoder_3", T5EncoderModel, dtype=self.dtype)

    def _materialize_denoiser(self) -> None:
        from diffusers import AutoencoderKL, SD3Transformer2DModel

        self.vae = self.folder.read("vae", AutoencoderKL, dtype=self.dtype)
        self.transformer = self.folder.read("transformer", SD3Transformer2DModel, dtype=self.dtype)

    def _encode_text(self, captions: list[str]) -> tuple[Tensor, Tensor]:
        towers = ((self.tokenizer, self.text_encoder), (self.tokenizer_2, self.text_encoder_2))
        encoded = [
            penultimate(
                tower, padded_ids(tokenizer, captions, self.clip_tokens).input_ids.to(self.device, non_blocking=True)
            )
            for tokenizer, tower in towers
        ]
        clip = torch.cat([states for states, _ in encoded], dim=-1)
        # T5 attends to its padding, as in the transformer's training: the pipeline passes no mask.
        words = self.text_encoder_3(self.caption_ids(captions).input_ids.to(self.device, non_blocking=True))[0]
        tokens = torch.cat([functional.pad(clip, (0, words.shape[-1] - clip.shape[-1])), words], dim=1)
        return tokens, torch.cat([pooled for _, pooled in encoded], dim=-1)

    def _predict(self, noisy: Tensor, timesteps: Tensor, condition: Condition) -> Tensor:
        prediction: Tensor = self.transformer(
            hidden_states=noisy,
            timestep=timesteps,
            encoder_hidden_states=condition.tokens,
            pooled_projections=condition.pooled,
            return_dict=False,
        )[0]
        return prediction

    def _scaled(self, latents: Tensor) -> Tensor:
        return (latents - float(self.vae.config.shift_factor)) * float(self.vae.config.scaling_factor)

    def _unscaled(self, latents: Tensor) -> Tensor:
        return latents / float(self.vae.config.scaling_factor) + float(self.vae.config.shift_factor)

    def _prompt(self, condition: Condition, unconditional: Condition | None) -> dict[str, Any]:
        return super()._prompt(condition, unconditional) | {
            "pooled_prompt_embeds": condition.pooled,
            "negative_pooled_prompt_embeds": None if unconditional is None else unconditional.pooled,
        }
