"""Stable Diffusion XL: text -> image, conditioned on tokens and a pooled vector.

Source: Podell et al., arXiv 2307.01952; diffusers' ``StableDiffusionXLPipeline`` and its checkpoint format.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from isthmus.generators.caption_ids import padded_ids
from isthmus.generators.image.stable_diffusion import StableDiffusion
from isthmus.generators.text_towers import penultimate
from isthmus.part_card import PartCard
from isthmus.types import Condition

_BOTH = ("", "_2")


class StableDiffusionXL(StableDiffusion):
    """Stable Diffusion XL's base model.

    Its condition is the states before the last layer of two CLIP text towers, concatenated, and the second tower's text
    embedding: (77, 2048) and 1280 at full size. Its size conditioning is the image's size, without cropping.
    Weights: CreativeML OpenRAIL++-M.

    Args:
        checkpoint: the pipeline's folder.
        num_inference_steps, guidance_scale, scheduler, batch_size, dtype, memo_megabytes: as in
            :class:`DiffusionGenerator`.
        height, width: of the images, in pixels; None is the size that the UNet was trained at.

    Raises:
        ValueError: the folder is missing, another pipeline's or damaged, or an argument doesn't fit it.
    """

    card = PartCard(
        takes="H (B, C, K), pooled (B, K')",
        gives="image",
        widths="(77, 2048), pooled 1280",
        code="Apache-2.0 (diffusers)",
        weights="CreativeML OpenRAIL++-M",
        checkpoint="a StableDiffusionXLPipeline folder, as of stabilityai/stable-diffusion-xl-base-1.0",
    )

    pipeline_name = "StableDiffusionXLPipeline"
    conditioner_parts = ("text_encoder", "text_encoder_2")
    tokenizers = ("tokenizer", "tokenizer_2")
    default_guidance = 5.0
    # The pipeline adds a watermark only if a certain package is installed; images must not depend on that.
    absent_parts: ClassVar[dict[str, Any]] = {"add_watermarker": False}

    text_encoder_2: Any
    tokenizer_2: Any

    def _read_condition_shape(self) -> tuple[int, int]:
        tokens = [self.folder.value(f"tokenizer{which}/tokenizer_config.json", "model_max_length") for which in _BOTH]
        widths = [self.folder.value(f"text_encoder{which}/config.json", "hidden_size") for which in _BOTH]
        pooled = self.folder.value("text_encoder_2/config.json", "projection_dim")
        unet = self.folder.config("unet/config.json")
        added = 6 * int(unet.get("addition_time_embed_dim") or 0)
        found = (sum(widths), pooled + added)
        expected = (unet.get("cross_attention_dim"), unet.get("projection_class_embeddings_input_dim"))
        if found != expected:
            raise ValueError(
                f"checkpoint {self.checkpoint}: the text encoders give {found[0]} a token and {pooled} pooled, with "
                f"the sizes {found[1]}; unet/config.json has cross_attention_dim {expected[0]} and "
                f"projection_class_embeddings_input_dim {expected[1]}; expected them equal. "
                f"The parts are of different checkpoints."
            )
        if tokens[0] != tokens[1]:
            raise ValueError(
                f"checkpoint {self.checkpoint}: found model_max_length {tokens[0]} in tokenizer/ and {tokens[1]} in "
                f"tokenizer_2/; expected them equal. The parts are of different checkpoints."
            )
        self._pooled_width = int(pooled)
        return int(tokens[0]), int(sum(widths))

    def _materialize_conditioner(self) -> None:
        from transformers import CLIPTextModelWithProjection, CLIPTokenizer

        super()._materialize_conditioner()
        self.tokenizer_2 = self.folder.read("tokenizer_2", CLIPTokenizer)
        self.text_encoder_2 = self.folder.read("text_encoder_2", CLIPTextModelWithProjection, dtype=self.dtype)

    def _encode_text(self, captions: list[str]) -> tuple[Tensor, Tensor]:
        first, _ = penultimate(
            self.text_encoder, self.caption_ids(captions).input_ids.to(self.device, non_blocking=True)
        )
        ids = padded_ids(self.tokenizer_2, captions, self.condition_shape[0]).input_ids
        second, pooled = penultimate(self.text_encoder_2, ids.to(self.device, non_blocking=True))
        return torch.cat([first, second], dim=-1), pooled

    def _predict(self, noisy: Tensor, timesteps: Tensor, condition: Condition) -> Tensor:
        size = [self.height, self.width]
        sizes = torch.tensor([[*size, 0, 0, *size]], dtype=self.dtype, device=self.device)
        added = {"text_embeds": condition.pooled, "time_ids": sizes.expand(len(noisy), -1)}
        prediction: Tensor = self.unet(
            noisy, timesteps, encoder_hidden_states=condition.tokens, added_cond_kwargs=added, return_dict=False
        )[0]
        return prediction

    def _needs_exact_vae(self) -> bool:
        """The published VAE overflows in float16."""
        return bool(self.vae.config.force_upcast)

    def _scaled(self, latents: Tensor) -> Tensor:
        mean, deviation = self._moments(latents)
        return super()._scaled(latents - mean) / deviation

    def _unscaled(self, latents: Tensor) -> Tensor:
        mean, deviation = self._moments(latents)
        return super()._unscaled(latents * deviation) + mean

    def _moments(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """(1, c, 1, 1) mean and standard deviation of the VAE's latents, where its configuration has them."""
        mean, deviation = self.vae.config.latents_mean, self.vae.config.latents_std
        if mean is None or deviation is None:
            mean, deviation = [0.0], [1.0]
        return latents.new_tensor(mean).view(1, -1, 1, 1), latents.new_tensor(deviation).view(1, -1, 1, 1)

    def _unconditional(self, count: int) -> Condition:
        if not self.folder.config("model_index.json").get("force_zeros_for_empty_prompt", True):
            return super()._unconditional(count)
        assert self.pooled_width is not None
        return Condition(torch.zeros(count, *self.condition_shape), pooled=torch.zeros(count, self.pooled_width))

    def _prompt(self, condition: Condition, unconditional: Condition | None) -> dict[str, Any]:
        return super()._prompt(condition, unconditional) | {
            "pooled_prompt_embeds": condition.pooled,
            "negative_pooled_prompt_embeds": None if unconditional is None else unconditional.pooled,
        }
