"""A rehearsal: every stage and an answer, at full size and in the configured precision, on fake tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import unset_fake_temporarily

from isthmus.backbones.base import Sampling
from isthmus.data.conversations.schema import ContentItem, Conversation, MediumItem, Message, TextItem
from isthmus.frozen import shapes_only
from isthmus.losses import torch_cross_entropy
from isthmus.model import AnyToAny
from isthmus.training.module import TrainingModule
from isthmus.training.objectives.group_policy import GroupPolicy
from isthmus.training.rehearsal.conversations import conversations_of, medium
from isthmus.training.rehearsal.fakes import FakeData, Fakes, fake_tensors
from isthmus.training.rehearsal.faults import told
from isthmus.training.rehearsal.measuring import Costs
from isthmus.training.rehearsal.report import Report
from isthmus.training.rehearsal.trial import Measure, costs_of, note_parts, step_of, trainer_of
from isthmus.training.stage import Stage
from isthmus.training.stage_switch import StageSwitch
from isthmus.types import Batch, Condition, Media

TOKENS = 8
"""Words of the answer that is rehearsed."""


def rehearse(model: AnyToAny, switch: StageSwitch, configured: pl.Trainer, batch_size: int, words: int) -> Report:
    """Runs everything, and counts what it costs.

    Args:
        model: not built yet; afterwards it is of no use.
        switch: with the stages.
        configured: the trainer whose precision and clipping count.
        batch_size: of stages that name none.
        words: of a question and of an answer, each.

    Raises:
        ValueError: something doesn't fit; the message names the stage, the part and the fix.
    """
    report = Report()
    drawn = [name for name in switch.names if isinstance(switch.stages[name].objective, GroupPolicy)]
    if drawn:
        report.notes.append(f"not rehearsed: {', '.join(drawn)}, whose answers are drawn and judged by their numbers")
    known = {name: switch.stages[name] for name in switch.names if name not in drawn}
    stages = {name: replace(stage, data={name: 1.0}, steps=2, epochs=None) for name, stage in known.items()}
    # A library's kernel needs its GPU; what it computes has the same shapes.
    model.backbone.language_model.cross_entropy = torch_cross_entropy  # type: ignore[assignment]
    with shapes_only(), told("building", model):
        model.configure_model()
    report.notes.append("not rehearsed: devices; a tensor that is left on the CPU shows on a GPU alone")
    report.notes.append("not rehearsed: drawing's sampler and the decoding of latents, which read numbers")
    with fake_tensors() as fakes, torch.compiler.set_stance("force_eager"):
        fakes.place(model)
        run = _Run(model, stages, configured, fakes, report)
        run.train(batch_size, words)
        run.answer(words)
    return report


class _Run:
    """A model, its stages, and what is found of them."""

    def __init__(
        self, model: AnyToAny, stages: dict[str, Stage], configured: pl.Trainer, fakes: Fakes, report: Report
    ) -> None:
        self.model, self.stages, self.configured, self.fakes, self.report = model, stages, configured, fakes, report
        self.module = TrainingModule(model)
        self.module.log = self.module.log_dict = _nothing  # type: ignore[method-assign]  # figures are values

    def train(self, batch_size: int, words: int) -> None:
        """Two steps of each stage."""
        for name, stage in self.stages.items():
            switch = StageSwitch({name: stage})
            data = FakeData({name: conversations_of(self.model, stage, words)}, batch_size=batch_size)
            data.fakes = self.fakes
            trainer = trainer_of(self.configured, [switch, Measure(partial(self._note, name))])
            with told(f"stage '{name}'", self.model):
                trainer.fit(self.module, datamodule=data)

    def _note(self, name: str, costs: Costs, batch: Batch, model: AnyToAny) -> None:
        self.report.stages[name] = step_of(costs, batch)
        note_parts(self.report, model)

    @torch.no_grad()
    def answer(self, words: int) -> None:
        """A prompt with every medium, and an answer that holds every medium."""
        model, side = self.model.eval(), self.model.output_side
        generators: list[Any] = [] if side is None else list(side.generators)
        content: list[ContentItem] = [TextItem(" ".join(["word"] * words))]
        content += [MediumItem(modality, medium(modality)) for modality in model.inputs]
        with told("an answer", model):
            with unset_fake_temporarily():
                prompt = model.prompt_collator()([Conversation((Message("user", tuple(content)),))])
            for generator in generators:
                generator.load(torch.device("cpu"))
                generator.generate = partial(_draw, generator, self.fakes)
            batch = prompt.apply(self.fakes.fake)
            costs = costs_of(model, batch)
            with costs():
                model.answer(batch, Sampling(TOKENS), required=[model.outputs])
        self.report.answer = step_of(costs, batch)
        note_parts(self.report, model)
        if model.input_side is not None:
            model.input_side.release()
        if side is not None:
            side.release()


def _draw(
    generator: Any,
    fakes: Fakes,
    condition: Condition,
    seeds: Sequence[int],
    steps: int | None = None,
    guidance: float | None = None,
) -> list[Media]:
    """One pass of the denoiser under these conditions, over a medium's latents."""
    example = medium(generator.modality)
    if not generator.denoises:
        return [example] * len(seeds)
    with unset_fake_temporarily():
        prepared: dict[str, Tensor] = generator.prepare(example)
        content = {name: torch.stack([tensor] * len(seeds)) for name, tensor in prepared.items()}
        seed = torch.tensor(seeds)
    generator.denoising_loss({name: fakes.fake(tensor) for name, tensor in content.items()}, condition, seed)
    return [example] * len(seeds)


def _nothing(*_: Any, **__: Any) -> None:
    pass
