"""The interface of a generator: H -> media; media and H -> denoising loss; captions -> condition, the target of H."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from torch import Tensor

from isthmus.frozen import FrozenExpert
from isthmus.request import Request
from isthmus.types import Condition, Media, Modality


class Generator(FrozenExpert):
    """A frozen expert that makes media from a condition.

    Its text conditioner and its denoiser load separately, each on first use: alignment needs only the conditioner.
    """

    modality: Modality
    checkpoint: Path
    sampling_settings: tuple[str, ...] = ("num_inference_steps", "guidance_scale", "batch_size")
    """Attributes that only :meth:`generate` reads; conditions don't depend on them."""

    denoises: ClassVar[bool] = True
    """Whether it has a denoising loss; one that has overrides :meth:`prepare` and :meth:`denoising_loss`."""
    has_estimates: ClassVar[bool] = False
    """Whether a medium can be looked at between denoising steps (:mod:`isthmus.generators.steps`)."""

    @property
    def condition_shape(self) -> tuple[int, int]:
        """(C, K) of the text conditioner's output, read from the expert's configuration, without weights."""
        raise NotImplementedError

    @property
    def pooled_width(self) -> int | None:
        """K', the width of the condition's pooled vector; None if the generator takes only tokens.

        Like the shape, it is read from the expert's configuration, without weights.
        """
        return None

    def compile_denoiser(self) -> None:
        """Compiles the denoiser by ``torch.compile`` at its next use, which takes about a minute.

        Media are the same up to rounding.

        Raises:
            ValueError: this generator has no denoiser that can be compiled.
        """
        raise ValueError(
            f"output_side.compiled: found {self.modality}; {type(self).__name__} has no denoiser that can be compiled. "
            "Fix: remove it from the list."
        )

    def condition(self, captions: Sequence[str]) -> Condition:
        """Captions -> (B, C, K), and (B, K') if the generator takes a pooled vector.

        Computed by the generator's own text conditioner, without gradient, once for each caption.
        """
        raise NotImplementedError

    def prepare(self, medium: Media) -> dict[str, Tensor]:
        """One medium -> the denoising target, without a batch axis. Runs in data workers.

        Raises:
            ValueError: this generator has no denoising loss.
        """
        raise ValueError(self._no_denoising())

    def request(self) -> Request | None:
        """The part of a medium that :meth:`prepare` reads: see :meth:`isthmus.encoders.base.Encoder.request`."""
        return None

    def denoising_loss(self, content: Mapping[str, Tensor], condition: Condition, seeds: Tensor) -> Tensor:
        """(B,) the denoising error of each content given its condition, for the scheduler's prediction type.

        ``seeds`` (B,) int64 determine each sample's noise and timestep, independent of the batch and the process.

        Raises:
            ValueError: this generator has no denoising loss.
        """
        raise ValueError(self._no_denoising())

    def _no_denoising(self) -> str:
        return (
            f"losses.denoising: {self.checkpoint}: found {self.modality} to denoise; {type(self).__name__} has no "
            "denoising loss. Fix: leave files out of the assistant's turns (target_files: false), since their captions "
            "train by alignment."
        )

    def generate(
        self,
        condition: Condition,
        seeds: Sequence[int],
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
    ) -> list[Media]:
        """Generates one medium for each condition.

        The same seed gives the same medium in any batch, within float32 rounding.
        """
        raise NotImplementedError
