"""The layout of a batch, found again position by position, and what it refuses."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from data.conversations import assistant, byte_level, make_collator, picture, tone, user
from hypothesis import given
from hypothesis import strategies as st

from isthmus.batch_layout import layout_of
from isthmus.data.batching.pairs import Pair, PairCollator
from isthmus.data.batching.prompts import PromptCollator
from isthmus.data.conversations.planning import Planner
from isthmus.data.conversations.schema import Conversation, MediumItem, TextItem
from isthmus.types import IGNORED, Batch, Modality
from isthmus.vocabulary import MEDIA_POSITION, Vocabulary

IMAGE, AUDIO = Modality.IMAGE, Modality.AUDIO
TOKENIZER = byte_level()
PLANNER = Planner(TOKENIZER, Vocabulary(len(TOKENIZER)))

told = st.one_of(
    st.sampled_from(["a red seven", "what?"]).map(TextItem),
    st.integers(1, 4).map(lambda rows: MediumItem(IMAGE, picture(rows, rows), "an image")),
    st.just(MediumItem(AUDIO, tone(), "a tone")),
)
turns = st.tuples(st.lists(told, min_size=1, max_size=3), st.lists(told, min_size=1, max_size=3))
talks = st.lists(turns, min_size=1, max_size=2).map(
    lambda pairs: Conversation(tuple(m for asked, said in pairs for m in (user(*asked), assistant(*said))))
)


@given(conversations=st.lists(talks, min_size=1, max_size=3), targets=st.sampled_from(["all", "last"]))
def test_everything_stands_where_the_batch_has_it(conversations: list[Conversation], targets: str) -> None:
    batch = make_collator(PLANNER, targets=targets)(conversations)
    layout, words = batch.layout, PLANNER.vocabulary
    assert layout is not None and layout.length == batch.ids.shape[1]
    length, ids, labels = layout.length, batch.ids.flatten().tolist(), batch.labels.flatten().tolist()
    rows = batch.ids.tolist()

    def first(row: list[int], *kinds: range) -> int:
        return next((at for at, token in enumerate(row) if any(token in kind for kind in kinds)), length)

    tags = range(words.base_size, words.base_size + words.tag_rows)
    signals, media = range(tags.stop, words.size), range(MEDIA_POSITION, MEDIA_POSITION + 1)
    assert layout.lengths == [sum(own) for own in batch.mask.tolist()] and batch.position_count == sum(layout.lengths)
    assert layout.firsts(True, False, False) == [first(row, media) for row in rows]
    assert layout.firsts(False, True, True) == [first(row, tags, signals) for row in rows]
    assert layout.firsts(False, False, False) == [length] * len(rows)
    assert layout.new.tolist() == [at for at, token in enumerate(ids) if token >= words.base_size]
    assert (layout.new_rows + words.base_size).tolist() == [ids[at] for at in layout.new]
    assert layout.targets.tolist() == [at for at, label in enumerate(labels) if label != IGNORED]
    assert layout.target_counts == [sum(label != IGNORED for label in own) for own in batch.labels.tolist()]
    assert batch.target_count == len(layout.targets)
    order = list(words.starts())
    assert layout.columns.tolist() == [
        label if label < words.base_size else words.base_size + order.index(label)
        for label in (labels[at] for at in layout.targets)
    ]
    for modality, own in batch.media.items():
        places = layout.media[modality]
        assert (places.rows, places.starts, places.lengths) == tuple(
            each.tolist() for each in (own.rows, own.starts, own.lengths)
        )
        expected = [
            (row * length + start + rank, at, rank)
            for at, (row, start, count) in enumerate(zip(places.rows, places.starts, places.lengths, strict=True))
            for rank in range(count)
        ]
        found = zip(places.positions.tolist(), places.media.tolist(), places.ranks.tolist(), strict=True)
        assert list(found) == expected
    for modality, runs in batch.signals.items():
        held = layout.runs[modality]
        assert all([ids[at] for at in own] == list(words.signal_ids(modality)) for own in held.positions.tolist())
        assert held.rows == runs.rows.tolist() and held.contents == runs.content_runs.tolist() and held.answered
    inside = {
        row * length + at
        for row, start, count in zip(layout.answers.rows, layout.answers.starts, layout.answers.lengths, strict=True)
        for at in range(start, start + count)
    }
    trained = {at for own in layout.runs.values() for at in own.positions.flatten().tolist()}
    assert inside == set(layout.targets.tolist()) | trained


def talk(text: str) -> Conversation:
    return Conversation((user("what?", MediumItem(IMAGE, picture(1), "one")), assistant(text)))


def test_every_collator_lays_out_all_its_parts() -> None:
    arguments = vars(make_collator(PLANNER)) | {"micro_batches": 2, "max_length": 512}
    pairs = PairCollator(**arguments)
    batch = pairs([Pair(talk(text).messages, {}, talk("no").messages[-1]) for text in ("yes", "well")])
    prompts = PromptCollator(**arguments | {"generation_prompt": True})
    prompts.instruction = make_collator(PLANNER)
    asked = prompts([Conversation(talk("").messages[:1]), talk("yes"), talk("well")])
    assert asked.mixed is not None and len(asked.mixed.pieces) == len(batch.pieces) == 2
    for part in (*batch.pieces, asked, *asked.mixed.pieces):
        assert part.layout is not None and len(part.layout.lengths) == len(part)
        assert part.layout.lengths == part.mask.sum(1).tolist()
    nobody = prompts([talk("yes")])
    assert len(nobody) == 0 and nobody.layout is not None and nobody.layout.lengths == []


def laid_out(batch: Batch) -> None:
    layout_of(replace(batch, layout=None), PLANNER.vocabulary)


@given(conversations=st.lists(talks, min_size=1, max_size=4))
def test_rows_that_begin_alike_are_neighbours(conversations: list[Conversation]) -> None:
    """A medium is like itself alone, wherever in the batch it stands."""
    batch = make_collator(PLANNER)([*conversations, conversations[0]])
    assert batch.layout is not None
    of: dict[tuple[int, int], object] = {}
    for modality, media in batch.media.items():
        index = range(len(media.rows)) if media.index is None else media.index.tolist()
        for which, row, start, length in zip(
            index, *(t.tolist() for t in (media.rows, media.starts, media.lengths)), strict=True
        ):
            of |= {(row, start + rank): (modality, which, rank) for rank in range(length)}
    rows = [
        [of.get((row, place), token) for place, token in enumerate(ids[:length])]
        for row, (ids, length) in enumerate(zip(batch.ids.tolist(), batch.layout.lengths, strict=True))
    ]
    order, common = batch.layout.beginnings.order, batch.layout.beginnings.common
    assert sorted(order) == list(range(len(rows))) and common[0] == 0
    # Two rows have in common what all between them share with their neighbours, and no more.
    for first in range(len(rows)):
        for last in range(first + 1, len(rows)):
            one, other = rows[order[first]], rows[order[last]]
            same = next(
                (at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
            )
            assert same == min(common[first + 1 : last + 1])


def test_a_layout_moves_with_its_batch() -> None:
    batch = make_collator(PLANNER)([talk("yes")])
    moved = batch.to("meta")
    assert batch.layout is not None and moved.layout is not None
    assert moved.layout.targets.is_meta and moved.layout.media[IMAGE].positions.is_meta
    assert moved.layout.lengths == batch.layout.lengths and moved.target_count == batch.target_count
    pinned = batch.pin_memory()
    assert torch.equal(pinned.ids, batch.ids) and pinned.layout is not None
    assert torch.equal(pinned.layout.targets, batch.layout.targets)


def test_what_contradicts_itself_is_refused() -> None:
    batch = make_collator(PLANNER)([talk("yes")])
    ids = batch.ids.clone()
    ids[0, 0] = MEDIA_POSITION
    with pytest.raises(ValueError, match="found 3 media positions for 2 projected rows, 0 of them out of place"):
        laid_out(replace(batch, ids=ids))
    own = batch.media[IMAGE]
    with pytest.raises(ValueError, match="found 2 media positions for 2 projected rows, 1 of them out of place"):
        laid_out(replace(batch, media={IMAGE: replace(own, starts=own.starts + 1)}))
    with pytest.raises(ValueError, match="1 ids outside the vocabulary"):
        laid_out(replace(batch, ids=batch.ids.where(batch.ids != ids[0, 1], PLANNER.vocabulary.size)))
    laid_out(batch)
