"""S of a frozen LLM is computed once: the same losses, no pass of the LLM, and nothing of another LLM is found."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_world import tiny_experts, tiny_model

from isthmus.backbones.adapters.quantization import QuantizationSettings
from isthmus.cache.frozen import CacheSettings
from isthmus.cache.states import state_namespace
from isthmus.data.conversations.schema import Conversation
from isthmus.pocket.tasks import AnyToAny, Draw
from isthmus.training import LossWeights, Preference, Stage, TrainingModule
from isthmus.training.objectives.base import Outcome
from isthmus.training.trainable import set_trainable

MADE = ("image", "video", "audio")


@pytest.fixture(scope="module")
def experts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return tiny_experts(tmp_path_factory.mktemp("experts"))


def build(
    experts: dict[str, Path],
    folder: Path | None,
    trains: Sequence[str] = ("output_projectors",),
    text: float = 0.0,
    denoising: float = 0.0,
    micro_batches: int = 1,
) -> TrainingModule:
    model = tiny_model(experts, max_tokens=1024)
    model.cache_settings = None if folder is None else CacheSettings(folder, trial=0)
    model.configure_model()
    set_trainable(model, trains, "test")
    weights = LossWeights(text=text, alignment=1.0, denoising=denoising)
    return TrainingModule(model, Stage(list(trains), weights, steps=1, micro_batches=micro_batches))


class Passes:
    """How many rows the LLM has read."""

    def __init__(self, module: TrainingModule) -> None:
        self.rows = 0
        module.model.backbone.register_forward_pre_hook(self._count)

    def _count(self, _: object, inputs: tuple[object, ...]) -> None:
        self.rows += len(inputs[0])  # type: ignore[arg-type]


def learnt(module: TrainingModule, parts: Sequence[Sequence[Conversation]]) -> list[Outcome]:
    """Steps on these conversations, as the module would take them."""
    optimizer = torch.optim.SGD([own for own in module.parameters() if own.requires_grad], lr=1e-2)
    collator, found = module.collator("train"), []
    for part in parts:
        batch = pickle.loads(pickle.dumps(collator))(part)
        outcome = module.objective.step(module.learner(), batch)
        optimizer.zero_grad()
        outcome.loss.backward()
        optimizer.step()
        found.append(outcome)
    return found


def compare(own: Sequence[Outcome], expected: Sequence[Outcome]) -> None:
    for found, other in zip(own, expected, strict=True):
        torch.testing.assert_close(found.figures(), other.figures(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("micro_batches", [1, 2])
def test_a_second_epoch_reads_states_and_learns_the_same(
    micro_batches: int, experts: dict[str, Path], tmp_path: Path
) -> None:
    source = Draw(size=12, modalities=MADE, with_content=True)
    order = [source[at] for at in [*range(12), *range(8, 12), *range(8)]]
    steps = [order[at : at + 4] for at in range(0, 24, 4)]
    cached = build(experts, tmp_path, denoising=0.5, micro_batches=micro_batches)
    passes = Passes(cached)
    first = learnt(cached, steps[:3])
    assert passes.rows == 12 and len(list(tmp_path.iterdir())) > 0
    second = learnt(cached, steps[3:])
    assert passes.rows == 12, "the LLM read again what it had read"
    compare([*first, *second], learnt(build(experts, None, denoising=0.5, micro_batches=micro_batches), steps))


def test_what_is_new_in_a_batch_is_read_beside_what_is_known(experts: dict[str, Path], tmp_path: Path) -> None:
    draw, answered = Draw(size=6, modalities=MADE), AnyToAny(size=4, inputs=("image",), outputs=("text", *MADE))
    known, both = [draw[at] for at in range(3)], [draw[at] for at in range(6)] + [answered[at] for at in range(4)]
    cached, plain = build(experts, tmp_path), build(experts, None)
    passes = Passes(cached)
    found = learnt(cached, [known, both, both])
    # Three, then three and four that bring media or make none, then these four again.
    assert passes.rows == 3 + 7 + 4
    compare(found, learnt(plain, [known, both, both]))


def test_where_the_llm_learns_or_its_text_counts_nothing_is_kept(experts: dict[str, Path], tmp_path: Path) -> None:
    for at, module in enumerate(
        (
            build(experts, tmp_path / "0", trains=("output_projectors", "signal_rows")),
            build(experts, tmp_path / "1", trains=("output_projectors", "lora")),
            build(experts, tmp_path / "2", text=1.0),
        )
    ):
        assert module.collator("train").states is None, at
    module = build(experts, tmp_path / "3")
    assert module.collator("train").states is not None and module.collator("validation").states is None
    module.stage = Stage(["output_projectors"], objective=Preference(media=1.0), steps=1)
    assert module.collator("train").states is None


def test_another_llm_has_other_states(experts: dict[str, Path]) -> None:
    model, other = build(experts, None).model, build(experts, None).model
    space = state_namespace(model.backbone.language_model)
    assert space == state_namespace(other.backbone.language_model)
    with torch.no_grad():
        next(iter(other.parts()["signal_rows"].values())).add_(1e-3)
    assert space != state_namespace(other.backbone.language_model)
    half = tiny_model(experts, dtypes={"llm": "bfloat16"})
    half.configure_model()
    assert space != state_namespace(half.backbone.language_model)
    language_model: Any = model.backbone.language_model
    changed = state_namespace(language_model)
    language_model.quantization = QuantizationSettings(bits=8)
    assert changed != state_namespace(language_model)
