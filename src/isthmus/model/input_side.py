"""The input side: media -> F -> P. Frozen encoders, and one trained projector a modality."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial

import pytorch_lightning as pl
from torch import Tensor, nn

from isthmus.backbones.owned_state import keep_to_owned, owned_by
from isthmus.cache.frozen import FrozenCache
from isthmus.cache.media import MediumCache
from isthmus.encoders.base import Encoder
from isthmus.input_projectors.base import InputProjector
from isthmus.input_projectors.p_former import PFormer
from isthmus.model.gaps import without_gaps
from isthmus.model.positions import Positions
from isthmus.precision import lifted
from isthmus.request import Request
from isthmus.types import Batch, Features, Media, MediaBatch, Modality

ProjectorFactory = Callable[[int, int], InputProjector]
"""D, E -> a projector."""

TeacherFactory = Callable[[int], PFormer]
"""E -> a teacher."""


class InputSide(pl.LightningModule):
    """Encoders and input projectors.

    Args:
        encoders: each serves the modalities that it names; no two the same one.
        projectors: by modality; called with the encoder's width D and the LLM's width E.
        teacher: of the projectors, from text alone; called with E. For stages that weigh ``teaching`` or
            ``imitation``; None if there are none.
        shared: modality -> another one, through whose projector it goes, as all do in NExT-GPT's first release. Their
            encoders are as wide.

    Raises:
        ValueError: a modality has two encoders, no projector, or a projector without an encoder; or one is shared that
            isn't there.
    """

    def __init__(
        self,
        encoders: Sequence[Encoder],
        projectors: Mapping[str, ProjectorFactory],
        teacher: TeacherFactory | None = None,
        shared: Mapping[str, str] | None = None,
    ) -> None:
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
        self.shared = dict(shared or {})
        if wrong := [own for own, other in self.shared.items() if other not in projectors or own in projectors]:
            raise ValueError(
                f"input_side.shared: found {wrong[0]}: {self.shared[wrong[0]]}; expected one without a projector "
                f"of its own, then one with ({', '.join(sorted(projectors)) or 'none'}). Fix: correct them."
            )
        if set(projectors) | set(self.shared) != set(self.serving):
            raise ValueError(
                f"input_side.projectors: found {', '.join(sorted(projectors)) or 'none'}; the encoders serve "
                f"{', '.join(sorted(self.serving)) or 'none'}: give each of these one projector, or a shared one"
            )
        self.factories = dict(projectors)
        self.projectors = nn.ModuleDict()
        self.teacher_factory = teacher
        self.teacher: PFormer | None = None
        self.fused: frozenset[Modality] = frozenset()
        self.cache: FrozenCache | None = None
        keep_to_owned(self)

    def owned(self) -> dict[str, dict[str, str]]:
        """By component, such as ``input_projectors.image``, where this module holds each of its tensors."""
        places = {f"input_projectors.{name}": f"projectors.{name}" for name in self.projectors}
        return owned_by(self, places | ({} if self.teacher is None else {"teacher": "teacher"}))

    def build(self, width: int, fused: Collection[Modality] = ()) -> None:
        """Makes the projectors, from each encoder's width to the LLM's E, and their teacher.

        Media that are ``fused`` take no positions in the LLM.

        Raises:
            ValueError: encoders of different widths share a projector.
        """
        self.fused = frozenset(fused)
        widths = {modality: self.encoder(modality).width(modality) for modality in self.serving}
        for modality, own in widths.items():
            if modality not in self.shared:
                self.projectors[modality] = self.factories[modality](own, width)
            elif own != (other := widths[Modality(self.shared[modality])]):
                raise ValueError(
                    f"input_side.shared: found {modality}: {self.shared[modality]}, whose encoders are {own} and "
                    f"{other} wide; expected the same width. Fix: give {modality} a projector of its own."
                )
        if self.teacher_factory is not None:
            self.teacher = self.teacher_factory(width)

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
        projector = self.projectors[self.shared.get(modality, modality)]
        assert isinstance(projector, InputProjector)
        return projector

    def preprocessors(self) -> dict[Modality, Callable[[Media], dict[str, Tensor]]]:
        """By modality, what a data worker does to a medium."""
        return {modality: self.encoder(modality).preprocess for modality in self.serving}

    @property
    def positions(self) -> Positions:
        """What says M, the LLM positions of one preprocessed medium, without running anything."""
        projectors = {modality: self.projector(modality) for modality in self.serving}
        return Positions({modality: self.encoder(modality) for modality in self.serving}, projectors, self.fused)

    def requests(self) -> dict[Modality, Request | None]:
        """By modality, what of a medium its encoder looks at."""
        return {modality: self.encoder(modality).request(modality) for modality in self.serving}

    def cached(self) -> dict[Modality, MediumCache]:
        """By modality, where data workers look for features; empty without a cache."""
        if self.cache is None:
            return {}
        of = self.positions.of
        found = {m: self.cache.medium(self.encoder(m), m, partial(of, m)) for m in self.serving}
        return {modality: medium for modality, medium in found.items() if medium is not None}

    def forward(
        self, media: Mapping[Modality, MediaBatch], features: Mapping[Modality, Features] | None = None
    ) -> dict[Modality, tuple[Tensor, Tensor]]:
        """By modality P (n, M, E) of each place and its mask (n, M).

        Args:
            media: of a batch.
            features: F of these media, where they are known (:meth:`encode`); they are encoded otherwise.
        """
        known = self.encode(media) if features is None else features
        projected = {}
        for modality, batch in media.items():
            tokens, mask = self.projector(modality)(known[modality])
            if batch.index is not None:
                tokens, mask = tokens[batch.index], mask[batch.index]
            projected[modality] = tokens, mask
        return projected

    def encode(self, media: Mapping[Modality, MediaBatch]) -> dict[Modality, Features]:
        """By modality F (d, N, D) of the distinct media. An encoder is loaded when its first medium comes.

        Encoders are frozen, so that F is the same for a policy and its reference: it is computed once for both.
        """
        return {modality: self.features(modality, batch) for modality, batch in media.items()}

    def features(self, modality: Modality, batch: MediaBatch) -> Features:
        """F of one modality, as the bridge takes it: from the cache, as far as it holds them, and of the encoder.

        The encoder is loaded when it has to run.
        """
        encoder = self.encoder(modality)
        if batch.cached is not None and self.cache is not None:
            features = self.cache.features(encoder, modality, batch, self.device)
        else:
            encoder.load(self.device)
            features = encoder(modality, batch.inputs)
        return Features(lifted(features.tokens), features.mask)

    def packed(self, batch: Batch, projected: Mapping[Modality, tuple[Tensor, Tensor]]) -> Batch:
        """The batch, without the positions that its media were given and didn't take.

        Only encoders that can't foretell their tokens leave any (:attr:`Encoder.counts_are_bounds`).
        """
        bounded = {m for m in projected if self.encoder(m).counts_are_bounds and m not in self.fused}
        return without_gaps(batch, {modality: projected[modality][1] for modality in bounded})

    def release(self) -> None:
        """Drops the encoders' weights; they are read again when needed."""
        for encoder in self.encoders:
            assert isinstance(encoder, Encoder)
            encoder.release()
