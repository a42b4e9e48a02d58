"""Objectives that compare answers, in parts: loss, gradients and figures of the batch in one piece."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pairs import TRAINS, media_pairs, ready
from test_group_policy import policy, prompts
from torch import Tensor

from isthmus.data.conversations.schema import Conversation
from isthmus.pocket.tasks import AnyToAny as Tasks
from isthmus.training import GroupPolicy, LossWeights, Preference, TrainingModule
from isthmus.training.objectives.base import Objective
from isthmus.types import Batch

Found = tuple[dict[str, float], dict[str, Tensor]]


def learnt(module: TrainingModule, conversations: list[Any], parts: int) -> tuple[Found, Batch]:
    """What is logged and every gradient, of a step in so many parts."""
    assert module.stage is not None
    module.stage.micro_batches = parts
    batch = module.collator("train")(conversations)
    torch.manual_seed(3)
    outcome = module.objective.step(module.learner(), batch)
    module.zero_grad(set_to_none=True)
    outcome.loss.backward()
    gradients = {name: own.grad.clone() for name, own in module.model.named_owned() if own.grad is not None}
    figures = {name: float(value) for name, value in outcome.figures().items() if name != "sampling_share"}
    return (figures, gradients), batch


def assert_equal(found: Found, expected: Found) -> None:
    assert found[0] == pytest.approx(expected[0], rel=1e-5, abs=1e-5)
    assert found[1].keys() == expected[1].keys()
    for name, gradient in expected[1].items():
        torch.testing.assert_close(
            found[1][name], gradient, rtol=1e-4, atol=1e-6 * max(1.0, float(gradient.abs().max()))
        )
    assert max(float(own.abs().max()) for own in found[1].values()) > 1e-4


@pytest.mark.parametrize(
    "objective",
    [Preference(chosen=0.3, alignment=0.5), Preference("ipo", media=1.0, media_beta=5.0)],
    ids=["words", "media"],
)
@pytest.mark.parametrize("parts", [2, 100])
def test_pairs_in_parts_are_the_whole_batch(experts: dict[str, Path], objective: Objective, parts: int) -> None:
    model = ready(experts, objective)
    whole, _ = learnt(model, media_pairs(5), 1)
    divided, batch = learnt(model, media_pairs(5), parts)
    assert [len(part) % 2 for part in batch.pieces] == [0] * min(parts, 5) and sum(map(len, batch.pieces)) == 10
    assert_equal(divided, whole)


@pytest.mark.parametrize("mixed", [0.0, 0.7])
@pytest.mark.parametrize("parts", [3, 100])
def test_groups_in_parts_are_the_whole_batch(experts: dict[str, Path], mixed: float, parts: int) -> None:
    trains = [*TRAINS, "input_projectors"]
    model = ready(experts, policy(kl=0.3, mixed=mixed), trains, LossWeights(0.5, 2.0), outputs=("image",))
    source = Tasks(size=90, outputs=("image",))
    told: list[Conversation] = [source[index] for index in (0, 1, 3)] if mixed else []
    asked = [*prompts(), source[2].prompt(), source[4].prompt()]  # words, a video, points
    whole, _ = learnt(model, [*asked, *told], 1)
    divided, batch = learnt(model, [*asked, *told], parts)
    assert batch.mixed is None or len(batch.mixed.pieces) == 3
    assert_equal(divided, whole)
    assert any("input_projectors" in name and own.any() for name, own in divided[1].items())


def test_one_part_of_the_answers_at_a_time_is_held(experts: dict[str, Path]) -> None:
    """What autograd keeps of a part is let go of before the next begins, instruction data included."""
    model = ready(
        experts, GroupPolicy({"long": lambda prompt, reply: len(reply.text)}, num_generations=8, mixed=1.0), TRAINS[:2]
    )
    told = [Tasks(size=90, outputs=("image",))[index] for index in (0, 4, 8)]
    kept, most = 0, 0

    class Kept:
        def __init__(self, tensor: Tensor) -> None:
            nonlocal kept, most
            self.tensor, self.size = tensor, tensor.numel()
            kept += self.size
            most = max(most, kept)

        def __del__(self) -> None:
            nonlocal kept
            kept -= self.size

    def highest(parts: int) -> int:
        nonlocal most
        most = 0
        with torch.autograd.graph.saved_tensors_hooks(Kept, lambda own: own.tensor):
            learnt(model, [*prompts(), *told], parts)
        return most

    whole = highest(1)
    assert highest(4) < 0.5 * whole and kept == 0
