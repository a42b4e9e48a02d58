"""Media beside the text: exact at zero gates, local, the same with and without a prefix pass, the same in decoding."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import gelu, layer_norm

from isthmus.backbones import CausalBackbone, FusionSettings
from isthmus.backbones.adapters.gated_fusion import arrange_by_row
from isthmus.backbones.base import Answer, Sampling, SignalRun
from isthmus.types import IGNORED, Batch, MediaBatch, Modality, SignalBatch

Build = Callable[..., CausalBackbone]
Projected = dict[Modality, tuple[Tensor, Tensor]]
IMAGE, VIDEO, AUDIO = Modality.IMAGE, Modality.VIDEO, Modality.AUDIO
FUSION = FusionSettings(["image", "audio"], every=1, heads=2, head_width=3, feed_forward=2)


def opened(backbone: CausalBackbone, seed: int = 7) -> CausalBackbone:
    """Its gates start shut: give the new layers weights that do something."""
    random = torch.Generator().manual_seed(seed)
    for parameter in backbone.fusion.parameters():
        parameter.data = torch.empty_like(parameter).normal_(0, 0.6, generator=random)
    return backbone


def fused_batch(backbone: CausalBackbone, seed: int = 3) -> tuple[Batch, Projected]:
    """Rows: an audio between two images, then an image run; an image, then an audio run; words alone."""
    random = torch.Generator().manual_seed(seed)
    vocabulary = backbone.vocabulary

    def words(count: int) -> list[int]:
        return torch.randint(6, 40, (count,), generator=random).tolist()

    image, audio = list(vocabulary.tags(IMAGE)), list(vocabulary.tags(AUDIO))
    draw, sing = list(vocabulary.signal_ids(IMAGE)), list(vocabulary.signal_ids(AUDIO))
    rows = [
        [*words(4), *image, *words(2), *audio, *words(1), *image, *words(3), *draw, *words(2), 2],
        [*words(7), *image, *words(2), *sing, *words(1), 2],
        words(6),
    ]
    longest = max(map(len, rows))
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    mask = torch.arange(longest) < torch.tensor([[len(row)] for row in rows])
    labels = ids.where((ids < vocabulary.base_size) & mask, IGNORED)
    labels[:, :3] = IGNORED
    for row, run in ((0, draw), (1, sing)):
        labels[row, rows[row].index(run[0])] = run[0]
    none, one = torch.zeros(3, dtype=torch.int64), torch.zeros(1, dtype=torch.int64)
    media = {
        # The images' rows are out of order on purpose.
        IMAGE: MediaBatch({}, torch.tensor([1, 0, 0]), torch.tensor([8, 5, 12]), none),
        AUDIO: MediaBatch({}, torch.tensor([0]), torch.tensor([9]), one),
    }
    signals = {
        IMAGE: SignalBatch(one, torch.tensor([rows[0].index(draw[0])]), ["a"], {}, one[:0], one),
        AUDIO: SignalBatch(one + 1, torch.tensor([rows[1].index(sing[0])]), ["b"], {}, one[:0], one),
    }
    width = backbone.width
    projected = {
        IMAGE: (
            torch.randn(3, 4, width, generator=random),
            torch.tensor([[True] * 4, [True, False, True, True], [True, True, False, False]]),
        ),
        AUDIO: (torch.randn(1, 2, width, generator=random), torch.ones(1, 2, dtype=torch.bool)),
    }
    return Batch(ids, mask, labels, media, signals), projected


def states(backbone: CausalBackbone, batch: Batch, media: Projected) -> Tensor:
    """The final states (B, T, E) of a training forward."""
    found: list[Tensor] = []
    handle = backbone.llm.base_model.register_forward_hook(lambda _, __, out: found.append(out.last_hidden_state))
    backbone(batch, media)
    handle.remove()
    return torch.cat(found, dim=1)


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "opt", "opt-350m", "glm", "cohere", "gemma2"])
def test_with_gates_at_zero_the_llm_is_the_frozen_one_exactly(family: str, build: Build) -> None:
    plain, fused = build(family), build(family, fusion=FUSION)
    batch, media = fused_batch(fused)
    unseeing = replace(batch, media={})
    with torch.no_grad():
        one, other = plain(unseeing, {}), fused(batch, media)
    assert torch.equal(one.text_loss, other.text_loss)
    assert all(torch.equal(one.signals[modality], other.signals[modality]) for modality in one.signals)
    with torch.no_grad():
        opened(fused)
        assert not torch.equal(fused(batch, media).text_loss, one.text_loss)
        assert torch.equal(fused(unseeing, {}).text_loss, one.text_loss)  # text alone is untouched by open gates


def expected_states(fused: CausalBackbone, plain: CausalBackbone, batch: Batch, media: Projected, last: bool) -> Tensor:
    """The final states by position and head, in loops, with a plain backbone's own layers between."""
    seen: dict[int, list[tuple[int, Tensor]]] = {row: [] for row in range(len(batch))}
    for modality, (projected, mask) in media.items():
        places = batch.media[modality]
        for n in range(len(mask)):
            seen[int(places.rows[n])].append((int(places.starts[n]), projected[n][mask[n]]))

    def fuse(block: Any, hidden: Tensor) -> Tensor:
        weights = dict(block.state_dict())
        result = hidden.clone()
        for row in range(hidden.shape[0]):
            for position in range(hidden.shape[1]):
                before = [own for own in sorted(seen[row], key=lambda own: own[0]) if own[0] <= position]
                if not before:
                    continue
                keys = torch.cat([own[1] for own in (before[-1:] if last else before)])
                x = hidden[row, position]
                query = weights["query.weight"] @ layer_norm(x, x.shape, weights["norm.weight"], weights["norm.bias"])
                key_weight, value_weight = weights["key_value.weight"].chunk(2)
                key, value = keys @ key_weight.T, keys @ value_weight.T
                parts = []
                for head in range(2):
                    own = slice(3 * head, 3 * head + 3)
                    parts.append((key[:, own] @ query[own] / math.sqrt(3)).softmax(0) @ value[:, own])
                x = x + weights["attention_gate"].tanh() * (weights["out.weight"] @ torch.cat(parts))
                inner = layer_norm(x, x.shape, weights["feed_forward.0.weight"], weights["feed_forward.0.bias"])
                inner = weights["feed_forward.3.weight"] @ gelu(weights["feed_forward.1.weight"] @ inner)
                result[row, position] = x + weights["feed_forward_gate"].tanh() * inner
        return result

    def hook(index: int) -> Any:
        return lambda layer, args: (fuse(fused.fusion.blocks[index], args[0]), *args[1:])

    handles = [layer.register_forward_pre_hook(hook(i)) for i, layer in enumerate(plain.llm.model.layers)]
    found = states(plain, replace(batch, media={}), {})
    for handle in handles:
        handle.remove()
    return found


