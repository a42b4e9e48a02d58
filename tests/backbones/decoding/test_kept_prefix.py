"""Keys and values kept from turn to turn: answers as without them, and only new positions run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from isthmus.backbones.adapters.gated_fusion import FusionSettings
from isthmus.backbones.base import Answer, Sampling, SignalRun
from isthmus.backbones.decoding.kept_prefix import KeptPrefix
from isthmus.backbones.pretrained import PretrainedLanguageModel
from isthmus.types import Batch, MediaBatch, Modality
from isthmus.vocabulary import MEDIA_POSITION

Build = Callable[..., PretrainedLanguageModel]
IMAGE, AUDIO = Modality.IMAGE, Modality.AUDIO
Media = dict[Modality, tuple[Tensor, Tensor]]
GREEDY = Sampling(6)


class Talk:
    """A conversation laid out by hand: ids, and images of P (3, E) that stand in it."""

    def __init__(self, backbone: PretrainedLanguageModel) -> None:
        self.backbone = backbone
        self.random = torch.Generator().manual_seed(7)
        self.ids: list[int] = []
        self.starts: list[int] = []
        self.projected: list[Tensor] = []

    def words(self, count: int) -> Talk:
        self.ids += torch.randint(6, 40, (count,), generator=self.random).tolist()
        return self

    def image(self, positions: int = 3) -> Talk:
        begin, end = self.backbone.vocabulary.tags(IMAGE)
        self.starts.append(len(self.ids) + 1)
        self.ids += [begin, *[MEDIA_POSITION] * positions, end]
        self.projected.append(torch.randn(3, self.backbone.width, generator=self.random))
        return self

    def batch(self) -> tuple[Batch, Media]:
        ids = torch.tensor([self.ids])
        if not self.starts:
            return Batch(ids, ids == ids, torch.full_like(ids, -100)), {}
        n, fused = len(self.starts), IMAGE in self.backbone.fused
        lengths = torch.full((n,), 0 if fused else 3)
        places = MediaBatch({}, torch.zeros(n, dtype=torch.int64), torch.tensor(self.starts), lengths)
        batch = Batch(ids, ids == ids, torch.full_like(ids, -100), {IMAGE: places})
        return batch, {IMAGE: (torch.stack(self.projected), torch.ones(n, 3, dtype=torch.bool))}


def positions_run(backbone: Any) -> list[int]:
    """Fills up with the positions of each pass through the LLM."""
    counts: list[int] = []
    backbone.llm.base_model.register_forward_pre_hook(
        lambda _, __, given: counts.append(given["inputs_embeds"].shape[1]), with_kwargs=True
    )
    return counts


def assert_same(one: Answer, other: Answer) -> None:
    assert (one.ids, one.ended, one.tokens) == (other.ids, other.ended, other.tokens)
    for piece, its in zip(one.pieces, other.pieces, strict=True):
        if isinstance(piece, SignalRun):
            assert isinstance(its, SignalRun)
            torch.testing.assert_close(piece.states, its.states, rtol=1e-5, atol=1e-5)
        else:
            assert piece == its


def turns(backbone: PretrainedLanguageModel, rewrites: bool = True) -> tuple[list[int], list[int]]:
    """Three turns with media in and out, each held against a fresh run; positions reused, and those that had to run."""
    kept, talk = KeptPrefix(), Talk(backbone)
    reused, needed, ran = [], [], 0
    for turn in range(3):
        talk.words(4).image().words(3)
        batch, media = talk.batch()
        owed = [[AUDIO, IMAGE]]
        answer = backbone.generate(batch, media, GREEDY, owed, kept=kept)[0]
        assert_same(answer, backbone.generate(batch, media, GREEDY, owed)[0])
        reused.append(kept.reused)
        needed.append(len(talk.ids) - ran)
        written = [token for token in answer.ids if token != 2]
        # What a chat template makes of an answer may differ from what was decoded: here its last token does.
        ran = len(talk.ids) + len(written) - rewrites
        talk.ids += [*written[:-1], 5] if rewrites and turn < 2 else written
    return reused, needed


@pytest.mark.parametrize("family", ["llama", "qwen3", "opt", "glm", "cohere", "gemma2"])
def test_answers_are_those_of_a_fresh_run_and_only_new_positions_run(family: str, build: Build) -> None:
    backbone = build(family)
    counts = positions_run(backbone)
    reused, needed = turns(backbone)
    assert reused[0] == 0 and 0 < reused[1] < reused[2]
    prompts = [count for count in counts if count > 5]  # decoding runs a token or a run at a time
    lengths = prompts[1::2]  # every second pass over a prompt is the fresh one
    for turn, (again, new) in enumerate(zip(reused, needed, strict=True)):
        assert prompts[2 * turn] == lengths[turn] - again == new


def test_a_sliding_window_is_kept_only_where_nothing_has_to_be_taken_back(build: Build) -> None:
    assert turns(build("mistral"))[0] == [0, 0, 0], "what left the window can't be restored"
    reused, _ = turns(build("mistral"), rewrites=False)
    assert 0 < reused[1] < reused[2]


def test_other_media_other_rows_and_half_filled_caches_are_not_reused(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone: Any = build()
    kept, talk = KeptPrefix(), Talk(backbone).words(4).image().words(3).image()
    backbone.generate(*talk.batch(), GREEDY, kept=kept)
    talk.words(5)
    talk.projected[1] = talk.projected[1] + 0.01  # the ids are the same
    (answer,) = backbone.generate(*talk.batch(), GREEDY, kept=kept)
    assert kept.reused == talk.starts[1]
    assert_same(answer, backbone.generate(*talk.batch(), GREEDY)[0])
    with torch.no_grad():
        backbone.rows.media_tags.add_(0.1)
    (answer,) = backbone.generate(*talk.batch(), GREEDY, kept=kept)
    assert kept.reused == 4, "up to the first tag"
    assert_same(answer, backbone.generate(*talk.batch(), GREEDY)[0])

    layer = backbone.llm.base_model.layers[1]
    broken = layer.register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        backbone.generate(*talk.words(2).batch(), GREEDY, kept=kept)
    broken.remove()
    assert_same(backbone.generate(*talk.batch(), GREEDY, kept=kept)[0], backbone.generate(*talk.batch(), GREEDY)[0])
    assert kept.reused == 0


@pytest.mark.parametrize("autocast", [False, True])
def test_half_precision_goes_on_from_what_it_kept(autocast: bool, build: Build) -> None:
    backbone = build(dtype="float32" if autocast else "bfloat16")
    kept, talk = KeptPrefix(), Talk(backbone)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        for _ in range(3):
            known = len(talk.ids)
            talk.words(4).image().words(3)
            owed = [[AUDIO]]
            (answer,) = backbone.generate(*talk.batch(), Sampling(1), owed, kept=kept)
            (fresh,) = backbone.generate(*talk.batch(), Sampling(1), owed)
            assert kept.reused == known and answer.ids == fresh.ids
            for piece, its in zip(answer.pieces, fresh.pieces, strict=True):
                if isinstance(piece, SignalRun) and isinstance(its, SignalRun):
                    torch.testing.assert_close(piece.states, its.states, rtol=0.05, atol=0.1)
            talk.ids += answer.ids


def test_a_prompt_that_is_known_whole_still_runs_its_last_position(build: Build) -> None:
    backbone = build()
    kept, talk = KeptPrefix(), Talk(backbone).words(8)
    first, again = (backbone.generate(*talk.batch(), GREEDY, kept=kept)[0] for _ in range(2))
    assert kept.reused == 7
    assert_same(first, again)


def test_llms_that_can_not_go_on_from_a_prefix_run_the_whole_prompt(build: Build) -> None:
    fused = build(fusion=FusionSettings(["image"], every=1, heads=2, head_width=8))
    with torch.no_grad():
        for gate in fused.parts()["fusion"]:
            gate.add_(0.3)
    reader, stretched = build("t5"), build()
    stretched.config.rope_parameters = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}
    for backbone in (fused, reader, stretched):
        kept, talk = KeptPrefix(), Talk(backbone)
        for _ in range(2):
            talk.words(4).image(0 if backbone is fused else 3).words(2)
            (answer,) = backbone.generate(*talk.batch(), GREEDY, [[AUDIO]], kept=kept)
            assert kept.reused == 0
            assert_same(answer, backbone.generate(*talk.batch(), GREEDY, [[AUDIO]])[0])
            talk.ids += answer.ids
