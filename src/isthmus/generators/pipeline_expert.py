"""A diffusers pipeline as a frozen expert: its folder, the loading of its two halves, and its text conditions."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from isthmus.compiling import compile_in_place
from isthmus.earlier.options import takes_present_names
from isthmus.generators.base import Generator
from isthmus.generators.condition_memo import ConditionMemo
from isthmus.generators.pipeline_classes import deprecation_silenced, pipeline_class
from isthmus.generators.pipeline_folder import PipelineFolder
from isthmus.generators.schedules import Sampler, check_sampler, sampling_scheduler, scheduler_class
from isthmus.generators.steps import announces_steps
from isthmus.precision import Dtype, torch_dtype
from isthmus.types import Condition, Media


class PipelineExpert(Generator):
    """The folder and the parts of a text-conditioned pipeline; :class:`DiffusionGenerator` runs them.

    Args:
        checkpoint: the pipeline's folder. Only its json files are read until a part is used.
        num_inference_steps: default number of denoising steps of :meth:`generate`; None is the pipeline's default.
        guidance_scale: default scale of classifier-free guidance, likewise; up to 1, only the conditional pass runs.
        scheduler: a sampler that replaces the folder's, for fewer steps.
        batch_size: how many media are generated at a time.
        dtype: the type of the weights. Conditions are float32 in any case.
        memo_megabytes: the most memory for cached conditions, on the conditioner's device.

    Raises:
        ValueError: the folder is missing, another pipeline's or damaged, or an argument is out of range.
    """

    pipeline_name: ClassVar[str]
    conditioner_parts: ClassVar[tuple[str, ...]] = ("text_encoder",)
    """The modules of the text conditioner, in the order in which they are read."""
    tokenizers: ClassVar[tuple[str, ...]] = ("tokenizer",)
    denoiser_part: ClassVar[str] = "unet"
    """The denoiser's folder and attribute; it is loaded last."""

    default_steps: ClassVar[int]
    default_guidance: ClassVar[float]

    _condition_shape: tuple[int, int]
    _pooled_width: int | None = None
    text_encoder: Any
    tokenizer: Any
    unet: Any
    vae: Any
    anchor: Tensor

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "__init__" in vars(cls):
            takes_present_names(cls)

    def __init__(
        self,
        checkpoint: str | Path,
        num_inference_steps: int | None,
        guidance_scale: float | None,
        scheduler: Sampler | None,
        batch_size: int,
        dtype: Dtype,
        memo_megabytes: int,
    ) -> None:
        super().__init__()
        self.num_inference_steps = self.default_steps if num_inference_steps is None else num_inference_steps
        self.guidance_scale = self.default_guidance if guidance_scale is None else guidance_scale
        for name, value in (
            ("num_inference_steps", self.num_inference_steps),
            ("batch_size", batch_size),
            ("memo_megabytes", memo_megabytes),
        ):
            if value < 1:
                raise ValueError(f"{name}: found {value}; expected at least 1")
        check_sampler(scheduler)
        self.batch_size = batch_size
        self.sampler = scheduler
        self.folder = PipelineFolder(checkpoint, self.pipeline_name)
        self.checkpoint = self.folder.path
        self.dtype = torch_dtype(dtype)
        self.memo_megabytes = memo_megabytes
        self._memo: ConditionMemo | None = None
        self._compiles_denoiser = False
        self._schedule_config = self.folder.config("scheduler/scheduler_config.json")
        self._schedule_file = f"checkpoint {self.checkpoint}: scheduler/scheduler_config.json"
        self._pipeline: Any = None
        # A buffer moves with the module, so that parts are later loaded on the module's device.
        self.register_buffer("anchor", torch.empty(0), persistent=False)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        copied = super().__deepcopy__(memo)
        # Its scheduler would step the original's; the copy makes a pipeline of its own from its parts.
        copied._pipeline = None
        return copied

    @abstractmethod
    def _materialize_conditioner(self) -> None:
        """Loads the parts named in :attr:`tokenizers` and :attr:`conditioner_parts`."""

    @abstractmethod
    def _materialize_denoiser(self) -> None:
        """Loads ``vae`` and the pipeline's other parts, :attr:`denoiser_part` last."""

    @abstractmethod
    def _encode_text(self, captions: list[str]) -> Tensor | tuple[Tensor, Tensor]:
        """Captions -> (B, C, K), equal to the pipeline's own prompt encoding.

        With a :attr:`pooled_width`, a pair of that and (B, K').
        """

    @property
    def condition_shape(self) -> tuple[int, int]:
        """(C, K) of the text conditioner's output, from the folder's json files."""
        return self._condition_shape

    @property
    def pooled_width(self) -> int | None:
        """K' of the pooled vector, from the folder's json files; None if the pipeline takes none."""
        return self._pooled_width

    @property
    def device(self) -> torch.device:
        """The device where the parts are, or will be loaded."""
        return self.anchor.device

    @property
    def conditioner_is_loaded(self) -> bool:
        """Whether the text conditioner is loaded."""
        return self.conditioner_parts[-1] in self._modules

    @property
    def denoiser_is_loaded(self) -> bool:
        """Whether the denoiser, the VAE and a vocoder are loaded."""
        return self.denoiser_part in self._modules

    def load(self, device: torch.device | str | None = None) -> None:
        """Loads all parts. See :meth:`load_conditioner` and :meth:`load_denoiser` for one half alone."""
        self.load_conditioner(device)
        self.load_denoiser(device)

    def load_conditioner(self, device: torch.device | str | None = None) -> None:
        """Loads only the tokenizer and the text encoder, which alignment needs."""
        self._load(self.conditioner_is_loaded, self._materialize_conditioner, device)

    def load_denoiser(self, device: torch.device | str | None = None) -> None:
        """Loads the denoiser, the VAE and a vocoder, without the text encoder."""
        self._load(self.denoiser_is_loaded, self._materialize_denoiser, device)
        if self._compiles_denoiser:
            compile_in_place(getattr(self, self.denoiser_part), "output_side.compiled", self.device)

    def compile_denoiser(self) -> None:
        if self.denoiser_is_loaded:
            self.release_denoiser()
        self._compiles_denoiser = True

    def _load(self, is_present: bool, materialize: Callable[[], None], device: torch.device | str | None) -> None:
        # If the first use is in Lightning's validation, the weights would otherwise be inference tensors, through
        # which no later training step could backpropagate.
        with torch.inference_mode(False), torch.no_grad():
            if not is_present:
                with torch.random.fork_rng(devices=[]):
                    materialize()
                self.requires_grad_(False)
                self.eval()
                self.is_loaded = self.conditioner_is_loaded and self.denoiser_is_loaded
            if (device is not None or not is_present) and not self.stays:
                self.to(self.device if device is None else device)

    def release(self) -> None:
        """Drops the conditioner, the denoiser, the pipeline and cached conditions, where it doesn't stay."""
        if self.stays:
            return
        super().release()
        for tokenizer in self.tokenizers:
            setattr(self, tokenizer, None)
        self._memo = None
        self._pipeline = None

    def release_denoiser(self) -> None:
        """Drops all but the text conditioner and cached conditions, where it doesn't stay."""
        if self.stays:
            return
        for name in list(self._modules):
            if name not in self.conditioner_parts:
                delattr(self, name)
        self.is_loaded = False
        self._pipeline = None

    def _pipeline_parts(self) -> dict[str, Any]:
        """The arguments of the pipeline's class, without the scheduler."""
        parts = ("vae", *self.conditioner_parts, *self.tokenizers, self.denoiser_part)
        return {part: getattr(self, part) for part in parts}

    def _resident_pipeline(self) -> Any:
        self.load()
        if self._pipeline is None:
            shipped = self._shipped_scheduler()
            with deprecation_silenced():
                pipeline = pipeline_class(self.pipeline_name)(scheduler=shipped, **self._pipeline_parts())
            # After construction, because a pipeline may fix an old scheduler's configuration.
            pipeline.scheduler = announces_steps(sampling_scheduler(pipeline.scheduler, self.sampler), self._estimate)
            pipeline.set_progress_bar_config(disable=True)
            self._pipeline = pipeline
        return self._pipeline

    def _estimate(
        self, scheduler: Any, prediction: Tensor, timestep: Any, latents: Tensor, rows: Collection[int]
    ) -> dict[int, Media]:
        """The media that the denoiser predicts for rows of the batch, where :attr:`has_estimates` says so.

        Args:
            scheduler: the sampler.
            prediction: the denoiser's output (B, ...) after guidance.
            timestep: of the step.
            latents: (B, ...) before the step.
            rows: that are wanted.
        """
        return {}

    def _shipped_scheduler(self) -> Any:
        return self.folder.read("scheduler", scheduler_class(self._schedule_config, self._schedule_file))

    def _checked(self, condition: Condition) -> Condition:
        tokens, pooled = condition.tokens, condition.pooled
        if tokens.ndim != 3 or tuple(tokens.shape[1:]) != self.condition_shape:
            raise ValueError(
                f"condition: found {tuple(tokens.shape)}; {type(self).__name__} of {self.checkpoint} expects "
                f"(batch, {self.condition_shape[0]}, {self.condition_shape[1]}). "
                f"Build the output projector for this generator's condition_shape."
            )
        expected = None if self.pooled_width is None else (len(tokens), self.pooled_width)
        if (None if pooled is None else tuple(pooled.shape)) != expected:
            raise ValueError(
                f"condition: found a pooled part {None if pooled is None else tuple(pooled.shape)}; "
                f"{type(self).__name__} of {self.checkpoint} expects {expected}. "
                f"Build the output projector's pooled head for this generator's pooled_width."
            )
        return condition

    def _checked_settings(
        self, count: int, seeds: Sequence[int], num_inference_steps: int | None, guidance_scale: float | None
    ) -> tuple[int, float]:
        """Steps and guidance of a call of :meth:`generate` for ``count`` conditions."""
        num_inference_steps = self.num_inference_steps if num_inference_steps is None else num_inference_steps
        if len(seeds) != count:
            raise ValueError(f"seeds: found {len(seeds)} for {count} conditions; expected one each")
        if num_inference_steps < 1:
            raise ValueError(f"num_inference_steps: found {num_inference_steps}; expected at least 1")
        return num_inference_steps, self.guidance_scale if guidance_scale is None else guidance_scale

    def _caption_positions(self) -> int:
        """The tokens of a padded caption, for which a CLIP text encoder must have positions."""
        tokens = int(self.folder.value("tokenizer/tokenizer_config.json", "model_max_length"))
        positions = int(self.folder.value("text_encoder/config.json", "max_position_embeddings"))
        if tokens > positions:
            raise ValueError(
                f"checkpoint {self.checkpoint}: tokenizer/tokenizer_config.json pads to model_max_length {tokens}, and "
                f"text_encoder/config.json has {positions} positions. Set model_max_length to {positions} at most."
            )
        return tokens

    def condition(self, captions: Sequence[str]) -> Condition:
        """Captions -> (B, C, K) and a pooled (B, K') if there is one, float32, no gradient. Each is encoded once."""
        if isinstance(captions, str):
            raise ValueError(f"captions: found one string, '{captions}'; expected a list of captions")
        size = self.condition_shape[0] * self.condition_shape[1] + (self.pooled_width or 0)
        if not captions:
            return self._unpacked(torch.zeros(0, size, device=self.device))
        if self._memo is None:
            self._memo = ConditionMemo(max(1, self.memo_megabytes * 2**20 // (4 * size)))
        # Cached rows are used in training and validation: no inference tensors, and not rounded by autocast.
        with torch.inference_mode(False), torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            return self._unpacked(self._memo.look_up(captions, self._encode, self.device))

    def _unpacked(self, rows: Tensor) -> Condition:
        """(B, C * K + K') -> tokens and pooled vector, which the memo keeps in one row for each caption."""
        tokens = rows[:, : self.condition_shape[0] * self.condition_shape[1]]
        pooled = None if self.pooled_width is None else rows[:, tokens.shape[1] :]
        return Condition(tokens.reshape(len(rows), *self.condition_shape), pooled=pooled)

    def _packed(self, captions: list[str]) -> Tensor:
        encoded = self._encode_text(captions)
        if isinstance(encoded, Tensor):
            return encoded.flatten(1)
        return torch.cat([encoded[0].flatten(1), encoded[1].to(encoded[0].dtype)], dim=1)

    def _encode(self, captions: list[str]) -> Tensor:
        self.load_conditioner()
        if self.device.type == "cpu":
            # One by one: batching changes the last bits of a caption's condition, so that a resumed run, whose first
            # batches differ, would diverge from an uninterrupted one. As each is encoded once, this costs little.
            return torch.cat([self._packed([caption]) for caption in captions]).float()
        return self._packed(captions).float()
