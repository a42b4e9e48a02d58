"""AudioLDM 2: text -> audio, conditioned on two sequences of tokens.

Source: Liu et al., arXiv 2308.05734; diffusers' ``AudioLDM2Pipeline`` and its checkpoint format.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from isthmus.generators.audio.mel_audio import MelAudio
from isthmus.generators.caption_ids import CaptionIds, padded_ids
from isthmus.generators.pipeline_classes import pipeline_class
from isthmus.generators.schedules import Sampler
from isthmus.part_card import PartCard
from isthmus.precision import Dtype
from isthmus.types import Condition

VALID = 0.5
"""A T5 token is attended to if its entry of the pooled part exceeds this."""


class AudioLDM2(MelAudio):
    """AudioLDM 2 for sounds and music (encoders CLAP and T5; not the speech variant, whose second encoder is VITS).

    Its condition is what the UNet attends to: first the tokens that GPT-2 generates from CLAP's and T5's, then T5's
    own; the narrower ones are zero-padded to the wider ones' width. The UNet ignores T5 tokens after a caption's end,
    so the pooled part is their mask: 1 or 0 for each of ``caption_tokens``, thresholded at one half. The threshold has
    no gradient, so that only the alignment loss trains this part. At full size (72, 1024) and 64.

    A caption is encoded without padding, as the pipeline encodes one prompt: GPT-2 would count padding as positions.
    Weights: CC-BY-NC-SA 4.0.

    Args:
        checkpoint: the pipeline's folder.
        num_inference_steps, guidance_scale, scheduler, batch_size, dtype, memo_megabytes: as in
            :class:`DiffusionGenerator`.
        seconds, fft_size, lowest, highest, peak: as in :class:`MelAudio`.
        caption_tokens: the most T5 tokens of a caption, its end token included.

    Raises:
        ValueError: the folder is missing, another pipeline's or damaged, or an argument doesn't fit it.
    """

    card = PartCard(
        takes="H (B, C, K), pooled (B, K')",
        gives="audio",
        widths="(72, 1024), pooled 64",
        code="Apache-2.0 (diffusers)",
        weights="CC-BY-NC-SA 4.0",
        checkpoint="an AudioLDM2Pipeline folder, as of cvssp/audioldm2",
    )

    pipeline_name = "AudioLDM2Pipeline"
    conditioner_parts = ("text_encoder", "text_encoder_2", "projection_model", "language_model")
    tokenizers = ("tokenizer", "tokenizer_2")
    default_steps = 200
    default_guidance = 3.5

    text_encoder_2: Any
    tokenizer_2: Any
    projection_model: Any
    language_model: Any

    def __init__(
        self,
        checkpoint: str | Path,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        seconds: float | None = None,
        fft_size: int = 1024,
        lowest: float = 0.0,
        highest: float | None = None,
        peak: float | None = 0.5,
        caption_tokens: int = 64,
        scheduler: Sampler | None = None,
        batch_size: int = 16,
        dtype: Dtype = "float32",
        memo_megabytes: int = 256,
    ) -> None:
        super().__init__(
            checkpoint,
            num_inference_steps,
            guidance_scale,
            seconds,
            fft_size,
            lowest,
            highest,
            peak,
            scheduler,
            batch_size,
            dtype,
            memo_megabytes,
        )
        if caption_tokens < 1:
            raise ValueError(f"caption_tokens: found {caption_tokens}; expected at least 1")
        second = self.folder.config("text_encoder_2/config.json")
        if second.get("model_type") != "t5":
            raise ValueError(
                f"checkpoint {self.checkpoint}: text_encoder_2/config.json has model_type "
                f"'{second.get('model_type')}'; expected t5. Give an AudioLDM 2 for sounds or music."
            )
        self.caption_tokens = caption_tokens
        # Published language models state this number; diffusers' default is the published 8.
        self.generated_tokens = int(self.folder.config("language_model/config.json").get("max_new_tokens") or 8)
        self.widths = (
            int(self.folder.value("language_model/config.json", "n_embd")),
            int(self.folder.value("text_encoder_2/config.json", "d_model")),
        )
        self._condition_shape = self.generated_tokens + caption_tokens, max(self.widths)
        self._pooled_width = caption_tokens

    def _materialize_conditioner(self) -> None:
        from diffusers import AudioLDM2ProjectionModel
        from transformers import ClapModel, GPT2LMHeadModel, RobertaTokenizer, T5EncoderModel, T5Tokenizer

        self.tokenizer = self.folder.read("tokenizer", RobertaTokenizer)
        self.tokenizer_2 = self.folder.read("tokenizer_2", T5Tokenizer)
        self.caption_ids = CaptionIds(self.tokenizer_2, self.caption_tokens, str(self.checkpoint))
        self.text_encoder = self.folder.read("text_encoder", ClapModel, dtype=self.dtype)
        self.text_encoder_2 = self.folder.read("text_encoder_2", T5EncoderModel, dtype=self.dtype)
        self.projection_model = self.folder.read("projection_model", AudioLDM2ProjectionModel, dtype=self.dtype)
        self.language_model = self.folder.read("language_model", GPT2LMHeadModel, dtype=self.dtype)

    def _unet_class(self) -> Any:
        from diffusers import AudioLDM2UNet2DConditionModel

        return AudioLDM2UNet2DConditionModel

    def _encode_text(self, captions: list[str]) -> tuple[Tensor, Tensor]:
        encoded = [self._encode_one(caption) for caption in captions]
        return torch.cat([tokens for tokens, _ in encoded]), torch.cat([valid for _, valid in encoded])

    def _encode_one(self, caption: str) -> tuple[Tensor, Tensor]:
        padded = self.caption_ids([caption])
        length = int(padded.attention_mask.sum())
        ids, mask = (
            padded.input_ids[:, :length].to(self.device, non_blocking=True),
            padded.attention_mask[:, :length].to(self.device, non_blocking=True),
        )
        words = self.text_encoder_2(ids, attention_mask=mask)[0]
        clap = padded_ids(self.tokenizer, [caption], self.tokenizer.model_max_length).to(self.device, non_blocking=True)
        sound = self.text_encoder.get_text_features(clap.input_ids, attention_mask=clap.attention_mask).pooler_output
        both = self.projection_model(
            hidden_states=sound[:, None],
            hidden_states_1=words,
            attention_mask=mask.new_ones(1, 1),
            attention_mask_1=mask,
        )
        # The pipeline's own loop, called on this object: of `self` it uses only the language model and the device.
        generated = pipeline_class(self.pipeline_name).generate_language_model(
            self, both.hidden_states, attention_mask=both.attention_mask, max_new_tokens=self.generated_tokens
        )
        valid = torch.zeros(1, self.caption_tokens, device=self.device, dtype=words.dtype)
        valid[:, :length] = 1
        words = functional.pad(words, (0, 0, 0, self.caption_tokens - length))
        return torch.cat([self._widened(generated), self._widened(words)], dim=1), valid

    def _widened(self, tokens: Tensor) -> Tensor:
        return functional.pad(tokens, (0, self.condition_shape[1] - tokens.shape[-1]))

    def _split(self, condition: Condition) -> tuple[Tensor, Tensor, Tensor]:
        """GPT-2's tokens, T5's tokens, and the mask of T5's, in which the first is always valid."""
        assert condition.pooled is not None
        generated = condition.tokens[:, : self.generated_tokens, : self.widths[0]]
        mask = (condition.pooled > VALID).long()
        mask[:, 0] = 1
        return generated, condition.tokens[:, self.generated_tokens :, : self.widths[1]], mask

    def _predict(self, noisy: Tensor, timesteps: Tensor, condition: Condition) -> Tensor:
        generated, words, mask = self._split(condition)
        prediction: Tensor = self.unet(
            noisy,
            timesteps,
            encoder_hidden_states=generated,
            encoder_hidden_states_1=words,
            encoder_attention_mask_1=mask,
            return_dict=False,
        )[0]
        return prediction

    def _prompt(self, condition: Condition, unconditional: Condition | None) -> dict[str, Any]:
        names = ("generated_prompt_embeds", "prompt_embeds", "attention_mask")
        prompt: dict[str, Any] = dict(zip(names, self._split(condition), strict=True))
        if unconditional is not None:
            negative = self._split(unconditional)
            prompt |= dict(zip((f"negative_{name}" for name in names), negative, strict=True))
        return prompt

    def _pipeline_parts(self) -> dict[str, Any]:
        # The pipeline would use it to rank several sounds of one prompt; here only one is generated.
        return {**super()._pipeline_parts(), "feature_extractor": None}
