"""Our stages against NExT-GPT v1's step, and each of our savings switched off in turn."""

from __future__ import annotations

import copy
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.captions import MODALITIES, alone, conversations, instructions, mixed
from benchmarks.measuring import Work, flops, interleaved, peak_bytes, ratio
from benchmarks.miniature import SIDE, WIDE, Size, build, write_experts
from benchmarks.nextgpt_v1 import NextGPTStep
from benchmarks.report import report
from benchmarks.savings import Savings
from isthmus.data.conversations.schema import Conversation
from isthmus.model import AnyToAny
from isthmus.training import LossWeights
from isthmus.training.objectives.base import Learner
from isthmus.training.objectives.supervised import part_losses
from isthmus.training.stage import default_optimizer
from isthmus.training.trainable import set_trainable
from isthmus.types import MEDIA, Batch, MediaBatch, Modality

BATCH = {1: 18, 2: 8, 3: 4}
"""Samples a batch: table 7 of NExT-GPT's paper."""
SAMPLES = {1: 18, 2: 16, 3: 16}
"""Samples of each modality, or set, in one measurement."""
TRAINS = {
    1: ["input_projectors", "media_tags"],
    2: ["output_projectors", "signal_rows"],
    3: ["input_projectors", "output_projectors", "media_tags", "signal_rows", "lora"],
}
LIMITS = {1: 3.5, 2: 2.0, 3: 1.7}
"""Samples a second against v1's that we aim at."""
FIRST_EPOCH = "without cached_features"
"""The contender whose encoder runs in each step, as it does until the cache is filled."""
COMPILED = "compiled"
"""The contender whose memory isn't counted: what compiled kernels allocate isn't seen."""


@dataclass
class Contender:
    """Something that trains over the same samples.

    Attributes:
        step: a batch -> its loss.
        batches: of the samples, as it takes them.
        modules: what it has in memory while it trains.
    """

    step: Callable[[Batch], Tensor]
    batches: list[Batch]
    modules: list[nn.Module]

    def __post_init__(self) -> None:
        trained = {p: None for module in self.modules for p in module.parameters() if p.requires_grad}
        self.trained = list(trained)
        self.optimizer = default_optimizer(self.trained)

    def epoch(self) -> None:
        """Every sample once."""
        for batch in self.batches:
            loss = self.step(batch)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.trained, 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad()

    @property
    def weights(self) -> int:
        """Bytes of all weights that it holds."""
        held = {id(p): p.numel() * p.element_size() for module in self.modules for p in module.parameters()}
        return sum(held.values())

    @property
    def positions(self) -> int:
        """Positions of its batches, padding included."""
        return sum(part.ids.numel() for batch in self.batches for part in batch.pieces)


def contenders(
    stage: int,
    folder: Path,
    each: int | None = None,
    size: Size = WIDE,
    compiles: bool = False,
    sets: bool = False,
) -> dict[str, Contender]:
    """``v1``, ``ours``, ours ``without`` each saving that matters in this stage, and ours with options.

    These are checkpointed layers, batches in parts and, with ``compiles``, compiled layers. Our batches mix the
    modalities, but in stage 2: there a bridge runs for every modality of a batch, so each has one. With ``sets`` the
    samples of stage 3 are those of v1's own sets, one a batch; contenders are ``v1``, ``ours`` and its first epoch.
    """
    paths = write_experts(folder, size)
    draw: Callable[..., Mapping[Any, list[Conversation]]] = instructions if sets else partial(conversations, stage)
    samples = draw(each or SAMPLES[stage], SIDE, size.words)
    rows_a_batch = BATCH[stage]

    def ours(savings: Savings, micro_batches: int = 1, **backbone: Any) -> Contender:
        model = build(paths, savings, lora=stage == 3, size=size, **backbone)
        set_trainable(model, TRAINS[stage], f"stage {stage}")
        if not savings.rows_only:
            llm: Any = model.backbone.language_model.llm
            llm.get_input_embeddings().weight.requires_grad_(True)
            llm.get_output_embeddings().weight.requires_grad_(True)
        learner = Learner(model, LossWeights(alignment=0.0 if stage == 1 else 1.0), micro_batches)
        collate = model.collator(micro_batches=micro_batches)
        batches = [collate(rows) for rows in (alone if stage == 2 or sets else mixed)(samples, rows_a_batch)]
        _fill_conditions(model, batches, stage)
        assert model.input_side is not None and model.output_side is not None
        held: list[nn.Module] = [model.backbone, model.input_side.projectors]
        held += [] if stage == 1 else [model.output_side.projectors]
        if savings.cached_features:
            batches = [with_features(model, batch) for batch in batches]
        else:
            held.append(model.input_side.encoders)
            if stage != 2:
                model.input_side.encoder(Modality.IMAGE).load()

        def step(batch: Batch) -> Tensor:
            losses, _ = part_losses(learner, batch.pieces, [])
            return learner.in_turn(losses)[0]

        return Contender(step, batches, held)

    reference = build(paths, lora=False, size=size)
    assert reference.input_side is not None and reference.output_side is not None
    encoder = reference.input_side.encoder(Modality.IMAGE)
    encoder.load()
    collate = reference.collator()
    one_kind = [collate(rows) for rows in alone(samples, rows_a_batch)]
    v1 = NextGPTStep(
        stage,
        paths["llama"],
        reference.backbone.language_model.vocabulary,
        encoder,
        {m: copy.deepcopy(reference.output_side.projectors[m]) for m in MODALITIES},
        conditions(reference, one_kind),
    )
    found = {"v1": Contender(lambda batch: v1(batch)[0], one_kind, [v1]), "ours": ours(Savings())}
    if sets:
        return found | {FIRST_EPOCH: ours(Savings().without("cached_features"))}
    for name in Savings.names():
        if (stage == 2 and name == "cached_features") or (stage != 2 and name == "prefix_without_gradients"):
            # Stage 2 takes text alone. LoRA trains from the first position on, and what precedes a medium in stage 1 is
            # the same in all rows: once it is run for all, it is too short for a pass of its own.
            continue
        found[f"without {name}"] = ours(Savings().without(name))
    for layers in (1, size.layers):
        found[f"checkpointing {layers} of {size.layers}"] = ours(Savings(), checkpointed_layers=layers)
    for parts in (2, 3):
        found[f"in {parts} parts"] = ours(Savings(), micro_batches=parts)
    if compiles:
        found[COMPILED] = ours(Savings(), compiled=True)
    return found


