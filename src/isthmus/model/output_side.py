"""The output side: S -> H -> media. One trained projector a modality, and frozen generators."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from isthmus.backbones.owned_state import keep_to_owned, owned_by
from isthmus.cache.frozen import FrozenCache
from isthmus.earlier.options import takes_present_names
from isthmus.generators.base import Generator
from isthmus.generators.residency import Residency
from isthmus.losses import AlignmentForm, alignment_loss
from isthmus.output_projectors.base import OutputProjector
from isthmus.output_projectors.pooled import WithPooled
from isthmus.output_projectors.standardisation import Standardisation
from isthmus.precision import lifted
from isthmus.request import Request
from isthmus.types import Condition, Media, Modality, SignalBatch

ProjectorFactory = Callable[[int, int, tuple[int, int]], OutputProjector]
"""E, S, (C, K) -> a projector."""


class OutputSide(pl.LightningModule):
    """Output projectors and generators.

    Args:
        generators: at most one a modality.
        projectors: by modality; called with the LLM's width E, the signal tokens S and the generator's condition shape.
        compiled: modalities whose denoiser runs as ``torch.compile`` makes it: a minute at its first use, for faster
            steps where the denoiser is large. Media are the same to rounding.
        standardised: whether projectors get S less what it is in every conversation, which they learn much faster from
            (:mod:`isthmus.output_projectors.standardisation`). Training finds it out in its first steps. Models of
            earlier versions were trained without.

    Attributes:
        standards: by modality, what is taken from S; none where it isn't ``standardised``.
        residency: moves generators to the device when they are used; None leaves them where they are.

    Raises:
        ValueError: a modality has two generators, no projector, or a projector without a generator; or what is to be
            compiled isn't served, or has no denoiser.
    """

    def __init__(
        self,
        generators: Sequence[Generator],
        projectors: Mapping[str, ProjectorFactory],
        compiled: Sequence[str] = (),
        standardised: bool = False,
    ) -> None:
        super().__init__()
        self.generators = nn.ModuleList(generators)
        self.serving: dict[Modality, int] = {}
        for index, generator in enumerate(generators):
            if generator.modality in self.serving:
                raise ValueError(f"output_side.generators: {generator.modality} has two generators; keep one")
            self.serving[generator.modality] = index
        if set(projectors) != set(self.serving):
            raise ValueError(
                f"output_side.projectors: found {', '.join(sorted(projectors)) or 'none'}; the generators make "
                f"{', '.join(sorted(self.serving)) or 'none'}: give each of these one projector"
            )
        for modality in compiled:
            if modality not in self.serving:
                made = ", ".join(sorted(self.serving)) or "none"
                raise ValueError(f"output_side.compiled: found {modality}; the generators make {made}: take it out")
            self.generator(Modality(modality)).compile_denoiser()
        self.factories = dict(projectors)
        self.projectors = nn.ModuleDict()
        self.standardised = standardised
        self.standards = nn.ModuleDict()
        self.cache: FrozenCache | None = None
        self.residency: Residency | None = None
        keep_to_owned(self)

    def owned(self) -> dict[str, dict[str, str]]:
        """By component, such as ``output_projectors.image``, where this module holds each of its tensors."""
        found = owned_by(self, {f"output_projectors.{name}": f"projectors.{name}" for name in self.projectors})
        for modality, names in owned_by(self, {name: f"standards.{name}" for name in self.standards}).items():
            found[f"output_projectors.{modality}"] |= {f"standard.{name}": path for name, path in names.items()}
        return found

    def build(self, width: int, signals: Mapping[Modality, int]) -> None:
        """Makes the projectors, from the LLM's E and each modality's S to the generator's condition.

        A generator that takes a pooled part too gets a head for it, in the projector's own part.

        Raises:
            ValueError: a modality has no signal tokens.
        """
        if absent := [modality for modality in self.serving if modality not in signals]:
            raise ValueError(
                f"output_side.generators: found {absent[0]}, which has no signal tokens; expected any of "
                f"{', '.join(signals)}. Fix: count it in the LLM's `signals`."
            )
        for modality in self.serving:
            generator = self.generator(modality)
            projector = self.factories[modality](width, signals[modality], generator.condition_shape)
            pooled = generator.pooled_width
            self.projectors[modality] = projector if pooled is None else WithPooled(projector, width, pooled)
            if self.standardised:
                self.standards[modality] = Standardisation(signals[modality], width)

    def generator(self, modality: Modality) -> Generator:
        """The generator of a modality."""
        generator = self.generators[self.serving[modality]]
        assert isinstance(generator, Generator)
        return generator

    def _used(self, modality: Modality) -> Generator:
        """The generator of a modality, to compute with."""
        generator = self.generator(modality)
        if self.residency is not None:
            self.residency.bring(generator)
        return generator

    def preparers(self) -> dict[Modality, Callable[[Media], dict[str, Tensor]]]:
        """By modality, what a data worker does to a denoising target."""
        return {modality: self.generator(modality).prepare for modality in self.serving}

    def requests(self) -> dict[Modality, Request | None]:
        """By modality, what of a denoising target its generator looks at."""
        return {modality: self.generator(modality).request() for modality in self.serving}

    def forward(self, signals: Mapping[Modality, Tensor]) -> dict[Modality, Condition]:
        """By modality S (r, S, E) -> H (r, C, K), and (r, K') where the generator wants a pooled part."""
        return {modality: self._project(modality, states) for modality, states in signals.items()}

    def _project(self, modality: Modality, states: Tensor) -> Condition:
        states = lifted(states)
        if modality in self.standards:
            states = self.standards[modality](states)
        projected = self.projectors[modality](states)
        return Condition(projected) if isinstance(projected, Tensor) else Condition(projected[0], pooled=projected[1])

    def target(self, modality: Modality, captions: Sequence[str]) -> Condition:
        """(r, C, K), and (r, K') where there is one: the generator's own text condition of each caption.

        Without gradient, on this side's device.
        """
        generator = self._used(modality)
        condition = generator.condition(captions) if self.cache is None else self.cache.condition(generator, captions)
        return condition.to(self.device)

    def distance(
        self, modality: Modality, captions: Sequence[str], condition: Condition, form: AlignmentForm = "mse"
    ) -> tuple[Tensor, Tensor]:
        """How far H is from the generator's own condition of each of r captions.

        Returns:
            (r,) the alignment losses of H's tokens, plus those of its pooled part where the generator takes one; and
            (), without gradient, the cosines of H's tokens and the target's, each condition as one vector, summed.
        """
        target = self.target(modality, captions)
        distances = alignment_loss(condition.tokens, target.tokens, form=form)
        if condition.pooled is not None and target.pooled is not None:
            distances = distances + alignment_loss(condition.pooled[:, None], target.pooled[:, None], form=form)
        assert (condition.pooled is None) == (target.pooled is None), "H and its target are of one generator"
        with torch.no_grad():
            cosines = cosine_similarity(condition.tokens.flatten(1), target.tokens.flatten(1)).sum()
        return distances, cosines

    def denoising(
        self, modality: Modality, projected: Condition, runs: SignalBatch, contents: Sequence[int] | None = None
    ) -> Tensor:
        """(c,) the denoising error of the runs that bring their medium, given H.

        Args:
            modality: of the runs.
            projected: H of each run.
            runs: with their contents.
            contents: which run each content belongs to, as the layout knows it; read from the device if None.
        """
        of = runs.content_runs.tolist() if contents is None else list(contents)
        condition = projected[runs.content_runs]
        return self._used(modality).denoising_loss(runs.contents, condition, runs.seeds[of])

    @takes_present_names
    def generate(
        self,
        modality: Modality,
        signals: Tensor,
        seeds: Sequence[int],
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
    ) -> list[Media]:
        """S (r, S, E) -> r media."""
        return self._used(modality).generate(
            self._project(modality, signals), seeds, num_inference_steps, guidance_scale
        )

    def release(self) -> None:
        """Drops the generators' weights; they are read again when needed."""
        for generator in self.generators:
            assert isinstance(generator, Generator)
            generator.release()
