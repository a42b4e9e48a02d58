"""Continuous batching: an answer is the same bit for bit whichever others are decoded beside it, and `generate`'s."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import pytest
import torch

from isthmus.backbones.base import Answer, Sampling, SignalRun
from isthmus.backbones.decoding.continuous import ContinuousDecoder, OpenAnswer
from isthmus.types import Modality

Build = Callable[..., ContinuousDecoder]
JOINING = ["llama", "qwen3", "opt", "glm", "mistral", "gemma2"]
SLOTS = 4
LENGTHS = [3, 9, 6, 5, 12, 4]
SAMPLINGS = [Sampling(14, 1.3 if row % 2 else 0.0, seed=row) for row in range(len(LENGTHS))]
OWED: list[list[Modality]] = [[Modality.VIDEO], [], [Modality.POINTS, Modality.IMAGE], [], [], [Modality.AUDIO]]


def begun(backbone: ContinuousDecoder, kit: Any, row: int) -> OpenAnswer:
    prompt = kit["text_batch"]([LENGTHS[row]], seed=row)
    return backbone.begin(prompt, {}, SAMPLINGS[row], OWED[row])


def decoded(backbone: ContinuousDecoder, kit: Any, arrivals: Sequence[int]) -> list[Answer]:
    """All rows' answers; row i is begun before step ``arrivals[i]``, in a slot that depends on who is there."""
    waiting = sorted(range(len(arrivals)), key=lambda row: arrivals[row])
    running: dict[int, OpenAnswer] = {}
    answers: dict[int, Answer] = {}
    for step in range(1000):
        while waiting and arrivals[waiting[0]] <= step and len(running) < SLOTS:
            row = waiting.pop(0)
            running[row] = begun(backbone, kit, row)
        if running:
            backbone.advance(list(running.values()), SLOTS)
        for row in [row for row, own in running.items() if own.is_finished]:
            answers[row] = running.pop(row).writer.answer
        if not waiting and not running:
            return [answers[row] for row in range(len(arrivals))]
    raise AssertionError("no end")


def assert_equal(one: Answer, other: Answer) -> None:
    assert (one.ids, one.ended, one.tokens) == (other.ids, other.ended, other.tokens)
    for piece, its in zip(one.pieces, other.pieces, strict=True):
        if isinstance(piece, SignalRun):
            assert isinstance(its, SignalRun) and torch.equal(piece.states, its.states)
        else:
            assert piece == its


@pytest.mark.parametrize("family", [*JOINING, "t5"])
def test_an_answer_does_not_depend_on_who_else_is_decoded(family: str, build: Build, kit: Any) -> None:
    backbone = build(family)
    apart = decoded(backbone, kit, [0, 100, 200, 300, 400, 500])
    assert {len(answer.ids) for answer in apart} != {len(apart[0].ids)}
    for arrivals in ([0] * 6, [5, 3, 0, 1, 0, 2], [4, 0, 4, 0, 9, 0]):
        for one, other in zip(apart, decoded(backbone, kit, arrivals), strict=True):
            assert_equal(one, other)


@pytest.mark.parametrize("family", [*JOINING, "t5"])
def test_answers_are_those_of_generate(family: str, build: Build, kit: Any) -> None:
    backbone = build(family)
    for row, answer in enumerate(decoded(backbone, kit, [0] * 6)):
        prompt = kit["text_batch"]([LENGTHS[row]], seed=row)
        (expected,) = backbone.generate(prompt, {}, SAMPLINGS[row], OWED[row : row + 1])
        assert (answer.ids, answer.ended, answer.tokens) == (expected.ids, expected.ended, expected.tokens)
        for piece, its in zip(answer.pieces, expected.pieces, strict=True):
            if isinstance(piece, SignalRun):
                assert isinstance(its, SignalRun) and piece.forced == its.forced
                torch.testing.assert_close(piece.states, its.states, rtol=1e-3, atol=1e-4)


def test_media_and_adapters(build: Build, kit: Any) -> None:
    backbone = kit["awaken"](build("llama", lora=kit["lora"](0.5)))
    batch, media = kit["conversation_batch"](backbone)
    first = type(batch)(
        batch.ids[1:, :11], batch.mask[1:, :11], batch.labels[1:, :11], {Modality.IMAGE: batch.media[Modality.IMAGE]}
    )
    places = first.media[Modality.IMAGE]
    first.media[Modality.IMAGE] = type(places)({}, places.rows[1:] * 0, places.starts[1:], places.lengths[1:])
    projected = {Modality.IMAGE: tuple(values[1:] for values in media[Modality.IMAGE])}
    (expected,) = backbone.generate(first, projected, Sampling(10))
    own = backbone.begin(first, projected, Sampling(10))
    while not own.is_finished:
        backbone.advance([own], SLOTS)
    assert own.writer.answer.ids == expected.ids


def test_an_llm_that_cannot_pack_decodes_each_alone(build: Build, kit: Any) -> None:
    together, alone = build("llama"), build("llama", packing=False)
    assert begun(together, kit, 0).cache is not None and begun(alone, kit, 0).cache is None
    for one, other in zip(decoded(together, kit, [0] * 6), decoded(alone, kit, [0] * 6), strict=True):
        assert one.ids == other.ids


def test_words_only_grow(build: Build, kit: Any) -> None:
    backbone = build()
    own = begun(backbone, kit, 2)
    said = [own.writer.words]
    while not own.is_finished:
        backbone.advance([own], SLOTS)
        said.append(own.writer.words)
    assert all(later.startswith(earlier) for earlier, later in pairwise(said))
    assert said[-1] == " ".join(piece.strip() for piece in own.writer.answer.pieces if isinstance(piece, str))


def test_a_request_that_cannot_be_met(build: Build, kit: Any) -> None:
    backbone = build()
    with pytest.raises(ValueError, match="may not be emitted"):
        backbone.begin(kit["text_batch"]([4]), {}, Sampling(4), [Modality.IMAGE], [])
    with pytest.raises(ValueError, match="expected room for an answer"):
        backbone.begin(kit["text_batch"]([96]), {}, Sampling(4))
