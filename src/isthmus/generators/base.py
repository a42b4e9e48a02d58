"""The contract of a generator: H -> media; media and H -> denoising loss; captions -> condition, its target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from isthmus.request import Request
from isthmus.types import Condition, FrozenExpert, Media, Modality


class Generator(FrozenExpert):
    """A frozen expert that makes media from a condition.

    Its text conditioner and its denoiser load apart, each on first use: alignment needs the first alone.
    """

    modality: Modality
    checkpoint: Path
    sampling_settings: tuple[str, ...] = ("steps", "guidance", "batch_size")
    """Attributes that only :meth:`generate` reads: a condition is the same whatever they are."""

    @property
    def condition_shape(self) -> tuple[int, int]:
        """(C, K) of the text conditioner's output, read from the expert's configuration, without weights."""
        raise NotImplementedError

    @property
    def pooled_width(self) -> int | None:
        """K' of the pooled part that stands beside the condition's tokens; None where the generator takes tokens alone.

        Read, as the shape is, from the expert's configuration, without weights.
        """
        return None

    def compile_denoiser(self) -> None:
        """From its next use on, the denoiser runs as ``torch.compile`` makes it.

        Media are the same to rounding. The first use takes a minute or so.

        Raises:
            ValueError: this generator has no denoiser that can be compiled.
        """
        raise ValueError(
            f"output_side.compiled: found {self.modality}; {type(self).__name__} has no denoiser that can be compiled. "
            "Fix: take it out of the list."
        )

    def condition(self, captions: Sequence[str]) -> Condition:
        """Captions -> (B, C, K), and (B, K') where the generator wants a pooled part.

        The generator's own text conditioner, without gradient. Computed once a caption.
        """
        raise NotImplementedError

    def prepare(self, medium: Media) -> dict[str, Tensor]:
        """One medium as the denoising target, no batch axis. Runs in data workers."""
        raise NotImplementedError

    def request(self) -> Request | None:
        """What of a medium :meth:`prepare` looks at: see :meth:`isthmus.encoders.base.Encoder.request`."""
        return None

    def denoising_loss(self, content: Mapping[str, Tensor], condition: Condition, seeds: Tensor) -> Tensor:
        """(B,) the denoising error of each content under its condition, with the scheduler's own prediction type.

        ``seeds`` (B,) int64 fixes each sample's noise and timestep, whatever the batch or the process around it.
        """
        raise NotImplementedError

    def generate(
        self, condition: Condition, seeds: Sequence[int], steps: int | None = None, guidance: float | None = None
    ) -> list[Media]:
        """One medium a condition.

        The same seed gives the same medium whatever else is in the batch, within float32 rounding.
        """
        raise NotImplementedError
