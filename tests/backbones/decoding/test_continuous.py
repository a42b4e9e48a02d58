"""Continuous batching: an answer is the same bit for bit whichever others are decoded beside it, and `generate`'s."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import pytest
import torch

from isthmus.backbones.attention import lanes
from isthmus.backbones.base import Answer, Sampling, SignalRun
from isthmus.backbones.decoding.continuous import ContinuousDecoder, OpenAnswer
from isthmus.backbones.decoding.kept import Kept
from isthmus.backbones.decoding.slots import Slots
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


def decoded(backbone: ContinuousDecoder, kit: Any, arrivals: Sequence[int], slots: Slots | None = None) -> list[Answer]:
    """All rows' answers; row i is begun before step ``arrivals[i]``, in a slot that depends on who is there."""
    slots = slots or Slots(SLOTS)
    waiting = sorted(range(len(arrivals)), key=lambda row: arrivals[row])
    running: dict[int, OpenAnswer] = {}
    answers: dict[int, Answer] = {}
    for step in range(1000):
        while waiting and arrivals[waiting[0]] <= step and len(running) < SLOTS:
            row = waiting.pop(0)
            running[row] = begun(backbone, kit, row)
        if running:
            backbone.advance(list(running.values()), slots)
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
    own, slots = backbone.begin(first, projected, Sampling(10)), Slots(SLOTS)
    while not own.is_finished:
        backbone.advance([own], slots)
    assert own.writer.answer.ids == expected.ids


def test_an_llm_that_cannot_pack_decodes_each_alone(build: Build, kit: Any) -> None:
    together, alone = build("llama"), build("llama", packing=False)
    assert begun(together, kit, 0).run is None and begun(alone, kit, 0).run is not None
    for one, other in zip(decoded(together, kit, [0] * 6), decoded(alone, kit, [0] * 6), strict=True):
        assert one.ids == other.ids


@pytest.mark.parametrize("family", [family for family in JOINING if family != "gemma2"])  # it runs no packed rows
def test_an_earlier_prompts_beginning_is_reused_bit_for_bit(family: str, build: Build, kit: Any) -> None:
    backbone = build(family)
    sampling, kept = Sampling(6, 1.3, seed=1), Kept(1 << 24)
    whole = kit["text_batch"]([75], seed=5)

    def turn(length: int, slots: Slots) -> tuple[Answer, int]:
        batch = type(whole)(whole.ids[:, :length], whole.mask[:, :length], whole.labels[:, :length])
        own = backbone.begin(batch, {}, sampling, [Modality.IMAGE])
        while not own.is_finished:
            backbone.advance([own], slots)
        return own.writer.answer, own.reused

    slots = Slots(SLOTS, kept)
    reused = []
    for length in (40, 75, 75, 64):
        answer, known = turn(length, slots)
        expected, none = turn(length, Slots(SLOTS))
        assert_equal(answer, expected)
        reused.append(known)
        assert none == 0
    assert reused == [0, 32, 64, 32], "of whole blocks, less than the prompt"
    assert turn(75, Slots(SLOTS, kept))[1] == 0, "other slots may be another adapter's"
    assert 0 < kept.size <= kept.budget
    small = Slots(SLOTS, Kept(kept.size // len(kept) + 1))
    assert [turn(75, small)[1], turn(75, small)[1]] == [0, 32], "the beginning is kept longest"


def test_a_long_answer_changes_shelves(build: Build, kit: Any) -> None:
    """Beside others, that leave and so move."""
    backbone, slots = build(), Slots(SLOTS)
    lengths = [1, 30, 60]
    batches = [kit["text_batch"]([length], seed=length) for length in lengths]
    samplings = [Sampling(30, 1.3, seed=length) for length in lengths]
    expected = []
    for batch, sampling in zip(batches, samplings, strict=True):
        own = backbone.begin(batch, {}, sampling, allowed=[])
        while not own.is_finished:
            backbone.advance([own], slots)
        expected.append(own.writer.answer.ids)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lanes, "SHORTEST", 32)
        running = [backbone.begin(b, {}, s, allowed=[]) for b, s in zip(batches, samplings, strict=True)]
        answers = list(running)
        shelves = set()
        while running:
            backbone.advance(running, slots)
            shelves |= {lane.shelf.capacity for lane in slots._open.values()}
            running = [own for own in running if not own.is_finished]
    assert shelves >= {32, 64} and [own.writer.answer.ids for own in answers] == expected


def test_words_only_grow(build: Build, kit: Any) -> None:
    backbone = build()
    own, slots = begun(backbone, kit, 2), Slots(SLOTS)
    said = [own.writer.words]
    while not own.is_finished:
        backbone.advance([own], slots)
        said.append(own.writer.words)
    assert all(later.startswith(earlier) for earlier, later in pairwise(said))
    assert said[-1] == " ".join(piece.strip() for piece in own.writer.answer.pieces if isinstance(piece, str))


def test_a_request_that_cannot_be_met(build: Build, kit: Any) -> None:
    backbone = build()
    with pytest.raises(ValueError, match="may not be emitted"):
        backbone.begin(kit["text_batch"]([4]), {}, Sampling(4), [Modality.IMAGE], [])
    with pytest.raises(ValueError, match="expected room for an answer"):
        backbone.begin(kit["text_batch"]([96]), {}, Sampling(4))


def test_what_an_earlier_answer_left_in_a_lane_is_nothing_to_the_next(build: Build, kit: Any) -> None:
    """Its NaN would come through a mask, since 0 times NaN is NaN."""
    backbone, slots = build(), Slots(SLOTS)
    alone = decoded(backbone, kit, [0] * 6)
    stays, leaves = begun(backbone, kit, 0), begun(backbone, kit, 4)
    leaves.prompt = torch.full_like(leaves.prompt, torch.nan)
    backbone.advance([stays, leaves], slots)
    assert any(keys.isnan().any() for lane in slots._open.values() for keys, _ in lane.shelf.states.values())
    comes = begun(backbone, kit, 2)
    while not comes.is_finished:
        backbone.advance([comes] if stays.is_finished else [stays, comes], slots)
    assert_equal(comes.writer.answer, alone[2])


@pytest.mark.parametrize("longs", [1, 6])
def test_a_long_prompt_does_not_keep_a_short_one(longs: int, build: Build, kit: Any) -> None:
    """Blocks are handed out in turns, and the answers are those that each gets alone."""
    backbone, sampling = build(), Sampling(4, 1.3)
    batches = [kit["text_batch"]([90], seed=seed) for seed in range(longs)] + [kit["text_batch"]([5], seed=9)]

    def run(own: list[OpenAnswer], slots: Slots) -> list[int]:
        """The rounds after which each prompt had run."""
        ran: dict[int, int] = {}
        for step in range(1, 100):
            if running := [answer for answer in own if not answer.is_finished]:
                backbone.advance(running, slots)
            for row, answer in enumerate(own):
                if answer.last is not None:
                    ran.setdefault(row, step)
        return [ran[row] for row in range(len(own))]

    alone = [backbone.begin(batch, {}, sampling, allowed=[]) for batch in batches]
    for answer in alone:
        run([answer], Slots(8))
    together = [backbone.begin(batch, {}, sampling, allowed=[]) for batch in batches]
    rounds = run(together, Slots(8))
    assert rounds[-1] == 1 + (longs > 3)
    for one, other in zip(alone, together, strict=True):
        assert_equal(one.writer.answer, other.writer.answer)