@pytest.mark.parametrize("last", [False, True])
@torch.no_grad()
def test_equals_a_recomputation_position_by_position(last: bool, build: Build) -> None:
    plain, fused = build(packing=False), opened(build(fusion=replace(FUSION, only_last=last)))
    batch, media = fused_batch(fused)
    expected = expected_states(fused, plain, batch, media, last)
    torch.testing.assert_close(states(fused, batch, media), expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_text_before_a_medium_does_not_see_it(build: Build) -> None:
    fused = opened(build(fusion=FUSION))
    batch, media = fused_batch(fused)
    found = states(fused, batch, media)
    other = {modality: (projected.clone(), mask) for modality, (projected, mask) in media.items()}
    other[AUDIO][0].add_(1)  # it stands in row 0, from position 9 on
    changed = states(fused, batch, other)
    assert torch.equal(changed[0, :9], found[0, :9]) and torch.equal(changed[1:], found[1:])
    assert (changed[0, 9:] - found[0, 9:]).abs().amax(-1).min() > 1e-4
    hidden = {m: (projected.masked_fill(~mask[..., None], torch.nan), mask) for m, (projected, mask) in media.items()}
    assert torch.equal(states(fused, batch, hidden), found)


@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("trains", [["fusion"], ["projector"], ["fusion", "projector", "signal_rows"], ["signal_rows"]])
def test_same_loss_and_gradients_with_and_without_a_prefix(trains: list[str], every: int, build: Build) -> None:
    results = []
    for skips in (True, False):
        fused = opened(build(fusion=replace(FUSION, every=every), skip_prefix_gradients=skips)).double()
        batch, media = fused_batch(fused)
        for part, parameters in fused.parts().items():
            for parameter in parameters:
                parameter.requires_grad_(part in trains)
        leaves = [projected.double().requires_grad_("projector" in trains) for projected, _ in media.values()]
        output = fused(batch, {m: (leaf, media[m][1]) for m, leaf in zip(media, leaves, strict=True)})
        total = output.text_loss + sum(own.square().sum() for own in output.signals.values())
        wanted = [*leaves, *(parameter for own in fused.parts().values() for parameter in own)]
        results.append([total, *torch.autograd.grad(total, [leaf for leaf in wanted if leaf.requires_grad])])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)
        assert one.abs().max() > 0


def test_positions_before_every_medium_run_without_autograd(build: Build) -> None:
    fused = build(fusion=FUSION)
    batch, media = fused_batch(fused)
    layout = fused.laid_out(batch).layout
    assert layout is not None
    seen = arrange_by_row(layout, media)
    assert seen.starts[0].tolist() == [5, 9, 12] and seen.starts[1, 0] == 8
    assert seen.mask.sum((1, 2)).tolist() == [3 + 2 + 2, 4, 0]
    end = batch.ids.shape[1]
    fused.requires_grad_(False)
    assert fused.fusion.firsts(seen, [end] * 3) == [end] * 3
    fused.fusion.requires_grad_(True)
    assert fused.fusion.firsts(seen, [end, 2, end]) == [5, 2, end]


