"""What rows begin with in common runs once: the same loss, states and gradients as row by row."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from isthmus.backbones import CausalBackbone
from isthmus.backbones.attention.packing import blocks
from isthmus.backbones.attention.row_block import RowBlock
from isthmus.layout import Beginnings
from isthmus.types import IGNORED, Batch, MediaBatch, Modality, SignalBatch
from isthmus.vocabulary import MEDIA_POSITION

Build = Callable[..., CausalBackbone]
IMAGE = Modality.IMAGE
SYSTEM, QUESTION = 36, 3


def batch_of(backbone: CausalBackbone) -> tuple[Batch, dict[Modality, tuple[torch.Tensor, torch.Tensor]]]:
    """A system message before all rows; two answers to one picture's question, one of them twice; another picture's."""
    generator = torch.Generator().manual_seed(7)

    def words(count: int) -> list[int]:
        return torch.randint(6, backbone.vocabulary.base_size, (count,), generator=generator).tolist()

    begin, end = backbone.vocabulary.tags(IMAGE)
    run = list(backbone.vocabulary.signal_ids(IMAGE))
    prompt = [*words(SYSTEM), begin, *[MEDIA_POSITION] * 2, end]
    question = words(QUESTION)
    first, second = [*words(4), *run, 2], [*words(2), *run, 2]
    rows = [[*prompt, *question, *first], [*prompt, *words(2), *first], [*prompt, *question, *second]]
    rows.append(rows[0])
    longest = max(len(row) for row in rows)
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    mask = torch.arange(longest) < torch.tensor([len(row) for row in rows])[:, None]
    labels = torch.full_like(ids, IGNORED)
    for index, row in enumerate(rows):
        for place in range(len(prompt) + (2 if index == 1 else QUESTION), len(row)):
            if row[place] < backbone.vocabulary.base_size or row[place] == run[0]:
                labels[index, place] = row[place]
    every = torch.arange(4)
    places = MediaBatch({}, every, torch.full((4,), SYSTEM + 1), torch.full((4,), 2), index=torch.tensor([0, 1, 0, 0]))
    starts = torch.tensor([row.index(run[0]) for row in rows])
    signals = SignalBatch(every, starts, list("abca"), {}, torch.tensor([], dtype=torch.int64), every)
    distinct = torch.randn(2, 2, backbone.width, generator=generator)[places.index]
    projected = {IMAGE: (distinct, torch.ones(4, 2, dtype=torch.bool))}
    return backbone.laid_out(Batch(ids, mask, labels, {IMAGE: places}, {IMAGE: signals})), projected


def learnt(backbone: CausalBackbone) -> tuple[Any, list[torch.Tensor]]:
    batch, media = batch_of(backbone)
    kind = backbone.llm.get_input_embeddings().weight.dtype
    projected = {m: (own.to(kind).requires_grad_(), mask) for m, (own, mask) in media.items()}
    output = backbone(batch, projected, by_token=True)
    total = output.text_loss + sum(states.square().sum() for states in output.signals.values())
    wanted = [parameter for parameter in backbone.parameters() if parameter.requires_grad]
    return output, list(torch.autograd.grad(total, [*wanted, projected[IMAGE][0]], allow_unused=True))


@pytest.mark.parametrize(
    "trains", [["lora", "signal_rows", "media_tags"], ["media_tags"], ["signal_rows"]], ids="+".join
)
@pytest.mark.parametrize("family", ["llama", "qwen3", "opt", "mistral"])
def test_the_same_as_row_by_row(family: str, trains: list[str], build: Build, kit: Any) -> None:
    found = []
    for packing in (True, False):
        backbone = build(family, lora=kit["lora"](), packing=packing, skip_prefix_gradients=packing).double()
        torch.manual_seed(5)
        kit["awaken"](backbone)
        for part, parameters in backbone.parts().items():
            for parameter in parameters:
                parameter.requires_grad_(part in trains)
        found.append(learnt(backbone))
    (shared, gradients), (alone, plain) = found
    torch.testing.assert_close(shared.token_losses, alone.token_losses, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(shared.signals[IMAGE], alone.signals[IMAGE], rtol=1e-10, atol=1e-10)
    # The projected media's gradients are summed where one medium stands in several rows, as they are at its projector.
    summed = [
        own.new_zeros(2, *own.shape[1:]).index_add(0, torch.tensor([0, 1, 0, 0]), own)
        for own in (gradients.pop(), plain.pop())
    ]
    # RMS norms round to float32, here what rows send back together, there what each does. OPT's don't.
    bound = 1e-9 if family == "opt" else 1e-5
    torch.testing.assert_close(summed[0], summed[1], rtol=bound, atol=bound)
    torch.testing.assert_close(gradients, plain, rtol=bound, atol=bound)


@pytest.mark.parametrize("trains", ["lora", "signal_rows"])
def test_layers_see_each_beginning_once(trains: str, build: Build, kit: Any) -> None:
    backbone = kit["awaken"](build(lora=kit["lora"]()))
    for part, parameters in backbone.parts().items():
        for parameter in parameters:
            parameter.requires_grad_(part == trains)
    learnt(backbone)
    seen: list[int] = []
    backbone.llm.model.layers[0].mlp.down_proj.register_forward_pre_hook(
        lambda _, inputs: seen.append(inputs[0].shape[:-1].numel())
    )
    learnt(backbone)
    batch, _ = batch_of(backbone)
    rows = [(tuple(ids.tolist()), medium) for ids, medium in zip(batch.ids, [0, 1, 0, 0], strict=True)]
    assert batch.layout is not None
    distinct = {
        row[0][: at + 1] + ((row[1],) if at > SYSTEM else ())
        for row, length in zip(rows, batch.layout.lengths, strict=True)
        for at in range(length)
    }
    assert sum(seen) == len(distinct) < int(batch.mask.sum()) / 2
    assert len(seen) == (1 if trains == "lora" else 2)  # without LoRA what precedes the runs has a pass of its own


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=6), min_size=1, max_size=8), st.data())
def test_beginnings_of_some_rows(rows: list[list[int]], data: st.DataObject) -> None:
    def alike(one: int, other: int) -> int:
        same = [a == b for a, b in zip(rows[one], rows[other], strict=False)]
        return same.index(False) if False in same else len(same)

    order = sorted(range(len(rows)), key=rows.__getitem__)
    whole = Beginnings(order, [0, *(alike(one, other) for one, other in pairwise(order))])
    some = data.draw(st.lists(st.sampled_from(range(len(rows))), min_size=1, unique=True))
    own = whole.of(some)
    assert sorted(own.order) == list(range(len(some)))
    assert own.common == [0, *(alike(some[one], some[other]) for one, other in pairwise(own.order))]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 9)), min_size=1, max_size=5), st.data())
def test_attention_and_its_gradients_of_a_block(spans: list[tuple[int, int, int]], data: st.DataObject) -> None:
    """Rows are drawn so that each equals the one before it as far as said; their starts agree where they overlap."""
    window = data.draw(st.sampled_from([None, 1, 3]))
    starts: list[int] = []
    ends: list[int] = []
    common: list[int] = []
    for index, (first, more, shared) in enumerate(spans):
        alike = min(shared, first + more, ends[-1]) if index else 0
        # Where a row's first trained position lies in what it shares, the other row has it there, too.
        start = starts[-1] if index and (first < alike or starts[-1] < alike) else first
        ends.append(max(start + more, alike, 1))
        starts.append(min(start, ends[-1]))
        common.append(alike)
    if starts == ends:
        ends[-1] += 1
    heads, width = 2, 4
    generator = torch.Generator().manual_seed(len(spans))
    rows: list[torch.Tensor] = []
    for index, (end, alike) in enumerate(zip(ends, common, strict=True)):
        row = torch.randn(3, 1, heads, end, width, generator=generator, dtype=torch.float64)
        if index:
            row[..., :alike, :] = rows[-1][..., :alike, :]
        rows.append(row)

    def own(index: int, part: int, first: int, last: int) -> torch.Tensor:
        return rows[index][part, :, :, min(max(first, common[index]), last) : last]

    device, count = torch.device("cpu"), range(len(rows))
    before = RowBlock([0] * len(rows), starts, device, keeps=True, common=common) if any(starts) else None
    block = RowBlock(starts, ends, device, before, common=common)
    if before is not None:
        for part in (1, 2):
            before.key_rows(0, part - 1, torch.cat([own(index, part, 0, starts[index]) for index in count], 2))
    packed = [
        torch.cat([own(index, part, starts[index], ends[index]) for index in count], 2).requires_grad_()
        for part in range(3)
    ]
    if not block.count:
        return
    mask = block.mask(window)
    out = functional.scaled_dot_product_attention(
        block.query_rows(packed[0]),
        block.key_rows(0, 0, packed[1]),
        block.key_rows(0, 1, packed[2]),
        mask,
        is_causal=mask is None,
    )
    found = block.packed(out.transpose(1, 2))[0]
    weights = torch.randn(found.shape, generator=generator, dtype=torch.float64)
    gradients = torch.autograd.grad((found * weights).sum(), packed)

    # Plainly: each packed position's own query over the keys of its row, which are gathered one by one.
    at = {
        (int(row), int(place)): index
        for index, (row, place) in enumerate(zip(block.rows, block.positions, strict=True))
    }
    at |= {(int(row), int(place)): int(index) for row, place, index in block.copies.T}
    plain = [own.detach().clone().requires_grad_() for own in packed]
    expected = []
    for row, place in zip(block.rows.tolist(), block.positions.tolist(), strict=True):
        first = 0 if window is None else max(place - window + 1, 0)
        keys, values = (
            torch.stack(
                [
                    plain[part][0, :, at[row, slot]] if (row, slot) in at else rows[row][part, 0, :, slot]
                    for slot in range(first, place + 1)
                ],
                1,
            )
            for part in (1, 2)
        )
        query = plain[0][0, :, at[row, place]][:, None]
        expected.append(functional.scaled_dot_product_attention(query[None], keys[None], values[None])[0, :, 0])
    torch.testing.assert_close(found, torch.stack(expected))
    alone = torch.autograd.grad((torch.stack(expected) * weights).sum(), plain)
    torch.testing.assert_close(gradients, alone)


def test_rows_of_other_lengths_are_cut_into_blocks_that_share_by_themselves(build: Build, kit: Any) -> None:
    """A block's rows get no keys of another's: each has what its rows begin with once."""
    backbone = build(lora=kit["lora"]())
    lengths = [60, 60, 12, 12]
    batch = kit["text_batch"](lengths)
    batch.ids[:, :8] = batch.ids[:1, :8]
    assert len(blocks(lengths)[1]) == 1
    backbone(batch, {})
    seen: list[int] = []
    backbone.llm.model.layers[0].mlp.down_proj.register_forward_pre_hook(
        lambda _, inputs: seen.append(inputs[0].shape[:-1].numel())
    )
    shared = backbone(batch, {})
    assert seen == [sum(lengths) - 2 * 8]
    plain = build(lora=kit["lora"](), packing=False)
    plain.load_state_dict(backbone.state_dict())
    torch.testing.assert_close(shared.text_loss, plain(batch, {}).text_loss, rtol=1e-5, atol=1e-6)
