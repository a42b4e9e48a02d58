"""Closing gaps: a batch laid out for the most tokens becomes the one that was laid out for the right number."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import pytest
import supervised
import torch
from hypothesis import given
from hypothesis import strategies as st
from model.talks import medium, talk
from tiny_world import tiny_model
from torch import Tensor

from isthmus.backbones.base import Sampling
from isthmus.data.conversations.schema import Conversation
from isthmus.encoders.c_former.encoder import CFormer
from isthmus.encoders.c_former.model import CFormerConfig, CFormerModel
from isthmus.encoders.checkpoint import save_checkpoint
from isthmus.encoders.imagebind.encoder import ImageBind
from isthmus.input_projectors import MLP, CFormerProjector
from isthmus.model import AnyToAny, InputSide
from isthmus.model.gaps import without_gaps
from isthmus.training.objectives.terms import LossWeights
from isthmus.types import IGNORED, Batch, MediaBatch, Modality, SignalBatch
from isthmus.vocabulary import MEDIA_POSITION

CONFIG = CFormerConfig(
    bins=16, bank_mean=-9.0, bank_deviation=4.0, width=16, layers=1, heads=2, feed_forward=24, kernel=5, channels=4
)
Piece = tuple[str, int, int]
"""What stands there, how much room it takes, how much of it is used."""
PIECE = st.tuples(st.sampled_from(["text", "audio", "image", "signal"]), st.integers(1, 5), st.integers(1, 5)).map(
    lambda piece: (piece[0], piece[1], min(piece[1:]) if piece[0] == "audio" else piece[1])
)


def laid_out(rows: list[list[Piece]], length: int, closed: bool) -> tuple[Batch, Tensor]:
    """The batch of these rows, with audio at its full room or at what it uses; and the audio's mask."""
    ids, labels = torch.zeros(2, len(rows), length, dtype=torch.int64)
    labels.fill_(IGNORED)
    mask = torch.zeros(len(rows), length, dtype=torch.bool)
    places: dict[str, list[tuple[int, int, int]]] = {"audio": [], "image": [], "signal": []}
    used: list[int] = []
    for row, pieces in enumerate(rows):
        at = 0
        for number, (kind, room, own) in enumerate(pieces):
            taken = own if closed else room
            if kind == "text":
                ids[row, at : at + taken] = labels[row, at : at + taken] = 100 * number + torch.arange(1, taken + 1)
            else:
                places[kind].append((row, at, taken))
                ids[row, at : at + taken] = MEDIA_POSITION if kind != "signal" else 5
                used += [own] if kind == "audio" else []
            at += taken
        mask[row, :at] = True

    def columns(kind: str) -> list[Tensor]:
        return list(torch.tensor(places[kind], dtype=torch.int64).view(-1, 3).T)

    media = {Modality(kind): MediaBatch({}, *columns(kind)) for kind in ("audio", "image")}
    runs = SignalBatch(*columns("signal")[:2], [], {}, torch.zeros(0), torch.zeros(0))
    batch = Batch(ids, mask, labels, media, {Modality.VIDEO: runs})
    return batch, torch.arange(5) < torch.tensor(used, dtype=torch.int64)[:, None]


@given(rows=st.lists(st.lists(PIECE, min_size=1, max_size=5), min_size=1, max_size=4))
def test_closed_is_as_if_laid_out_with_what_is_used(rows: list[list[Piece]]) -> None:
    length = max(sum(room for _, room, _ in row) for row in rows)
    batch, mask = laid_out(rows, length, closed=False)
    found, expected = without_gaps(batch, {Modality.AUDIO: mask}), laid_out(rows, length, closed=True)[0]
    for name in ("ids", "mask", "labels"):
        assert torch.equal(getattr(found, name), getattr(expected, name)), name
    for modality in (Modality.AUDIO, Modality.IMAGE):
        for field in ("rows", "starts", "lengths"):
            assert torch.equal(getattr(found.media[modality], field), getattr(expected.media[modality], field))
    for field in ("rows", "starts"):
        assert torch.equal(
            getattr(found.signals[Modality.VIDEO], field), getattr(expected.signals[Modality.VIDEO], field)
        )
    assert torch.equal(found.labels[found.labels != IGNORED], batch.labels[batch.labels != IGNORED])


def test_other_encoders_batches_are_left_alone() -> None:
    batch, _ = laid_out([[("text", 3, 3), ("image", 2, 2)]], 5, closed=False)
    assert without_gaps(batch, {}) is batch


# --- in the whole model ---


