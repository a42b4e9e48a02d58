"""Nothing is lost or repeated: over ranks, workers and shards, and where a run is killed in the middle of an epoch."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from data.conversations import Numbers
from data.streaming.shard_sets import sharded
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.data.batching.collate import Collator
from isthmus.data.batching.fetch import Steps
from isthmus.data.batching.loader import ConversationLoader
from isthmus.data.conversations.sources import ConversationSource, JsonLines
from isthmus.data.sampling.grouping import Grouping
from isthmus.data.sampling.mixture import Mixture
from isthmus.data.streaming import Shards

SIZE, BATCH = 60, 4
FORK = multiprocessing.get_context("fork")


class Words(Numbers):
    """Every third conversation is of text alone, so that there is something to group."""

    def __getitem__(self, index: int) -> Any:
        conversation = super().__getitem__(index)
        if index % 3:
            return conversation
        messages = tuple(
            type(m)(m.role, tuple(i for i in m.content if hasattr(i, "text"))) for m in conversation.messages
        )
        return type(conversation)(messages, conversation.details)


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ConversationSource]:
    folder = tmp_path_factory.mktemp("sets")
    words = [
        {"messages": [{"role": r, "content": f"{r} {i}"} for r in ("user", "assistant")], "index": i}
        for i in range(SIZE)
    ]
    (folder / "lines.jsonl").write_text("".join(json.dumps(one) + "\n" for one in words), encoding="utf-8")
    near = Shards(sharded(Words("near", SIZE), f"{folder}/near", 12_000), window=2, copies=folder / "copies", keep=4)
    far = Shards(sharded(Words("far", SIZE), f"{folder}/far", 12_000))
    assert len(near.manifest.shards) > 6
    return {"files": JsonLines(folder / "lines.jsonl"), "shards": far, "windows": near}


def stage(sets: dict[str, ConversationSource], names: list[str], kind: Any = None) -> Mixture:
    sizes = {name: SIZE for name in names}
    grouping = None if kind is None else Grouping(kind, {name: sets[name].labels() for name in names})
    near = {name: sets[name].chunks for name in names}
    return Mixture("one", sizes, dict.fromkeys(names, 1.0), BATCH, epochs=1, seed=5, chunks=near, grouping=grouping)


def go(
    schedule: Mixture, sets: Any, collator: Collator, rank: int, world: int, folder: Path, state: Any, gate: Any
) -> None:
    """One process: notes what each step held, and every third step how to go on, as a trainer's checkpoint does."""
    loader = ConversationLoader(schedule, sets, collator, 1, rank, world)
    step = 0
    if state is not None:
        loader.load_state_dict(state)
        step = state["consumed"]
    with (folder / f"{rank}.log").open("a", encoding="utf-8") as diary:
        for batch in loader:
            gate.wait(60)  # as gradients do
            step += 1
            told = [(details["source"], details["index"]) for details in batch.details]
            print(json.dumps([step, told]), file=diary, flush=True)
            if rank == 0 and step % 3 == 0:
                part = folder / "part"
                part.write_text(json.dumps(loader.state_dict()), encoding="utf-8")
                os.replace(part, folder / "state.json")


def run(schedule: Mixture, sets: Any, collator: Collator, world: int, folder: Path, kill_at: int | None = None) -> None:
    folder.mkdir(exist_ok=True)
    saved = folder / "state.json"
    state = json.loads(saved.read_text(encoding="utf-8")) if saved.exists() else None
    gate = FORK.Barrier(world)
    ranks = [
        FORK.Process(target=go, args=(schedule, sets, collator, rank, world, folder, state, gate))
        for rank in range(world)
    ]
    for process in ranks:
        process.start()
    try:
        until = time.monotonic() + 60
        while kill_at is not None and time.monotonic() < until:
            if saved.exists() and (folder / "0.log").read_text(encoding="utf-8").count("\n") >= kill_at:
                break
            time.sleep(0.002)
        if kill_at is None:
            for process in ranks:
                process.join(60)
                assert process.exitcode == 0
    finally:
        for process in ranks:
            if process.pid is not None and process.is_alive():
                os.kill(process.pid, signal.SIGKILL)
            process.join()


def seen(folder: Path, upto: float = float("inf"), after: int = 0) -> Counter[Any]:
    """What each step held in all ranks together."""
    found = Counter[Any]()
    for diary in folder.glob("*.log"):
        for line in diary.read_text(encoding="utf-8").splitlines():
            step, told = json.loads(line)
            if after < step <= upto:
                found.update((step, source, index) for source, index in told)
    return found


