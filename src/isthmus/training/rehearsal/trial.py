"""A rehearsal's trainer: Lightning's own loop over two steps of each stage, the second of which is measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.plugins import MixedPrecision
from pytorch_lightning.plugins.environments import ClusterEnvironment  # type: ignore[attr-defined] # Fabric's
from torch import Tensor, nn

from isthmus.model import AnyToAny
from isthmus.training.rehearsal.measuring import Costs
from isthmus.training.rehearsal.report import Part, Report, Step
from isthmus.types import Batch

BACKWARD = "all else"
WEIGHTS = "weights: "
GRADIENTS = "gradients"
OPTIMIZER = "optimizer state"
BATCH = "batch"


def trainer_of(
    configured: pl.Trainer,
    callbacks: list[pl.Callback],
    strategy: Any = "auto",
    devices: int = 1,
    num_nodes: int = 1,
    environment: ClusterEnvironment | None = None,
) -> pl.Trainer:
    """A trainer of two batches a stage, with what the configured one decides of a step, on CPUs."""
    precision: Any = configured.precision
    plugins: list[Any] = [] if environment is None else [environment]
    if precision in ("bf16-mixed", "16-mixed"):
        # Lightning's own choice for the latter brings a loss scaler, which reads gradients' values.
        mixed = MixedPrecision("bf16-mixed", "cpu")
        mixed.precision, precision, plugins = precision, None, [*plugins, mixed]
    return pl.Trainer(
        accelerator="cpu",
        devices=devices,
        num_nodes=num_nodes,
        strategy=strategy,
        precision=precision,
        plugins=plugins,
        gradient_clip_val=configured.gradient_clip_val,
        gradient_clip_algorithm=configured.gradient_clip_algorithm,
        callbacks=callbacks,
        fast_dev_run=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        reload_dataloaders_every_n_epochs=1,
        use_distributed_sampler=False,
    )


class Measure(pl.Callback):
    """Counts a stage's second step: experts are loaded by then, and the optimizer has its state.

    Args:
        keep: takes what was counted, the batch and the model.
    """

    def __init__(self, keep: Callable[[Costs, Batch, AnyToAny], None]) -> None:
        self.keep = keep
        self._open = ExitStack()
        self._costs: Costs | None = None

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Batch, batch_idx: int) -> None:
        """Begins to count."""
        if batch_idx == 1:
            self._costs = costs_of(pl_module.model, batch, trainer.optimizers)
            self._open.enter_context(self._costs())

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Keeps what was counted."""
        if batch_idx == 1:
            self._open.close()
            assert self._costs is not None
            gradients = [own.grad for own in pl_module.parameters() if own.grad is not None]
            self._costs.call(gradients, GRADIENTS)
            self.keep(self._costs, batch, pl_module.model)


def parts_of(model: AnyToAny) -> Iterator[tuple[str, nn.Module]]:
    """Every part by name, as far as it is loaded."""
    if model.input_side is not None:
        for encoder in model.input_side.encoders:
            yield f"encoder {type(encoder).__name__}", encoder
        for modality, projector in model.input_side.projectors.items():
            yield f"input projector {modality}", projector
    yield "LLM", model.backbone.language_model
    if model.output_side is not None:
        for modality, projector in model.output_side.projectors.items():
            yield f"output projector {modality}", projector
        for generator in model.output_side.generators:
            for name, child in generator.named_children():
                yield f"{type(generator).__name__}.{name}", child


def costs_of(model: AnyToAny, batch: Batch, optimizers: Any = ()) -> Costs:
    """A counter that knows the model's parts, and what is there before a step."""
    parts = {module: name for name, module in parts_of(model)}
    # Decoding calls modules within.
    parts |= dict.fromkeys(model.backbone.language_model.modules(), "LLM")
    costs = Costs(parts, BACKWARD)
    for name, module in parts_of(model):
        costs.hold([*module.parameters(), *module.buffers()], f"{WEIGHTS}{name}")
        costs.hold([own.grad for own in module.parameters() if own.grad is not None], GRADIENTS)
    for optimizer in optimizers:
        states = [value for state in optimizer.state.values() for value in state.values() if isinstance(value, Tensor)]
        costs.hold(states, OPTIMIZER)
    inputs: list[Tensor] = []
    batch.apply(lambda tensor: inputs.append(tensor) or tensor)  # type: ignore[func-returns-value]
    costs.hold(inputs, BATCH)
    return costs


def step_of(costs: Costs, batch: Batch) -> Step:
    """What was counted of a batch."""
    layouts = [part.layout for part in batch.pieces]
    lengths = [length for layout in layouts if layout is not None for length in layout.lengths]
    at_peak = {name: size for name, size in costs.at_peak.items() if size}
    return Step(len(lengths), (sum(lengths), max(lengths)), dict(costs.flops), costs.peak, at_peak)


def note_parts(report: Report, model: AnyToAny) -> None:
    """Adds the parts that are loaded now; what any stage trains counts as trained."""
    for name, module in parts_of(model):
        own = list(module.parameters())
        trained = sum(parameter.numel() for parameter in own if parameter.requires_grad)
        before = report.parts.get(name, Part(0, 0, 0))
        report.parts[name] = Part(
            sum(parameter.numel() for parameter in own),
            max(trained, before.trained),
            sum(parameter.nbytes for parameter in own),
        )
