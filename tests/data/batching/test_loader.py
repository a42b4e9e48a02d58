"""The loader: what it hands over, resumes, skips and reports, in this process and through workers."""

from __future__ import annotations

import logging
from itertools import islice
from typing import Any

import pytest
import torch
from data.conversations import Numbers, make_collator

from isthmus.data.batching.collate import Collator
from isthmus.data.batching.loader import ConversationLoader
from isthmus.data.conversations.sources import ConversationSource
from isthmus.data.errors import DataError, Fault
from isthmus.data.sampling.dealing import Load
from isthmus.data.sampling.grouping import Grouping
from isthmus.data.sampling.mixture import Mixture
from isthmus.data.sampling.schedule import InOrder
from isthmus.types import Batch, Modality


def sources(**bad: tuple[int, ...]) -> dict[str, ConversationSource]:
    return {"a": Numbers("a", 10, bad.get("a", ())), "b": Numbers("b", 7, bad.get("b", ()))}


def stage(steps: int = 8, batch_size: int = 4, **changes: Any) -> Mixture:
    return Mixture("one", {"a": 10, "b": 7}, {"a": 1.0, "b": 1.0}, batch_size, steps, **changes)


def seen(batches: list[Batch]) -> list[list[tuple[str, int, int]]]:
    return [
        [
            (details["source"], details["index"], seed)
            for details, seed in zip(batch.details, batch.signals[Modality.IMAGE].seeds.tolist(), strict=True)
        ]
        for batch in batches
    ]


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_follow_the_schedule(collator: Collator, workers: int) -> None:
    loader = ConversationLoader(stage(), sources(), collator, workers)
    batches = list(loader)
    assert len(batches) == len(loader) == 8
    for step, batch in enumerate(batches):
        references = stage().batch(step)
        assert [(d["source"], d["index"]) for d in batch.details] == [(r.source, r.index) for r in references]
        assert batch.signals[Modality.IMAGE].seeds.tolist() == [r.seed for r in references]
        assert [d["id"] for d in batch.details] == [f"{r.source}/{r.index}" for r in references]
        assert not any("repeated" in d for d in batch.details)
        conversations = [sources()[r.source][r.index] for r in references]
        assert torch.equal(batch.ids, collator(conversations).ids)


def test_balanced_ranks_share_the_same_global_batches(collator: Collator) -> None:
    class Lengths(Numbers):
        def load(self, index: int) -> Load:
            if index in self.bad:
                raise DataError(Fault.CORRUPT, "bad")
            return {"positions": float(10 ** (index % 3))}

    own = {"a": Lengths("a", 10, (2,)), "b": Lengths("b", 7)}
    ranks = [
        ConversationLoader(stage(), own, collator, rank=rank, world=2, on_error="skip", balanced=True)
        for rank in range(2)
    ]
    for step, (one, other) in enumerate(zip(*ranks, strict=True)):
        assert len(one) == len(other) == 2
        replaced = [own["a"].bad[0] + 1 if (r.source, r.index) == ("a", 2) else r.index for r in stage().batch(step)]
        expected = sorted(zip([r.source for r in stage().batch(step)], replaced, strict=True))
        assert sorted((d["source"], d["index"]) for d in one.details + other.details) == expected


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("consumed", [0, 1, 5])
def test_state_counts_what_was_handed_over(collator: Collator, workers: int, consumed: int) -> None:
    whole = seen(list(ConversationLoader(stage(), sources(), collator)))
    first = ConversationLoader(stage(), sources(), collator, workers)
    iterator = iter(first)
    head = seen(list(islice(iterator, consumed)))
    state = first.state_dict()
    del iterator
    assert state["consumed"] == consumed
    second = ConversationLoader(stage(), sources(), collator, workers)
    second.load_state_dict(state)
    assert second.state_dict()["consumed"] == consumed and len(second) == 8
    iter(second)  # as Lightning may, before it takes the iterator that it uses
    assert head + seen(list(second)) == whole
    assert seen(list(second)) == whole, "the next epoch is a whole one"


def test_a_finished_stage_begins_anew(collator: Collator) -> None:
    loader = ConversationLoader(stage(), sources(), collator)
    whole = seen(list(loader))
    other = ConversationLoader(stage(steps=3), sources(), collator)
    other.load_state_dict(loader.state_dict())
    assert seen(list(other)) == whole[:3]


def test_a_state_of_other_data_is_refused(collator: Collator) -> None:
    loader = ConversationLoader(stage(), sources(), collator)
    next(iter(loader))
    for other in (stage(steps=9), stage(batch_size=5), stage(seed=1)):
        with pytest.raises(ValueError, match=r"checkpoint: found the data of one: .* Fix: "):
            ConversationLoader(other, sources(), collator).load_state_dict(loader.state_dict())


@pytest.mark.parametrize("workers", [0, 1])
def test_the_global_generator_is_left_alone(collator: Collator, workers: int) -> None:
    before = torch.get_rng_state()
    list(islice(ConversationLoader(stage(), sources(), collator, workers), 2))
    assert torch.equal(before, torch.get_rng_state())


def test_ranks_together_are_one_process(collator: Collator) -> None:
    whole = seen(list(ConversationLoader(stage(batch_size=5), sources(), collator)))
    parts = [
        seen(list(ConversationLoader(stage(batch_size=5), sources(), collator, rank=rank, world=2))) for rank in (0, 1)
    ]
    for batch, zero, one in zip(whole, *parts, strict=True):
        assert batch[::2] == zero and batch[1::2] == one
    with pytest.raises(ValueError, match="found 4 for 5 processes"):
        ConversationLoader(stage(), sources(), collator, world=5)