@pytest.mark.parametrize("family", ["llama", "opt-350m"])
def test_generation_equals_a_forward_over_the_finished_answer(
    family: str, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every greedy choice is the teacher-forced argmax, and a run's states are the forward's."""
    fused = opened(build(family, fusion=FUSION))
    monkeypatch.setattr(fused, "_decode_text", lambda ids: " ".join(map(str, ids)))
    batch, media = fused_batch(fused)
    answers = fused.generate(batch, media, Sampling(max_new_tokens=8), [[VIDEO], [], [AUDIO, IMAGE]])
    blind = fused.generate(replace(batch, media={}), {}, Sampling(max_new_tokens=8), [[VIDEO], [], [AUDIO, IMAGE]])
    assert_same(answers[2], blind[2])
    assert [piece for piece in answers[0].pieces if isinstance(piece, str)] != [
        piece for piece in blind[0].pieces if isinstance(piece, str)
    ]
    checked = 0
    for row, answer in enumerate(answers):
        prompt = batch.ids[row][batch.mask[row]].tolist()
        ids, runs, free = list(prompt), [], set()
        for piece in answer.pieces:
            if isinstance(piece, SignalRun):
                runs.append((piece, len(ids)))
                if not piece.forced:
                    free.add(len(ids))
                ids += list(fused.vocabulary.signal_ids(piece.modality))
            else:
                tokens = [int(token) for token in piece.split()]
                free |= set(range(len(ids), len(ids) + len(tokens)))
                ids += tokens
        own = {m: (batch.media[m].rows == row) for m in media}
        kept = {m: here for m, here in own.items() if here.any()}
        places = {
            m: MediaBatch({}, *(t[h] for t in (batch.media[m].rows * 0, batch.media[m].starts, batch.media[m].lengths)))
            for m, h in kept.items()
        }
        whole = torch.tensor([ids])
        forced = Batch(whole, whole >= 0, torch.full_like(whole, IGNORED), places)
        hidden = states(fused, forced, {m: (media[m][0][h], media[m][1][h]) for m, h in kept.items()})[0]
        logits = fused.logits(hidden)
        columns = fused.rows.columns(whole)[0]
        for place in free:
            assert int(logits[place - 1].argmax()) == int(columns[place])
            checked += 1
        embedded = fused.embed(whole)[0]
        for run, start in runs:
            span = slice(start, start + len(run.states))
            torch.testing.assert_close(run.states, hidden[span] + embedded[span], rtol=1e-3, atol=1e-4)
            checked += 1
    assert checked > 12


def assert_same(one: Answer, other: Answer) -> None:
    assert (one.ended, one.tokens, len(one.pieces)) == (other.ended, other.tokens, len(other.pieces))
    for piece, its in zip(one.pieces, other.pieces, strict=True):
        if isinstance(piece, SignalRun):
            assert isinstance(its, SignalRun)
            torch.testing.assert_close(piece.states, its.states, rtol=1e-3, atol=1e-4)
        else:
            assert piece == its


def test_new_layers_are_a_part_of_their_own(build: Build, kit: Any) -> None:
    fused = opened(build(fusion=FUSION, lora=kit["lora"]()))
    assert {id(p) for p in fused.parts()["fusion"]} == {id(p) for p in fused.fusion.parameters()}
    others = {id(p) for part, own in fused.parts().items() if part != "fusion" for p in own}
    assert not others & {id(p) for p in fused.fusion.parameters()}
    again = build(fusion=FUSION, lora=kit["lora"](), seed=1)
    again.load_owned_state(fused.owned_state())
    batch, media = fused_batch(fused)
    torch.testing.assert_close(again(batch, media).text_loss, fused(batch, media).text_loss, rtol=0, atol=0)
    first, same = build(fusion=FUSION).fusion.state_dict(), build(fusion=FUSION).fusion.state_dict()
    assert all(torch.equal(first[name], same[name]) for name in first)


def test_half_precision_llm_under_float32_layers(build: Build) -> None:
    exact, rounded = opened(build(fusion=FUSION)), opened(build(fusion=FUSION, dtype="bfloat16"))
    batch, media = fused_batch(exact)
    assert {p.dtype for p in rounded.fusion.parameters()} == {torch.float32}
    with torch.no_grad():
        one, other = exact(batch, media).text_loss, rounded(batch, media).text_loss
    torch.testing.assert_close(other.float(), one, rtol=0.05, atol=0.5)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ({"modalities": []}, r"fusion.modalities: found none; expected some of image"),
        ({"modalities": ["text"]}, r"fusion.modalities: found text"),
        ({"every": 0}, r"fusion.every: found 0; expected at least 1"),
        ({"every": 3}, r"fusion.every: found 3; expected at most the LLM's 2 layers"),
    ],
)
def test_faults_are_clear(fault: dict[str, Any], said: str, build: Build) -> None:
    with pytest.raises(ValueError, match=said):
        build(fusion=replace(FUSION, **fault))


def test_media_that_were_collated_with_positions_are_refused(build: Build, kit: Any) -> None:
    fused = build(fusion=FUSION)
    batch, media = kit["conversation_batch"](fused)
    with pytest.raises(ValueError, match="media positions"):
        fused(batch, media)