@pytest.fixture
def listening(experts: dict[str, Path], tmp_path: Path) -> AnyToAny:
    """A model whose ears are a C-Former: random, so that how many tokens it fires depends on the sound."""
    torch.manual_seed(2)
    network = CFormerModel(CONFIG)
    network.cif.weight_proj.weight.data.mul_(3)
    save_checkpoint(tmp_path, "c_former", CONFIG, network.state_dict())
    bridge = partial(CFormerProjector, width=12, layers=1, heads=2, feed_forward=16, dropout=0.0)
    model = tiny_model(experts, ("image",), ("image", "audio"))
    model.input_side = InputSide(
        [CFormer(tmp_path, seconds=1.0), ImageBind(experts["imagebind"], ("image",))],
        {"audio": bridge, "image": partial(MLP, hidden=16, positions_per_token=2)},
    )
    model.configure_model()
    return model.eval()


TALKS = [
    talk(["what is ", ("audio", 4), " and ", ("image", 3)], ["seven: ", ("image", 7), " or so"], with_content=False),
    talk([("audio", 1), ("audio", 8)], [("audio", 5), "!"], with_content=False),
    talk(["say hi"], ["hi"]),
]


def heard(model: AnyToAny, digit: int) -> int:
    """Tokens that this tone fires."""
    assert model.input_side is not None
    encoder = model.input_side.encoder(Modality.AUDIO)
    inputs = encoder.preprocess(medium("audio", digit))
    return int(encoder(Modality.AUDIO, {key: tensor[None] for key, tensor in inputs.items()}).mask.sum())


@torch.no_grad()
def test_a_batch_says_what_its_conversations_say_alone(listening: AnyToAny) -> None:
    """And alone they are read as they would be, had the right number of positions been known."""
    together, *alone = (
        supervised.terms(listening, LossWeights(alignment=1.0), own) for own in (TALKS, *([t] for t in TALKS))
    )
    torch.testing.assert_close(together.text, torch.stack([terms.text for terms in alone]).sum(), rtol=1e-4, atol=1e-4)
    for modality, row in ((Modality.IMAGE, 0), (Modality.AUDIO, 1)):
        torch.testing.assert_close(together.alignment[modality], alone[row].alignment[modality], rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_the_llm_meets_as_many_positions_as_there_are_tokens(listening: AnyToAny) -> None:
    collated = listening.collator()(TALKS)
    assert listening.input_side is not None
    counts = torch.tensor([heard(listening, digit) for digit in (4, 1, 8)])
    assert collated.media[Modality.AUDIO].lengths.tolist() == [16, 16, 16] and (counts < 16).all()
    projected = listening.input_side(collated.media)
    with pytest.raises(ValueError, match="media positions"):
        listening.backbone(collated, projected)
    closed = listening.input_side.packed(collated, projected)
    assert torch.equal(closed.media[Modality.AUDIO].lengths, counts)
    assert int((closed.ids == MEDIA_POSITION).sum()) == int(counts.sum()) + 2
    assert closed.mask.sum() == collated.mask.sum() - 3 * 16 + counts.sum()
    # The same conversations, laid out by someone who has already listened.
    collator, foretell = listening.collator(), listening.input_side.positions
    encoder = listening.input_side.encoder(Modality.AUDIO)

    def positions(modality: Modality, inputs: Mapping[str, Tensor]) -> int:
        if modality is not Modality.AUDIO:
            return foretell(modality, inputs)
        return int(encoder(modality, {key: tensor[None] for key, tensor in inputs.items()}).mask.sum())

    collator.positions = positions
    exact = collator(TALKS)
    shorter = exact.ids.shape[1]
    assert shorter < closed.ids.shape[1] and torch.equal(exact.ids, closed.ids[:, :shorter])
    found, expected = listening.backbone(closed, projected), listening.backbone(exact, projected)
    torch.testing.assert_close(found.text_loss, expected.text_loss, rtol=1e-5, atol=1e-5)
    for modality, states in expected.signals.items():
        torch.testing.assert_close(found.signals[modality], states, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_answers_are_those_of_each_prompt_alone(listening: AnyToAny) -> None:
    prompts = [Conversation(one.messages[:1], one.details) for one in TALKS]
    sampling = Sampling(max_new_tokens=6)
    together = listening.answer(listening.prompts(prompts), sampling, allowed=[])
    for row, prompt in enumerate(prompts):
        (alone,) = listening.answer(listening.prompts([prompt]), sampling, allowed=[])
        assert together[row].text == alone.text


def test_the_projector_learns_from_what_was_heard(listening: AnyToAny) -> None:
    collated = listening.collator()(TALKS)
    assert listening.input_side is not None
    captured: list[Tensor] = []
    projector = listening.input_side.projector(Modality.AUDIO)
    projector.register_forward_hook(lambda module, given, out: out[0].retain_grad() or captured.append(out[0]))
    listening(collated).text_loss.backward()
    (projected,) = captured
    assert projected.grad is not None
    reached = projected.grad.abs().sum(-1) > 0
    assert reached.tolist() == [
        [step < heard(listening, digit) for step in range(projected.shape[1])] for digit in (4, 1, 8)
    ]
    assert all(parameter.grad is not None for parameter in projector.parameters())
