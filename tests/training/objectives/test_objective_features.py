"""Media of a prompt are encoded once a step, however many answers, policies and references read them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from pairs import TRAINS, ready, said
from test_group_policy import policy
from test_objective_parts import assert_equal, learnt

from isthmus.cache.frozen import CacheSettings
from isthmus.data.batching.pairs import Pair
from isthmus.data.conversations.schema import Conversation
from isthmus.model import AnyToAny
from isthmus.pocket.tasks import AnyToAny as Tasks
from isthmus.training import Preference
from isthmus.types import MEDIA, Batch, MediaBatch


def seen() -> list[Conversation]:
    """Two images, a video and points that are asked about."""
    source = Tasks(size=90, outputs=("text",))
    return [source[index] for index in (1, 2, 4, 6)]


def pairs() -> list[Any]:
    return [Pair(own.messages, {"id": str(row), "seed": row}, said("no")) for row, own in enumerate(seen())]


def counted(model: AnyToAny) -> list[int]:
    """Of each pass of an encoder from now on, how many media it had."""
    passes: list[int] = []
    assert model.input_side is not None
    for encoder in model.input_side.encoders:
        encoder.register_forward_hook(lambda _, __, features: passes.append(len(features.tokens)))
    return passes


def spread(batch: Batch) -> Batch:
    """The same batch, its media stacked once for each place."""
    media = {}
    for modality, own in batch.media.items():
        assert own.index is not None
        media[modality] = replace(own, inputs={name: t[own.index] for name, t in own.inputs.items()}, index=None)
    return replace(batch, media=media)


def test_both_answers_policy_and_reference_share_what_is_encoded(experts: dict[str, Path]) -> None:
    module = ready(experts, Preference(), [*TRAINS, "input_projectors"])
    model = module.model
    batch = module.collator("train")(pairs())
    passes = counted(model)
    once, _ = learnt(module, pairs(), 1)
    assert sum(passes) == 4 and len(passes) == len(batch.media) == 3
    model.zero_grad()
    outcome = module.objective.step(module.learner(), spread(batch))
    assert sum(passes) == 4 + 8
    outcome.loss.backward()
    gradients = {name: own.grad for name, own in model.named_owned() if own.grad is not None}
    figures = {name: float(value) for name, value in outcome.figures().items()}
    assert_equal((figures, gradients), once)
    assert any("input_projectors" in name and own.any() for name, own in gradients.items())


def test_a_groups_answers_share_what_is_encoded(experts: dict[str, Path]) -> None:
    module = ready(experts, policy(), TRAINS)
    model = module.model
    asked = [own.prompt() for own in seen()]
    for parts in (1, 3):
        passes = counted(model)
        _, batch = learnt(module, asked, parts)
        assert len(batch) == 16 and sum(len(own.rows) for own in batch.media.values()) == 16
        assert [len(passes), sum(passes)] == [3, 4], parts
        for encoder in model.input_side.encoders if model.input_side else ():
            encoder._forward_hooks.clear()


def test_an_answer_is_the_same_from_media_stacked_once(experts: dict[str, Path]) -> None:
    module = ready(experts, policy(), TRAINS)
    model = module.model
    batch = module.collator("train")([own.prompt() for own in seen()])
    assert [reply.ids for reply in model.answer(batch)] == [reply.ids for reply in model.answer(spread(batch))]


def test_a_cache_is_asked_once_for_a_medium_that_stands_in_several_places(
    experts: dict[str, Path], tmp_path: Path
) -> None:
    module = ready(experts, policy(), TRAINS)
    model = module.model
    model.cache_settings = CacheSettings(tmp_path, trial=0)
    cache = module.cache()
    assert cache is not None
    asked = [own.prompt() for own in seen()]
    first, _ = learnt(module, asked, 1)
    assert (cache.misses, cache.hits) == (4, 0)
    passes = counted(model)
    again, batch = learnt(module, asked, 1)
    assert passes == [] and (cache.misses, cache.hits) == (4, 4)
    assert all(own.cached is not None and len(own.cached) < len(own.rows) for own in batch.media.values())
    assert_equal(again, first)


def test_places_move_to_a_device_with_their_media() -> None:
    places = torch.tensor([0, 0, 1])
    batch = Batch(places, places, places, {MEDIA[0]: MediaBatch({}, places, places, places, None, places)})
    moved = batch.to("meta").media[MEDIA[0]].index
    assert moved is not None and moved.device.type == "meta"