@torch.no_grad()
def with_features(model: AnyToAny, batch: Batch) -> Batch:
    """The batch as the feature cache gives it from the second epoch on: F in place of preprocessed media."""
    assert model.input_side is not None
    media: dict[Modality, MediaBatch] = {}
    for modality, own in batch.media.items():
        encoder = model.input_side.encoder(modality)
        encoder.load(model.device)
        features = encoder(modality, own.inputs)
        media[modality] = replace(own, inputs={"tokens": features.tokens, "mask": features.mask})
    return replace(batch, media=media, rest=[with_features(model, part) for part in batch.rest])


def _fill_conditions(model: AnyToAny, batches: Sequence[Batch], stage: int) -> None:
    """As after a first epoch: every caption's condition is known."""
    if stage > 1:
        conditions(model, batches)


def conditions(model: AnyToAny, batches: Sequence[Batch]) -> dict[Modality, dict[str, Tensor]]:
    """By modality and caption (C, K), as the generators' own conditioners give it; known from now on."""
    assert model.output_side is not None
    found: dict[Modality, dict[str, Tensor]] = {modality: {} for modality in MEDIA}
    for part in (part for batch in batches for part in batch.pieces):
        for modality, runs in part.signals.items():
            target = model.output_side.target(modality, runs.captions)
            found[modality] |= dict(zip(runs.captions, target.tokens, strict=True))
    return found


def measure(
    stage: int,
    folder: Path,
    repetitions: int,
    each: int | None = None,
    size: Size = WIDE,
    compiles: bool = False,
    sets: bool = False,
) -> list[dict[str, Any]]:
    """A row a contender: time, counted work and memory of v1 or of the switched-off one, over ours.

    The row of v1 also has what a first epoch gains: its time over that of ours while the encoder runs in each step.
    """
    found = contenders(stage, folder, each, size, compiles, sets)
    works: dict[str, Work] = {name: contender.epoch for name, contender in found.items()}
    with torch.compiler.set_stance("force_eager"):  # compiled kernels' products can't be counted
        work = {name: flops(run) for name, run in works.items()}  # it makes the optimizers' states, too
    memory = {name: peak_bytes(run) + state_bytes(found[name]) for name, run in works.items() if name != COMPILED}
    seconds = interleaved(works, repetitions) if repetitions else {}
    ours = found["ours"]
    samples = sum(part.ids.shape[0] for batch in ours.batches for part in batch.pieces)
    rows = []
    for name, contender in found.items():
        limit = work[name] / work["ours"]
        row: dict[str, Any] = {
            "stage": f"{stage}, v1's sets" if sets else stage,
            "against ours": name,
            "GFLOP a sample": work[name] / 1e9 / samples,
            "limit by FLOPs": limit,
            "positions": contender.positions / ours.positions,
        }
        if name in memory:
            row["memory, ours / its"] = (memory["ours"] + ours.weights) / (memory[name] + contender.weights)
            row["beyond weights"] = memory["ours"] / memory[name]
        if seconds:
            faster = ratio(seconds[name], seconds["ours"])
            row |= {"times slower": faster, "share of limit": faster / limit}
            row["ms a sample"] = statistics.median(seconds[name]) * 1e3 / samples
        if name == "v1" and FIRST_EPOCH in found:
            row["limit of first epoch"] = work[name] / work[FIRST_EPOCH]
            if seconds:
                row["first epoch"] = ratio(seconds[name], seconds[FIRST_EPOCH])
        rows.append(row)
    return rows


def state_bytes(contender: Contender) -> int:
    """Bytes that the optimizer keeps from step to step."""
    states = contender.optimizer.state.values()
    return sum(t.numel() * t.element_size() for state in states for t in state.values() if isinstance(t, Tensor))


def run(folder: Path, repetitions: int = 5, form: str = "short") -> Path:
    """All three stages; the short form over a batch of each modality, and without what has to be compiled."""
    is_long = form == "long"
    rows = []
    for stage, size in BATCH.items():
        rows += measure(stage, folder, repetitions, None if is_long else size, compiles=is_long)
    rows += measure(3, folder, repetitions, None if is_long else BATCH[3], sets=True)
    return report("stages", rows, repetitions=repetitions, goals=LIMITS)
