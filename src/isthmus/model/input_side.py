"""The input side: media -> F -> P. Frozen encoders, and one trained projector a modality."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pytorch_lightning as pl
from torch import Tensor, nn

from isthmus.encoders.base import Encoder
from isthmus.input_projectors.base import InputProjector
from isthmus.types import Media, MediaBatch, Modality

ProjectorFactory = Callable[[int, int], InputProjector]
"""D, E -> a projector."""


class InputSide(pl.LightningModule):
    """Encoders and input projectors.

    Args:
        encoders: each serves the modalities that it names; no two the same one.
        projectors: by modality; called with the encoder's width D and the LLM's width E.

    Raises:
        ValueError: a modality has two encoders, no projector, or a projector without an encoder.
    """

    def __init__(self, encoders: Sequence[Encoder], projectors: Mapping[str, ProjectorFactory]) -> None:
        super().__init__()
        self.encoders = nn.ModuleList(encoders)
        self.serving: dict[Modality, int] = {}
        for index, encoder in enumerate(encoders):
            for modality in encoder.modalities:
                if modality in self.serving:
                    raise ValueError(
                        f"input_side.encoders: {modality} has two encoders, "
                        f"{type(encoders[self.serving[modality]]).__name__} and {type(encoder).__name__}; "
                        "take it out of one's modalities"
                    )
                self.serving[modality] = index
        if set(projectors) != set(self.serving):
            raise ValueError(
                f"input_side.projectors: found {', '.join(sorted(projectors)) or 'none'}; the encoders serve "
                f"{', '.join(sorted(self.serving)) or 'none'}: give each of these one projector"
            )
        self.factories = dict(projectors)
        self.projectors = nn.ModuleDict()

    def build(self, width: int) -> None:
        """Makes the projectors, from each encoder's width to the LLM's E."""
        for modality in self.serving:
            self.projectors[modality] = self.factories[modality](self.encoder(modality).width(modality), width)

    def encoder(self, modality: Modality) -> Encoder:
        """The encoder that serves a modality.

        Raises:
            ValueError: none does.
        """
        if modality not in self.serving:
            raise ValueError(
                f"input_side: found {modality}; its encoders serve {', '.join(self.serving) or 'none'}: "
                f"give it an encoder and a projector for {modality}"
            )
        encoder = self.encoders[self.serving[modality]]
        assert isinstance(encoder, Encoder)
        return encoder

    def projector(self, modality: Modality) -> InputProjector:
        """The modality's projector."""
        projector = self.projectors[modality]
        assert isinstance(projector, InputProjector)
        return projector

    def preprocessors(self) -> dict[Modality, Callable[[Media], dict[str, Tensor]]]:
        """By modality, what a data worker does to a medium."""
        return {modality: self.encoder(modality).preprocess for modality in self.serving}

    def positions(self, modality: Modality, inputs: Mapping[str, Tensor]) -> int:
        """M, the LLM positions of one preprocessed medium, known without running anything."""
        return self.projector(modality).positions(self.encoder(modality).token_count(modality, inputs))

    def forward(self, media: Mapping[Modality, MediaBatch]) -> dict[Modality, tuple[Tensor, Tensor]]:
        """By modality P (n, M, E) and its mask (n, M). An encoder is loaded when its first medium comes."""
        projected = {}
        for modality, batch in media.items():
            encoder = self.encoder(modality)
            encoder.load(self.device)
            features = encoder(modality, batch.inputs)
            projected[modality] = self.projector(modality)(features)
        return projected

    def release(self) -> None:
        """Drops the encoders' weights; they are read again when needed."""
        for encoder in self.encoders:
            assert isinstance(encoder, Encoder)
            encoder.release()
