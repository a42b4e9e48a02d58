"""Rows that run packed: the same loss, states and gradients as padded ones, over the valid positions alone."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from isthmus.backbones import CausalBackbone, LoraSettings
from isthmus.backbones.attention.packing import CALL_COST, LEAST_SHARE, blocks
from isthmus.backbones.attention.row_block import RowBlock

Build = Callable[..., CausalBackbone]
PACKS = ["llama", "qwen2", "qwen3", "opt", "opt-350m", "glm", "cohere", "mistral"]


def run(backbone: CausalBackbone, batch: Any, media: Any) -> tuple[Any, list[torch.Tensor]]:
    output = backbone(batch, media, by_token=True)
    total = output.text_loss + sum(states.square().sum() for states in output.signals.values())
    wanted = [parameter for parameter in backbone.parameters() if parameter.requires_grad]
    return output, list(torch.autograd.grad(total, wanted))


@pytest.mark.parametrize("trains", [["lora", "signal_rows", "media_tags"], ["signal_rows"]], ids="+".join)
@pytest.mark.parametrize("family", PACKS)
def test_packed_equals_padded(family: str, trains: list[str], build: Build, kit: Any) -> None:
    found = []
    for packing in (True, False):
        backbone = build(family, lora=kit["lora"](), packing=packing, skip_prefix_gradients=packing).double()
        batch, media = kit["conversation_batch"](backbone, text=20)
        media = {modality: (projected.double(), mask) for modality, (projected, mask) in media.items()}
        torch.manual_seed(5)
        kit["awaken"](backbone)
        for part, parameters in backbone.parts().items():
            for parameter in parameters:
                parameter.requires_grad_(part in trains)
        found.append(run(backbone, batch, media))
        assert (backbone.packer is not None) == packing
    (packed, gradients), (padded, plain) = found
    # A row's losses stand side by side, so this compares sample by sample.
    torch.testing.assert_close(packed.token_losses, padded.token_losses, rtol=1e-10, atol=1e-10)
    assert torch.equal(packed.correct, padded.correct)
    for modality, states in padded.signals.items():
        torch.testing.assert_close(packed.signals[modality], states, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(gradients, plain, rtol=1e-9, atol=1e-9)


def test_linear_layers_see_valid_positions_alone(build: Build, kit: Any) -> None:
    backbone = build(lora=kit["lora"]())
    batch = kit["text_batch"]([9, 3, 30, 5])
    batch.ids[:, 0] += torch.arange(4)  # no row begins as another does: what they have in common runs once
    backbone(batch, {})
    seen = []
    down = backbone.llm.model.layers[0].mlp.down_proj
    down.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[:-1].numel()))
    backbone(batch, {})
    assert seen == [int(batch.mask.sum())] == [47]
    for parameter in backbone.parts()["lora"]:  # without LoRA the rows' beginnings are a pass of their own
        parameter.requires_grad_(False)
    batch, media = kit["conversation_batch"](backbone, text=20)
    seen.clear()
    backbone(batch, media)
    assert len(seen) == 2 and sum(seen) == int(batch.mask.sum())


def test_an_llm_that_cant_keeps_its_attention(build: Build, kit: Any) -> None:
    backbone = build("gemma2")
    own = backbone.llm.config._attn_implementation
    backbone(kit["text_batch"]([6, 4]), {})
    assert backbone.packer is None
    assert backbone.llm.config._attn_implementation == own


def test_the_trial_is_not_misled_by_dropout(build: Build, kit: Any) -> None:
    backbone = kit["awaken"](build(lora=LoraSettings(r=2, lora_alpha=4, lora_dropout=0.5)))
    backbone.train()
    state = torch.get_rng_state()
    batch = kit["text_batch"]([6, 4])
    losses = []
    for _ in range(2):
        torch.set_rng_state(state)
        losses.append(backbone(batch, {}).text_loss.item())
    assert backbone.packer is not None
    assert losses[0] == losses[1]  # the trial of the first forward drew nothing


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 300), min_size=1, max_size=40))
def test_blocks_hold_every_row_once_and_spare_what_they_cost(lengths: list[int]) -> None:
    order, cuts = blocks(lengths)
    assert sorted(order) == list(range(len(lengths)))
    assert cuts == sorted(set(cuts)) and all(0 < cut < len(lengths) for cut in cuts)
    edges = [0, *cuts, len(lengths)]
    for first, last in pairwise(edges):
        block = [lengths[row] for row in order[first:last]]
        # What is left of padding in a block isn't worth a cut: either rows are alike, or they are few.
        assert max(block) == block[0]
        for place, length in enumerate(block):
            assert length >= LEAST_SHARE * block[0] or (block[0] - length) * (len(lengths) - first - place) < CALL_COST


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=5), st.data())
def test_attention_of_a_block_equals_that_of_each_row_alone(spans: list[tuple[int, int]], data: st.DataObject) -> None:
    spans = [(before, after or not before) for before, after in spans]
    window = data.draw(st.sampled_from([None, 1, 3]))
    starts, ends = [before for before, _ in spans], [before + after for before, after in spans]
    if not any(after for _, after in spans):
        ends[0] += 1
    heads, width = 2, 4
    generator = torch.Generator().manual_seed(len(spans))
    rows = [torch.randn(3, 1, heads, end, width, generator=generator, dtype=torch.float64) for end in ends]

    device = torch.device("cpu")
    first = RowBlock([0] * len(spans), starts, device, keeps=True) if any(starts) else None
    block = RowBlock(starts, ends, device, first)
    if first is not None:
        for which in (1, 2):
            beginnings = [row[which, :, :, :start] for row, start in zip(rows, starts, strict=True)]
            first.key_rows(0, which - 1, torch.cat(beginnings, 2))
    query, key, value = (
        torch.cat([row[which, :, :, start:] for row, start in zip(rows, starts, strict=True)], 2) for which in range(3)
    )
    mask = block.mask(window)
    out = functional.scaled_dot_product_attention(
        block.query_rows(query), block.key_rows(0, 0, key), block.key_rows(0, 1, value), mask, is_causal=mask is None
    )
    found = block.packed(out.transpose(1, 2))[0]

    expected = []
    for row, start in zip(rows, starts, strict=True):
        places = torch.arange(row.shape[3])
        seen = places <= places[:, None]
        if window is not None:
            seen &= places > places[:, None] - window
        alone = functional.scaled_dot_product_attention(row[0], row[1], row[2], seen)
        expected.append(alone[0, :, start:].transpose(0, 1))
    torch.testing.assert_close(found, torch.cat(expected))
