"""AudioLDM: text -> audio.

Source: Liu et al., arXiv 2301.12503; diffusers' ``AudioLDMPipeline`` and its checkpoint format.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor
from torch.nn import functional

from isthmus.generators.audio.mel_audio import MelAudio
from isthmus.generators.caption_ids import CaptionIds
from isthmus.generators.schedules import Sampler
from isthmus.part_card import PartCard
from isthmus.precision import Dtype
from isthmus.types import Condition


class AudioLDM(MelAudio):
    """AudioLDM. Its condition is CLAP's text embedding, L2-normalised: (1, 512) at full size.

    Args:
        checkpoint: the pipeline's folder.
        num_inference_steps, guidance_scale, scheduler, batch_size, dtype, memo_megabytes: as in
            :class:`DiffusionGenerator`.
        seconds, fft_size, lowest, highest, peak: as in :class:`MelAudio`.

    Raises:
        ValueError: the folder is missing, another pipeline's or damaged, or an argument doesn't fit it.
    """

    card = PartCard(
        takes="H (B, C, K)",
        gives="audio",
        widths="(1, 512)",
        code="Apache-2.0 (diffusers)",
        weights="CC-BY-NC-SA 4.0",
        checkpoint="an AudioLDMPipeline folder, as of cvssp/audioldm-l-full",
    )

    pipeline_name = "AudioLDMPipeline"
    default_steps = 10
    default_guidance = 2.5

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
        self._condition_shape = self._read_condition_shape()

    def _read_condition_shape(self) -> tuple[int, int]:
        width: int = self.folder.value("text_encoder/config.json", "projection_dim")
        expected: int = self.folder.value("unet/config.json", "projection_class_embeddings_input_dim")
        if width != expected:
            raise ValueError(
                f"checkpoint {self.checkpoint}: text_encoder/config.json has projection_dim {width}, and "
                f"unet/config.json has projection_class_embeddings_input_dim {expected}; expected them equal. "
                f"The parts are of different checkpoints."
            )
        return 1, width

    def _materialize_conditioner(self) -> None:
        from transformers import ClapTextModelWithProjection, RobertaTokenizer

        self.tokenizer = self.folder.read("tokenizer", RobertaTokenizer)
        self.caption_ids = CaptionIds(self.tokenizer, self.tokenizer.model_max_length, str(self.checkpoint))
        self.text_encoder = self.folder.read("text_encoder", ClapTextModelWithProjection, dtype=self.dtype)

    def _unet_class(self) -> Any:
        from diffusers import UNet2DConditionModel

        return UNet2DConditionModel

    def _encode_text(self, captions: list[str]) -> Tensor:
        inputs = self.caption_ids(captions).to(self.device, non_blocking=True)
        embeddings: Tensor = self.text_encoder(inputs.input_ids, attention_mask=inputs.attention_mask).text_embeds
        return functional.normalize(embeddings, dim=-1)[:, None]

    def _predict(self, noisy: Tensor, timesteps: Tensor, condition: Condition) -> Tensor:
        prediction: Tensor = self.unet(
            noisy, timesteps, encoder_hidden_states=None, class_labels=condition.tokens[:, 0], return_dict=False
        )[0]
        return prediction

    def _prompt(self, condition: Condition, unconditional: Condition | None) -> dict[str, Any]:
        # The pipeline's embeddings have no token axis.
        prompt = super()._prompt(condition, unconditional)
        return {name: None if tokens is None else tokens[:, 0] for name, tokens in prompt.items()}
