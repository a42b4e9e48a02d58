"""Batches, recomputed position by position from their plans."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from data.conversations import assistant, make_collator, picture, positions, preprocess, tone, user
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.data.batching.collate import Collator
from isthmus.data.conversations.planning import Planner
from isthmus.data.conversations.schema import Conversation, MediumItem, TextItem
from isthmus.data.errors import DataError, Fault
from isthmus.data.media.files import save_media
from isthmus.data.media.limits import MediaLimits
from isthmus.types import IGNORED, Media, Modality
from isthmus.vocabulary import MEDIA_POSITION, MediaSegment, SignalSegment, TextSegment, Vocabulary

IMAGE, AUDIO = Modality.IMAGE, Modality.AUDIO

items = st.one_of(
    st.sampled_from(["a red seven", " ", "what?"]).map(TextItem),
    st.tuples(st.integers(0, 255), st.integers(1, 4)).map(lambda x: MediumItem(IMAGE, picture(*x), f"image {x}")),
    st.floats(-1, 1, width=16).map(lambda x: MediumItem(AUDIO, tone(x), f"tone {x}")),
)
made = st.one_of(items, st.sampled_from([IMAGE, AUDIO]).map(lambda m: MediumItem(m, None, f"new {m}")))
turns = st.tuples(st.lists(items, min_size=1, max_size=3), st.lists(made, min_size=1, max_size=3))
talks = st.lists(turns, min_size=1, max_size=2).map(
    lambda pairs: Conversation(tuple(m for asked, said in pairs for m in (user(*asked), assistant(*said))))
)


@settings(max_examples=50)
@given(conversations=st.lists(talks, min_size=1, max_size=3), targets=st.sampled_from(["all", "last"]))
def test_batches_are_their_plans_laid_out(planner: Planner, conversations: list[Conversation], targets: Any) -> None:
    vocabulary = planner.vocabulary
    batch = make_collator(planner, targets=targets)(conversations)
    media: dict[Modality, list[tuple[int, int, int, float]]] = {}
    runs: dict[Modality, list[tuple[int, int, str]]] = {}
    contents: list[float] = []
    for row, conversation in enumerate(conversations):
        given_media = [i for m in conversation.messages[::2] for i in m.content if isinstance(i, MediumItem)]
        made_media = [i for m in conversation.messages[1::2] for i in m.content if isinstance(i, MediumItem)]
        ids: list[int] = []
        labels: list[int] = []
        for segment in planner.plan(conversation, targets):
            at = len(ids)
            if isinstance(segment, TextSegment):
                ids += segment.ids
                labels += [i if t else IGNORED for i, t in zip(segment.ids, segment.targets, strict=True)]
            elif isinstance(segment, MediaSegment):
                item = given_media[segment.index]
                assert isinstance(item.media, Media) and item.modality is segment.modality
                length = item.media.array.shape[0] if segment.modality is IMAGE else 3
                begin, end = vocabulary.tags(segment.modality)
                ids += [begin] + [MEDIA_POSITION] * length + [end]
                labels += [IGNORED] * (length + 2)
                media.setdefault(segment.modality, []).append((row, at + 1, length, float(item.media.array.mean())))
            else:
                item = made_media[segment.index]
                run = list(vocabulary.signal_ids(segment.modality))
                ids += run
                labels += ([run[0]] if segment.target else [IGNORED]) + [IGNORED] * (len(run) - 1)
                if segment.target:
                    assert item.caption is not None
                    runs.setdefault(segment.modality, []).append((row, at, item.caption))
                    if segment.modality is IMAGE and isinstance(item.media, Media):
                        contents.append(float(item.media.array.mean()))
        size = len(ids)
        assert batch.ids[row].tolist() == ids + [0] * (batch.ids.shape[1] - size)
        assert batch.labels[row].tolist() == labels + [IGNORED] * (batch.ids.shape[1] - size)
        assert batch.mask[row].tolist() == [True] * size + [False] * (batch.ids.shape[1] - size)
    assert batch.mask.any(dim=0).all(), "no column is all padding"
    assert set(batch.media) == set(media) and set(batch.signals) == set(runs)
    for modality, rows in media.items():
        own = batch.media[modality]
        found = zip(
            own.rows.tolist(), own.starts.tolist(), own.lengths.tolist(), own.inputs["mean"].tolist(), strict=True
        )
        for (row, start, length, mean), expected in zip(found, rows, strict=True):
            assert (row, start, length) == expected[:3] and mean == pytest.approx(expected[3], abs=1e-6)
            assert (batch.ids[row, start : start + length] == MEDIA_POSITION).all()
    assert int((batch.ids == MEDIA_POSITION).sum()) == sum(int(own.lengths.sum()) for own in batch.media.values())
    for modality, wanted in runs.items():
        signals = batch.signals[modality]
        assert list(zip(signals.rows.tolist(), signals.starts.tolist(), signals.captions, strict=True)) == wanted
        assert signals.seeds.dtype == torch.int64 and len(signals.seeds) == len(wanted)
        if modality is IMAGE and contents:
            assert signals.contents["latent"].shape == (len(contents), 2, 2)
            assert signals.contents["latent"][:, 0, 0].tolist() == pytest.approx(contents)
            assert len(signals.content_runs) == len(contents)
            with_file = [c.startswith("image") for c in signals.captions]
            assert signals.content_runs.tolist() == [i for i, is_filed in enumerate(with_file) if is_filed]
        if modality is AUDIO:
            assert signals.contents == {} and len(signals.content_runs) == 0


def drawn(**details: Any) -> Conversation:
    medium = MediumItem(IMAGE, None, "a seven")
    return Conversation((user("draw"), assistant(medium, medium)), details)


def test_seeds_are_given_or_drawn_from_the_name(collator: Collator) -> None:
    def seeds(*conversations: Conversation) -> list[int]:
        return collator(conversations).signals[IMAGE].seeds.tolist()

    assert seeds(drawn(seed=7)) == [7, 8]
    assert seeds(drawn(id="a")) == seeds(drawn(id="a")), "a function of the sample"
    assert seeds(drawn(id="b"), drawn(id="a"))[2:] == seeds(drawn(id="a")), "whatever the batch"
    assert len(set(seeds(drawn(id="a"), drawn(id="b"), drawn()))) == 6
    assert seeds(drawn(seed=2**63 - 1)) == [2**63 - 1, 0]


def test_details_pass_through_untouched(collator: Collator) -> None:
    marker = object()
    batch = collator([drawn(expected=marker), drawn(id=3)])
    assert batch.details[0]["expected"] is marker and batch.details == [{"expected": marker}, {"id": 3}]
    moved = batch.to("cpu")
    assert moved.details is batch.details and torch.equal(moved.ids, batch.ids)
    assert torch.equal(moved.signals[IMAGE].seeds, batch.signals[IMAGE].seeds)


def test_every_tensor_moves(collator: Collator) -> None:
    medium = MediumItem(IMAGE, picture(1), "one")
    batch = collator([Conversation((user(medium), assistant(medium)))]).to("meta")
    media, signals = batch.media[IMAGE], batch.signals[IMAGE]
    tensors = [batch.ids, batch.mask, batch.labels, media.rows, media.starts, media.lengths, *media.inputs.values()]
    tensors += [signals.rows, signals.starts, signals.content_runs, *signals.contents.values()]
    assert {tensor.device.type for tensor in tensors} == {"meta"} and len(tensors) == 12
    assert signals.seeds.device.type == "cpu"  # noise is drawn there


def test_prompts_lose_their_answers_and_targets(planner: Planner) -> None:
    conversation = Conversation((user("one"), assistant("two"), user("three"), assistant("four")))
    batch = make_collator(planner, generation_prompt=True)([conversation])
    expected = planner.plan(Conversation(conversation.messages[:3]), "none", generation_prompt=True)
    assert isinstance(expected[0], TextSegment) and batch.ids[0].tolist() == list(expected[0].ids)
    assert batch.target_count == 0 and batch.signals == {}


def test_files_are_decoded_under_the_collators_limits(planner: Planner, tmp_path: Path) -> None:
    path = save_media(picture(9), tmp_path / "nine.png")
    conversation = Conversation((user(MediumItem(IMAGE, path)), assistant(MediumItem(IMAGE, path, "a nine"))))
    batch = make_collator(planner)([conversation])
    assert batch.media[IMAGE].inputs["mean"].tolist() == [9.0]
    assert batch.signals[IMAGE].contents["latent"].mean() == 9.0
    without = make_collator(planner, prepare={})([conversation])
    assert without.signals[IMAGE].contents == {}
    with pytest.raises(DataError, match=r"nine\.png: found 8 pixels"):
        make_collator(planner, limits=MediaLimits(pixels=7))([conversation])


def fault(collator: Collator, *conversations: Conversation) -> DataError:
    with pytest.raises(DataError) as caught:
        collator(conversations)
    assert "expected" in str(caught.value) or "this model's" in str(caught.value)
    assert "Fix: " in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    ("conversation", "said"),
    [
        (
            Conversation((user(MediumItem(Modality.VIDEO)), assistant("x"))),
            "video as input; this model's inputs are text, image, audio",
        ),
        (
            Conversation((user("x"), assistant(MediumItem(Modality.POINTS)))),
            "points as output; this model's outputs are text, image, audio",
        ),
    ],
    ids=["input", "output"],
)
def test_a_medium_that_no_expert_serves_is_named(collator: Collator, conversation: Conversation, said: str) -> None:
    error = fault(collator, conversation)
    assert error.fault is Fault.UNSERVED and said in str(error)


def test_an_understanding_only_model_takes_no_outputs(planner: Planner) -> None:
    medium = MediumItem(IMAGE, picture(1), "one")
    collator = make_collator(planner, outputs=[], prepare={})
    assert collator([Conversation((user(medium), assistant("one")))]).signals == {}
    assert "this model's outputs are text" in str(fault(collator, Conversation((user(medium), assistant(medium)))))


def test_too_many_tokens_are_an_error_and_never_cut(planner: Planner) -> None:
    conversation = Conversation((user(MediumItem(IMAGE, picture(1, rows=4))), assistant("yes")), {"id": "long"})
    length = make_collator(planner)([conversation]).ids.shape[1]
    assert make_collator(planner, max_length=length)([conversation]).ids.shape[1] == length
    error = fault(make_collator(planner, max_length=length - 1), conversation)
    assert error.fault is Fault.TOO_LONG
    assert f"conversation long: found {length} tokens; expected at most max_length = {length - 1}" in str(error)


def test_a_run_to_train_needs_a_caption(collator: Collator, planner: Planner) -> None:
    conversation = Conversation((user("draw"), assistant(MediumItem(IMAGE, picture(1)))))
    assert "no caption" in str(fault(collator, conversation))
    history = Conversation((*conversation.messages, user("more"), assistant("no")))
    assert make_collator(planner, targets="last")([history]).signals == {}


def test_shapes_that_cannot_be_stacked_are_named(planner: Planner) -> None:
    def ragged(medium: Media) -> dict[str, torch.Tensor]:
        return {"pixels": torch.from_numpy(medium.array), **({"odd": torch.ones(1)} if medium.array[0, 0, 0] else {})}

    collator = make_collator(planner, preprocess={IMAGE: ragged}, positions=lambda *_: 2)

    def ask(value: int, rows: int) -> Conversation:
        return Conversation((user(MediumItem(IMAGE, picture(value, rows))), assistant("x")))

    error = fault(collator, ask(0, 2), ask(0, 3))
    assert error.fault is Fault.SHAPE and "'pixels' of the shapes (2, 4, 3), (3, 4, 3)" in str(error)
    assert "['odd', 'pixels'] and ['pixels']" in str(fault(collator, ask(0, 2), ask(1, 2)))


def test_preprocessing_sees_the_medium_itself(planner: Planner) -> None:
    seen: list[Media] = []

    def watch(medium: Media) -> dict[str, torch.Tensor]:
        seen.append(medium)
        return preprocess(medium)

    media = [picture(1), picture(2)]
    asked = user(*[MediumItem(IMAGE, medium) for medium in media])
    make_collator(planner, preprocess={IMAGE: watch}, positions=positions)([Conversation((asked, assistant("x")))])
    assert seen == media and all(np.array_equal(a.array, b.array) for a, b in zip(seen, media, strict=True))


def test_max_length_is_a_number_above_zero(planner: Planner) -> None:
    with pytest.raises(ValueError, match="max_length: found 0"):
        make_collator(planner, max_length=0)


def test_signal_segments_of_history_take_their_positions(planner: Planner) -> None:
    conversation = Conversation(
        (user("draw"), assistant(MediumItem(IMAGE, None, "a")), user("again"), assistant(MediumItem(IMAGE, None, "b")))
    )
    plan = planner.plan(conversation, "last")
    assert [s.target for s in plan if isinstance(s, SignalSegment)] == [False, True]
    batch = make_collator(planner, targets="last")([conversation])
    first = planner.vocabulary.signal_ids(IMAGE)[0]
    assert int((batch.ids == first).sum()) == 2 and int((batch.labels == first).sum()) == 1
    assert batch.signals[IMAGE].captions == ["b"]


def test_every_token_of_a_run_is_a_target_where_the_vocabulary_says_so(planner: Planner) -> None:
    planner = copy.copy(planner)
    planner.vocabulary = Vocabulary(planner.vocabulary.base_size, {"image": 3}, is_nextgpt_v1=True)
    ids = planner.vocabulary.signal_ids(IMAGE)
    conversation = Conversation((user("draw"), assistant(MediumItem(IMAGE, None, "a"))))
    batch = make_collator(planner)([conversation])
    assert [token for token in batch.labels[0].tolist() if token in ids] == list(ids)
    assert batch.layout is not None and batch.layout.columns.tolist()[:3] == list(ids)
