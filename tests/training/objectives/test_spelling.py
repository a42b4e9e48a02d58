"""P that says what is said of a medium in the LLM's own embeddings: all paths by hand, and a stage without the LLM."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from itertools import product
from pathlib import Path

import pytest
import supervised
import torch
from syncs import Syncs
from tiny_world import SIGNALS

from isthmus.backbones import CausalBackbone
from isthmus.data.conversations.schema import Conversation, Message, TextItem
from isthmus.encoders.imagebind.encoder import ImageBind
from isthmus.input_projectors import MLP
from isthmus.model import AnyToAny, Backbone, InputSide
from isthmus.pocket import tasks
from isthmus.training import LossWeights, Supervised
from isthmus.training.objectives.base import Learner
from isthmus.training.objectives.spelling import costs, fitting, spell
from isthmus.types import Batch, MediaBatch, Modality

IMAGE, VIDEO = Modality.IMAGE, Modality.VIDEO
ALONE = LossWeights(text=0.0, spelling=2.0)


@pytest.fixture
def model(experts: Mapping[str, Path]) -> AnyToAny:
    """A model of images and text, three positions a medium."""
    side = InputSide([ImageBind(experts["imagebind"], ("image",))], {"image": partial(MLP, positions_per_token=3)})
    made = AnyToAny(Backbone(CausalBackbone(experts["llama"], SIGNALS), 1024), side)
    made.configure_model()
    return made.requires_grad_(False).eval()


def described(count: int) -> list[Conversation]:
    source = tasks.Describe(split="train", size=count, modalities=("image",))
    words = Conversation((Message("user", (TextItem("?"),)), Message("assistant", (TextItem("words alone"),))))
    return [*(source[index] for index in range(count)), words]


def plain_cost(states: torch.Tensor, words: torch.Tensor, said: list[int], text: list[int]) -> torch.Tensor:
    """By the sum over all paths: P (M, E), the LLM's table, tokens that are told apart, the blank first, and a text."""
    known = words[said]
    distances = torch.stack([(own - known).square().sum(1) for own in states])  # (M, C)
    read = (-distances / 2 / known.var() / known.shape[1] ** 0.5).softmax(1)
    likelihood = torch.zeros(())
    for path in product(range(len(said)), repeat=len(states)):
        steps = [token for place, token in enumerate(path) if place == 0 or path[place - 1] != token]
        if [said[token] for token in steps if token] == text:
            likelihood = likelihood + torch.stack([own[token] for own, token in zip(read, path, strict=True)]).prod()
    gap = (states - read.detach() @ known).square().mean() / known.var()
    return -likelihood.log() / len(text) + gap


def test_it_is_the_likelihood_of_all_paths_that_say_the_text(model: AnyToAny) -> None:
    backbone = model.backbone.language_model
    words = backbone.llm.get_input_embeddings().weight
    blank, *_ = reversed(backbone.tokenizer("\n", add_special_tokens=False)["input_ids"])
    short, long = (backbone.tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("a", "seven and more"))
    assert len(short) < 3 < len(long)
    rows = torch.tensor([0, 1, 1, 3, 4])  # a second image in row 1; in row 4 no text
    blank_ids = torch.zeros(5, 1, dtype=torch.int64)
    video = MediaBatch({}, torch.tensor([3, 2]), rows, rows)  # in row 3 it isn't alone
    media = {IMAGE: MediaBatch({}, rows, rows, rows), VIDEO: video}
    batch = Batch(blank_ids, blank_ids, blank_ids, media, texts=["a", "b", "seven and more", "d", " "])
    states = torch.randn(5, 4, 16, generator=torch.Generator().manual_seed(0), requires_grad=True)
    moving = torch.randn(2, 3, 16, generator=torch.Generator().manual_seed(1), requires_grad=True)
    mask = torch.ones(5, 4, dtype=torch.bool)
    mask[0, 3] = False  # a medium that takes three of four positions
    with torch.no_grad():
        states[0, 3] = float("nan")
    found = spell(backbone, batch, {IMAGE: (states, mask), VIDEO: (moving, mask[1:3, :3])})
    assert found.media == 2
    said = [blank, *sorted({*short, *long} - {blank})]
    torch.testing.assert_close(found.distances[IMAGE], plain_cost(states[0, :3], words, said, short))
    torch.testing.assert_close(found.distances[VIDEO], plain_cost(moving[1], words, said, long[:3]))
    (found.distances[IMAGE] + found.distances[VIDEO]).backward()
    assert states.grad is not None and states.grad[0, :3].all() and not states.grad[0, 3:].any()
    assert not states.grad[1:].any(), "media that don't count don't learn"


def test_equal_neighbours_need_a_blank_between_them(model: AnyToAny) -> None:
    backbone = model.backbone.language_model
    words = backbone.llm.get_input_embeddings().weight
    states = torch.randn(1, 4, 16, generator=torch.Generator().manual_seed(0), requires_grad=True)
    (found,) = costs(states, torch.ones(1, 4, dtype=torch.bool), words[[3, 5, 7]], [[2, 2, 1]])
    torch.testing.assert_close(found, plain_cost(states[0], words, [3, 5, 7], [7, 7, 5]))
    assert [fitting([2, 2, 1], room) for room in (4, 3, 2, 1, 0)] == [[2, 2, 1], [2, 2], [2], [2], []]
    (empty,) = costs(states, torch.ones(1, 4, dtype=torch.bool), words[[3, 5, 7]], [[]])
    assert empty.isfinite()


def test_nothing_else_is_computed_where_nothing_else_weighs(model: AnyToAny) -> None:
    passes: list[str] = []
    model.backbone.register_forward_pre_hook(lambda *_: passes.append("LLM"))
    model.input_side.requires_grad_(True)
    batch = model.collator()(described(4))
    Supervised().step(Learner(model, ALONE), batch)  # the encoder is read
    with (syncs := Syncs())():
        outcome = Supervised().step(Learner(model, ALONE), batch)
    assert not syncs.found, "nothing waits for the device"
    assert not passes and outcome.shared.keys() == {"loss"}, "no figure of what wasn't computed"
    distance, media = outcome.counted["spelling_image"]
    assert media == 4
    torch.testing.assert_close(outcome.loss, 2 * distance / 4)
    outcome.loss.backward()
    reached = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert reached == {
        f"input_side.projectors.image.{name}" for name, _ in model.input_side.projector(IMAGE).named_parameters()
    }
    # Beside the text's loss it is the same term.
    both = LossWeights(spelling=2.0)
    terms = supervised.terms(model, both, batch)
    assert passes == ["LLM"] and terms.spelling is not None
    torch.testing.assert_close(terms.spelling.distances[IMAGE], distance)
    plain = supervised.loss(model, LossWeights(), batch)
    torch.testing.assert_close(terms.total(both, terms.counts()), plain + outcome.loss)


def test_a_batch_without_media_learns_nothing(model: AnyToAny) -> None:
    nothing = Supervised().step(Learner(model, ALONE), model.collator()(described(4)[-1:]))
    assert float(nothing.loss) == 0 and not nothing.counted


def test_projectors_learn_it(model: AnyToAny) -> None:
    model.input_side.requires_grad_(True)
    optimizer = torch.optim.AdamW(model.input_side.parameters(), lr=1e-2)
    batch, found = model.collator()(described(12)), []
    for _ in range(30):
        loss = Supervised().step(Learner(model, ALONE), batch).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(float(loss))
    assert found[-1] < 0.5 * found[0]
