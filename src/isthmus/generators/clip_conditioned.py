"""Pipelines that attend to CLIP's last hidden states and generate images of a fixed size."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from isthmus.generators.caption_ids import CaptionIds
from isthmus.generators.diffusion import DiffusionGenerator
from isthmus.generators.schedules import Sampler
from isthmus.precision import Dtype
from isthmus.types import Condition


class ClipConditioned(DiffusionGenerator):
    """The base of Stable Diffusion and similar pipelines.

    Args:
        checkpoint: the pipeline's folder.
        num_inference_steps, guidance_scale, scheduler, batch_size, dtype, memo_megabytes: as in
            :class:`DiffusionGenerator`.
        height, width: of the images, in pixels; None is the size that the UNet was trained at.

    Raises:
        ValueError: the folder is missing, another pipeline's or damaged, or an argument doesn't fit it.
    """

    def __init__(
        self,
        checkpoint: str | Path,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        height: int | None = None,
        width: int | None = None,
        scheduler: Sampler | None = None,
        batch_size: int = 16,
        dtype: Dtype = "float32",
        memo_megabytes: int = 256,
    ) -> None:
        super().__init__(checkpoint, num_inference_steps, guidance_scale, scheduler, batch_size, dtype, memo_megabytes)
        self._condition_shape = self._read_condition_shape()
        size = self.folder.value(f"{self.denoiser_part}/config.json", "sample_size")
        factor = 2 ** (len(self.folder.value("vae/config.json", "block_out_channels")) - 1)
        rows, columns = (size, size) if isinstance(size, int) else size
        # A transformer takes its latents in patches.
        grain = factor * int(self.folder.config(f"{self.denoiser_part}/config.json").get("patch_size", 1))
        self.height = rows * factor if height is None else height
        self.width = columns * factor if width is None else width
        for name, pixels in (("height", self.height), ("width", self.width)):
            if pixels < 8 or pixels % 8 or pixels % grain:
                raise ValueError(
                    f"{name}: found {pixels}; {self.pipeline_name} of {self.checkpoint} draws multiples of "
                    f"{max(8, grain)} pixels, and was trained at {rows * factor} x {columns * factor}"
                )

    def _read_condition_shape(self) -> tuple[int, int]:
        tokens = self._caption_positions()
        width = self.folder.value("text_encoder/config.json", "hidden_size")
        attended = self.folder.value("unet/config.json", "cross_attention_dim")
        if isinstance(attended, int) and attended != width:
            raise ValueError(
                f"checkpoint {self.checkpoint}: text_encoder/config.json has hidden_size {width}, and unet/config.json "
                f"has cross_attention_dim {attended}; expected them equal. The parts are of different checkpoints."
            )
        return tokens, int(width)

    def _materialize_conditioner(self) -> None:
        from transformers import CLIPTextModel, CLIPTokenizer

        self.tokenizer = self.folder.read("tokenizer", CLIPTokenizer)
        self.caption_ids = CaptionIds(self.tokenizer, self.condition_shape[0], str(self.checkpoint))
        self.text_encoder = self.folder.read("text_encoder", CLIPTextModel, dtype=self.dtype)

    def _encode_text(self, captions: list[str]) -> Tensor | tuple[Tensor, Tensor]:
        inputs = self.caption_ids(captions).to(self.device, non_blocking=True)
        # Padding is attended to unless the configuration says otherwise, as in the UNet's training.
        is_masked = getattr(self.text_encoder.config, "use_attention_mask", False)
        mask = inputs.attention_mask if is_masked else None
        states: Tensor = self.text_encoder(inputs.input_ids, attention_mask=mask)[0]
        return states

    def _predict(self, noisy: Tensor, timesteps: Tensor, condition: Condition) -> Tensor:
        prediction: Tensor = self.unet(noisy, timesteps, encoder_hidden_states=condition.tokens, return_dict=False)[0]
        return prediction