@pytest.mark.parametrize(
    ("names", "world", "after"),
    [
        *((names, *worlds) for names in (["files"], ["windows"]) for worlds in ((1, 1), (2, 2), (1, 2), (2, 1))),
        (["shards"], 1, 2),
        (["files", "windows"], 2, 1),
    ],
    ids=str,
)
def test_killed_and_resumed_is_unbroken(
    sets: dict[str, ConversationSource], names: list[str], world: int, after: int, collator: Collator, tmp_path: Path
) -> None:
    """With as many processes as before, or more, or fewer: the order doesn't depend on their number."""
    schedule = stage(sets, names)
    whole = Counter((step + 1, r.source, r.index) for step in range(len(schedule)) for r in schedule.batch(step))
    assert sorted(Counter((source, index) for _, source, index in whole).values()) == [1] * SIZE * len(names)
    run(schedule, sets, collator, world, tmp_path / "run", kill_at=4)
    state = json.loads((tmp_path / "run" / "state.json").read_text(encoding="utf-8"))
    assert 3 <= state["consumed"] < len(schedule)
    first = seen(tmp_path / "run", upto=state["consumed"])
    for diary in (tmp_path / "run").glob("*.log"):
        diary.unlink()
    run(schedule, sets, collator, after, tmp_path / "run")
    assert first + seen(tmp_path / "run") == whole
    assert min(step for step, _, _ in seen(tmp_path / "run")) == state["consumed"] + 1


@pytest.mark.parametrize("kind", ["balanced", "homogeneous"])
def test_grouped_batches_resume_too(sets: dict[str, ConversationSource], kind: str, collator: Collator) -> None:
    schedule = stage(sets, ["shards", "windows"], kind)
    first = ConversationLoader(schedule, sets, collator)
    batches = iter(first)
    head = [[d["index"] for d in next(batches).details] for _ in range(7)]
    second = ConversationLoader(schedule, sets, collator)
    second.load_state_dict(first.state_dict())
    found = head + [[d["index"] for d in batch.details] for batch in second]
    assert found == [[r.index for r in schedule.batch(step)] for step in range(len(schedule))]
    if kind == "homogeneous":
        assert all(len({index % 3 == 0 for index in batch}) == 1 for batch in found)
    else:
        assert all(sum(index % 3 == 0 for index in batch) == BATCH / 2 for batch in found)


def test_a_set_converted_otherwise_is_refused(
    sets: dict[str, ConversationSource], collator: Collator, tmp_path: Path
) -> None:
    """Its windows are others, so that another order would follow."""
    loader = ConversationLoader(stage(sets, ["windows"]), sets, collator)
    next(iter(loader))
    other = {"windows": Shards(sharded(Words("near", SIZE), f"{tmp_path}/near", 60_000), window=2)}
    with pytest.raises(ValueError, match=r"windows in windows of 2 of \d+ stretches.* Fix: resume with the sources"):
        ConversationLoader(stage(other, ["windows"]), other, collator).load_state_dict(loader.state_dict())


@settings(max_examples=15)
@given(
    size=st.integers(1, 40),
    largest=st.integers(1, 30_000),
    window=st.sampled_from([None, 1, 2, 5]),
    batch=st.integers(1, 9),
    world=st.integers(1, 4),
    workers=st.integers(1, 3),
    seed=st.integers(0, 9),
)
def test_no_sample_is_lost_or_repeated(
    collator: Collator, size: int, largest: int, window: int | None, batch: int, world: int, workers: int, seed: int
) -> None:
    address = f"memory://lost/{size}-{largest}"
    source = Shards(sharded(Words("a", size), address, largest), window)  # a set that is there stays as it is
    batch = max(batch, world)
    schedule = Mixture("one", {"a": size}, {"a": 1.0}, batch, epochs=2, seed=seed, chunks={"a": source.chunks})
    drawn: dict[int, list[int]] = {}
    for rank in range(world):
        steps = Steps(schedule, {"a": source}, collator, rank, world, "raise")
        for worker in range(workers):
            for step in range(worker, len(schedule), workers):
                fetched = steps[step].batch
                assert fetched is not None
                drawn.setdefault(step, []).extend(details["index"] for details in fetched.details)
    assert all(len(drawn[step]) == batch for step in range(len(schedule)))
    counts = Counter(index for step in range(len(schedule)) for index in drawn[step])
    items = len(schedule) * batch
    assert counts.total() == items and set(counts) == set(range(size))
    assert max(counts.values()) - min(counts.values()) <= 1, "none comes again before all have come"
    if 2 * size % batch == 0:
        assert set(counts.values()) == {2}
