"""Positions before the first trainable input run without autograd: same loss, same gradients, less memory."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from isthmus.backbones import CausalBackbone
from isthmus.backbones.splicing import first_trained

Build = Callable[..., CausalBackbone]


def run(
    backbone: CausalBackbone, batch: Any, media: Any, trains: list[str]
) -> tuple[torch.Tensor, list[torch.Tensor | None], int]:
    """Loss, gradients of all that may train, and how many numbers autograd kept."""
    for part, parameters in backbone.parts().items():
        for parameter in parameters:
            parameter.requires_grad_(part in trains)
    leaves = [projected.clone().requires_grad_("projector" in trains) for projected, _ in media.values()]
    given = {modality: (leaf, media[modality][1]) for modality, leaf in zip(media, leaves, strict=True)}
    kept = 0

    def count(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal kept
        kept += tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        output = backbone(batch, given)
    total = output.text_loss + sum((states.square().sum() for states in output.signals.values()), torch.zeros(()))
    every = [*leaves, *(parameter for parameters in backbone.parts().values() for parameter in parameters)]
    wanted = [tensor for tensor in every if tensor.requires_grad]
    return total.detach(), list(torch.autograd.grad(total, wanted, allow_unused=True)), kept


@pytest.mark.parametrize(
    ("dtype", "rounding"), [(torch.float64, 1e-12), (torch.float32, 2e-5)], ids=["double", "single"]
)
@pytest.mark.parametrize("packing", [True, False], ids=["packed", "grouped"])
@pytest.mark.parametrize("family", ["llama", "qwen2", "opt", "opt-350m", "gemma2"])
@pytest.mark.parametrize(
    "trains",
    [
        ["projector"],
        ["media_tags"],
        ["signal_rows"],
        ["projector", "media_tags", "signal_rows"],
        ["lora", "signal_rows"],
    ],
    ids="+".join,
)
def test_same_loss_and_gradients_with_and_without(
    family: str, trains: list[str], packing: bool, dtype: torch.dtype, rounding: float, build: Build, kit: Any
) -> None:
    results = []
    for skips in (True, False):
        # Without recomputing: its hooks would hide from those below what the layers keep.
        options = {"skip_prefix_gradients": skips, "packing": packing}
        backbone = build(family, lora=kit["lora"](), **options).to(dtype)
        batch, media = kit["conversation_batch"](backbone, text=20)
        media = {modality: (projected.to(dtype), mask) for modality, (projected, mask) in media.items()}
        torch.manual_seed(5)
        kit["awaken"](backbone)
        results.append(run(backbone, batch, media, trains))
    (loss, gradients, kept), (plain_loss, plain_gradients, plain_kept) = results
    torch.testing.assert_close(loss, plain_loss, rtol=1e-6, atol=1e-5)
    for gradient, plain in zip(gradients, plain_gradients, strict=True):
        assert gradient is not None and plain is not None
        assert (gradient - plain).norm() <= rounding * plain.norm()
    assert kept == plain_kept if "lora" in trains else kept < 0.85 * plain_kept


def test_the_prefix_ends_where_training_begins(build: Build, kit: Any) -> None:
    backbone = build()
    batch, media = kit["conversation_batch"](backbone, text=5)
    rows, layout = backbone.rows, backbone.laid_out(batch).layout

    def first(*trains: str) -> int:
        rows.media_tags.requires_grad_("tags" in trains)
        rows.signal_rows.requires_grad_("signals" in trains)
        given = {
            modality: (projected.clone().requires_grad_("projector" in trains), mask)
            for modality, (projected, mask) in media.items()
        }
        return min(first_trained(layout, given, rows))

    assert first() == batch.ids.shape[1]
    assert first("tags") == 5
    assert first("projector") == 6
    assert first("signals") == min(int(runs.starts.min()) for runs in batch.signals.values())
    assert first("signals", "tags") == 5


def test_evaluation_runs_in_one_pass(build: Build, kit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = build(packing=False)
    batch, media = kit["conversation_batch"](backbone, text=20)
    lengths: list[int] = []
    plain = backbone._transform

    def spy(embeddings: torch.Tensor, *others: Any) -> torch.Tensor:
        lengths.append(embeddings.shape[1])
        return plain(embeddings, *others)

    monkeypatch.setattr(backbone, "_transform", spy)
    backbone(batch, media)
    with torch.no_grad():
        backbone(batch, media)
    # The rows begin to learn at 20 and at 21; what follows is brought to begin together.
    assert lengths == [21, batch.ids.shape[1] - 20, batch.ids.shape[1]]


@pytest.mark.parametrize("nested", [False, True], ids=["shared", "by layer type"])
@pytest.mark.parametrize("rope_type", ["dynamic", "longrope"])
def test_rotary_positions_that_depend_on_the_length_keep_the_prefix_with_the_rest(
    nested: bool, rope_type: str, build: Build, kit: Any
) -> None:
    """A prefix that ran apart would be rotated as a short sequence is."""
    rope = {"rope_type": rope_type, "factor": 2.0, "rope_theta": 1e4}
    kept = []
    for skips in (True, False):
        backbone = build("llama", skip_prefix_gradients=skips)
        backbone.config.rope_parameters = {"full_attention": rope} if nested else rope
        kept.append(run(backbone, *kit["conversation_batch"](backbone, text=20), ["projector"])[2])
    assert kept[0] == kept[1]