def test_every_process_has_a_batch_at_the_end_of_a_split(collator: Collator) -> None:
    schedule = InOrder("test", {"a": 10, "b": 7}, 4)  # the last batch has one item
    loaders = [ConversationLoader(schedule, sources(), collator, rank=rank, world=3) for rank in range(3)]
    details = [[d for batch in loader for d in batch.details] for loader in loaders]
    assert [len(list(loader)) for loader in loaders] == [5, 5, 5]
    counted = [(d["source"], d["index"]) for own in details for d in own if not d.get("repeated")]
    assert sorted(counted) == [("a", i) for i in range(10)] + [("b", i) for i in range(7)]
    assert sum(d.get("repeated", False) for own in details for d in own) == 2


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bad_sample_ends_the_run_by_default(collator: Collator, workers: int) -> None:
    loader = ConversationLoader(stage(), sources(a=(3,)), collator, workers)
    with pytest.raises(DataError, match=r"^a/3: conversation a/3: messages\[1\].role: found 'robot'") as caught:
        list(loader)
    assert caught.value.fault is Fault.SCHEMA


@pytest.mark.parametrize("workers", [0, 2])
def test_bad_samples_are_replaced_counted_and_reported(
    collator: Collator, workers: int, caplog: pytest.LogCaptureFixture
) -> None:
    loader = ConversationLoader(stage(10), sources(a=(3, 4), b=(6,)), collator, workers, on_error="skip")
    whole = ConversationLoader(stage(10), sources(), collator)
    with caplog.at_level(logging.WARNING):
        batches, expected = list(loader), list(whole)
    skipped = 0
    for batch, full in zip(batches, expected, strict=True):
        for details, wanted in zip(batch.details, full.details, strict=True):
            index = wanted["index"]
            bad = {"a": {3: 5, 4: 5}, "b": {6: 0}}[wanted["source"]]
            assert details["index"] == bad.get(index, index) and details["source"] == wanted["source"]
            assert details.get("repeated", False) == (index in bad)
            skipped += {("a", 3): 2, ("a", 4): 1, ("b", 6): 1}.get((wanted["source"], index), 0)
    assert loader.skipped == {"schema": skipped} and skipped > 3
    [record] = caplog.records
    assert f"one, rank 0: skipped {skipped} bad samples: {skipped} schema (first: " in record.getMessage()


def test_in_batches_by_modality_a_bad_sample_is_replaced_by_its_like(collator: Collator) -> None:
    labels = {"a": ["text", "image"] * 5}
    schedule = Mixture("one", {"a": 10}, {"a": 1.0}, 5, 4, grouping=Grouping("homogeneous", labels))
    loader = ConversationLoader(schedule, {"a": Numbers("a", 10, bad=(3, 4, 5))}, collator, on_error="skip")
    for step, batch in enumerate(loader):
        wanted = [reference.index for reference in schedule.batch(step)]
        assert [d["index"] for d in batch.details] == [{3: 7, 4: 6, 5: 7}.get(index, index) for index in wanted]
    assert loader.skipped.total() == 2 * 4


def test_counts_survive_a_resume(collator: Collator) -> None:
    def make() -> ConversationLoader:
        return ConversationLoader(stage(10), sources(a=(3, 4)), collator, on_error="skip")

    whole, first, second = make(), make(), make()
    list(whole)
    list(islice(first, 6))
    second.load_state_dict(first.state_dict())
    list(second)
    assert second.skipped == whole.skipped and first.skipped != whole.skipped


def test_a_source_of_bad_samples_ends_the_run(collator: Collator) -> None:
    loader = ConversationLoader(stage(), sources(b=tuple(range(7))), collator, on_error="skip")
    with pytest.raises(DataError, match="source 'b': found 7 bad samples in a row"):
        list(loader)


def test_over_long_samples_are_skipped_by_that_name(planner: Any) -> None:
    class Talkative(Numbers):
        def __getitem__(self, index: int) -> Any:
            conversation = super().__getitem__(index)
            if index != 2:
                return conversation
            return type(conversation)(conversation.messages * 9, conversation.details)

    loader = ConversationLoader(
        Mixture("one", {"a": 5}, {"a": 1.0}, 5, 2),
        {"a": Talkative("a", 5)},
        make_collator(planner, max_length=100),
        on_error="skip",
    )
    assert sorted(d["index"] for d in next(iter(loader)).details) == [0, 1, 3, 3, 4]
    assert loader.skipped == {"too long": 1}


def test_errors_of_preprocessing_are_skipped_too(planner: Any) -> None:
    def refuse(medium: Any) -> Any:
        if medium.array.mean() == 2:
            raise ValueError("too two")
        return {"mean": torch.zeros(())}

    collator = make_collator(planner, preprocess={Modality.IMAGE: refuse}, positions=lambda *_: 1)
    loader = ConversationLoader(Mixture("one", {"a": 5}, {"a": 1.0}, 5, 1), {"a": Numbers("a", 5)}, collator)
    with pytest.raises(DataError, match=r"a/2: .*ValueError \(too two\)"):
        list(loader)


def test_workers_use_one_thread(planner: Any) -> None:
    def count(medium: Any) -> dict[str, torch.Tensor]:
        return {"threads": torch.tensor(torch.get_num_threads())}

    collator = make_collator(planner, preprocess={Modality.IMAGE: count}, positions=lambda *_: 1)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        batch = next(iter(ConversationLoader(stage(), sources(), collator, num_workers=1)))
    finally:
        torch.set_num_threads(before)
    assert batch.media[Modality.IMAGE].inputs["threads"].tolist() == [1] * 4
