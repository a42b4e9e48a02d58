"""Media of a prompt are encoded one a step, each by itself, and not again while they are kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tiny_bundle import bundle, opened

from isthmus.backbones.base import Sampling
from isthmus.backbones.decoding.continuous import OpenAnswer
from isthmus.backbones.decoding.kept import Kept
from isthmus.data.conversations.schema import parse_conversation
from isthmus.inference.pipeline import Pipeline
from isthmus.pocket.world import Concept, draw
from isthmus.types import Modality

__all__ = ["bundle", "opened"]


def begun(pipeline: Pipeline, numbers: list[int], kept: Kept | None) -> tuple[OpenAnswer, int, int]:
    """An answer to a prompt with the pictures of these, its steps of encoding, and the first picture's end."""
    random = np.random.default_rng(0)
    pictures = {number: draw(Modality.IMAGE, Concept(number, "red", "left"), "test", random) for number in range(4)}
    content: list[Any] = [{"type": "image", "image": pictures[number]} for number in numbers]
    turns = {"messages": [{"role": "user", "content": [*content, {"type": "text", "text": "what is it"}]}]}
    batch = pipeline.model.prompts([parse_conversation(turns, "test", captions_required=False)], Sampling(4))
    places = batch.media[Modality.IMAGE]
    beginning, steps = pipeline.model.begin(batch, Sampling(4), kept=kept), 0
    while True:
        try:
            next(beginning)
        except StopIteration as ended:
            return ended.value, steps, int(places.starts[0] + places.lengths[0])
        steps += 1


def test_each_by_itself_and_once(opened: Pipeline) -> None:
    kept = Kept(1 << 24)
    one, steps, end = begun(opened, [1], kept)
    assert steps == 1 and len(kept) == 1
    both, steps, _ = begun(opened, [1, 2], kept)
    assert steps == 1, "the other one is kept"
    again, steps, _ = begun(opened, [1, 2], kept)
    fresh, all_steps, _ = begun(opened, [1, 2], None)
    assert (steps, all_steps) == (0, 2)
    assert torch.equal(both.prompt, fresh.prompt) and torch.equal(again.prompt, fresh.prompt)
    assert torch.equal(one.prompt[:end], both.prompt[:end])


def test_numbers_that_are_not_finite_are_refused(opened: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of weights that overflow for this picture; nothing of it is kept."""
    assert opened.model.input_side is not None
    weights = next(opened.model.input_side.projector(Modality.IMAGE).parameters())
    monkeypatch.setattr(weights, "data", torch.full_like(weights, torch.inf))
    kept = Kept(1 << 24)
    with pytest.raises(ValueError, match=r"messages: .* aren't finite of a medium of type image; .*Fix"):
        begun(opened, [1], kept)
    assert len(kept) == 0
    picture = draw(Modality.IMAGE, Concept(1, "red", "left"), "test", np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"messages: .* aren't finite of a medium of type image; .*Fix"):
        opened.model.chat([{"role": "user", "content": [{"type": "image", "image": picture}]}])


def test_what_is_kept_is_bounded() -> None:
    kept = Kept(10)
    for name in (b"a", b"b"):
        kept.keep(name, name, 5)
    assert kept.get(b"a") == b"a"
    kept.keep(b"c", b"c", 5)
    assert (kept.get(b"a"), kept.get(b"b"), kept.get(b"c"), kept.size) == (b"a", None, b"c", 10)
    kept.keep(b"large", b"", 11)
    assert kept.get(b"large") is None and len(kept) == 2
