"""The engine: company that changes nothing, places, clients that leave, time, errors, and its end."""

from __future__ import annotations

import queue
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from isthmus.backbones.base import Sampling
from isthmus.data.conversations.schema import parse_conversation
from isthmus.inference.pipeline import Pipeline
from isthmus.model import Reply
from isthmus.pocket.world import Concept, draw
from isthmus.serving.engine import Busy, Engine, Event, Job, PartialImage
from isthmus.types import Modality

IMAGE, AUDIO = Modality.IMAGE, Modality.AUDIO


class Asked:
    """A job, and what it emitted."""

    def __init__(
        self, pipeline: Pipeline, row: int, owed: Sequence[Modality] = (), tokens: int = 12, **more: Any
    ) -> None:
        seen = draw(IMAGE, Concept(row, "red", "left"), "test", np.random.default_rng(row))
        content = [{"type": "text", "text": "what is it " * (row + 1)}, {"type": "image", "image": seen}]
        turns = {"messages": [{"role": "user", "content": content}]}
        conversation = parse_conversation(turns, "test", captions_required=False)
        sampling = Sampling(tokens, 1.0 if row % 2 else 0.0, seed=row)
        self.events: queue.Queue[Event] = queue.Queue()
        batch = pipeline.model.prompts([conversation], sampling, [owed])
        self.job = Job(
            batch, sampling, self.events.put, **{"seconds": 60.0, "required": owed, "client": f"{row}"} | more
        )

    def end(self) -> Any:
        """The last event; the pieces of text before it are ``said``, partial images ``seen``."""
        self.said = ""
        self.seen: list[PartialImage] = []
        while isinstance(event := self.events.get(timeout=60), str | PartialImage):
            if isinstance(event, str):
                self.said += event
            else:
                self.seen.append(event)
        return event


@pytest.fixture
def engine(opened: Pipeline) -> Iterator[Engine]:
    engine = Engine(opened.model, slots=3, queue=3)
    engine.start()
    yield engine
    engine.stop()


def submit(engine: Engine, asked: Asked) -> Asked:
    engine.reserve(asked.job.client)
    engine.submit(asked.job)
    return asked


def test_a_reply_does_not_depend_on_company(engine: Engine, opened: Pipeline) -> None:
    wanted = [[IMAGE], [], [AUDIO, IMAGE], [], [AUDIO], []]
    alone = [submit(engine, Asked(opened, row, owed)).end() for row, owed in enumerate(wanted)]
    together = [submit(engine, Asked(opened, row, owed)) for row, owed in enumerate(wanted)]
    for asked, one, owed in zip(together, alone, wanted, strict=True):
        other = asked.end()
        assert isinstance(one, Reply) and isinstance(other, Reply)
        assert (one.ids, one.text, one.ended) == (other.ids, other.text, other.ended) and other.text == asked.said
        assert {medium.modality for medium in one.media()} >= set(owed)
        for medium, its in zip(one.media(), other.media(), strict=True):
            assert np.array_equal(medium.array, its.array)
    assert any(reply.text for reply in alone)


def test_media_made_together_agree_to_rounding(opened: Pipeline) -> None:
    engine = Engine(opened.model, slots=3, queue=3, media_batch=3)
    pairs = [[Asked(opened, row, [IMAGE], tokens=1) for row in range(3)] for _ in range(2)]
    for asked in pairs[0]:  # all wait when the thread starts
        engine._waiting.push(asked.job)
        engine._held[asked.job.client] += 1
    engine.start()
    together = [asked.end() for asked in pairs[0]]
    alone = [submit(engine, asked).end() for asked in pairs[1]]
    engine.stop()
    for one, other in zip(together, alone, strict=True):
        (first,), (second,) = one.media(IMAGE), other.media(IMAGE)
        assert np.abs(first.array.astype(int) - second.array.astype(int)).max() <= 2


def test_pictures_are_seen_by_those_who_asked(opened: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(opened.model, slots=3, queue=3, media_batch=3)
    assert opened.model.output_side is not None
    vae: Any = opened.model.output_side.generator(IMAGE).vae
    decode, decoded = vae.decode, []

    def counted(latents: Any, *args: Any, **options: Any) -> Any:
        decoded.append(len(latents))
        return decode(latents, *args, **options)

    monkeypatch.setattr(vae, "decode", counted)
    leaves = Asked(opened, 2, [IMAGE], tokens=1, num_inference_steps=8, partial_images=3)
    leaves.job.on_step = lambda _, done, total: leaves.job.cancel() if done == 3 else None
    wanted = ([IMAGE, IMAGE], 3), ([IMAGE], 0)
    asked = [
        *(
            Asked(opened, row, owed, tokens=1, num_inference_steps=8, partial_images=count)
            for row, (owed, count) in enumerate(wanted)
        ),
        leaves,
    ]
    for own in asked:  # all wait when the thread starts
        engine._waiting.push(own.job)
        engine._held[own.job.client] += 1
    engine.start()
    twice, never, left = (own.end() for own in asked)
    engine.stop()
    assert decoded == [3, 2, 2, 4], "two pictures and one that is given up, after 2, 4 and 6 steps; then all"
    assert [(seen.number, seen.index) for seen in asked[0].seen] == [(n, i) for i in range(3) for n in range(2)]
    assert isinstance(never, Reply) and not asked[1].seen
    assert isinstance(left, TimeoutError) and [seen.index for seen in leaves.seen] == [0]
    for seen in asked[0].seen[-2:]:
        others = [np.abs(seen.medium.array.astype(int) - made.array).mean() for made in twice.media(IMAGE)]
        assert min(others) == others[seen.number], "each is a look at the picture of its number"


def test_a_queue_that_is_full_refuses(opened: Pipeline) -> None:
    engine = Engine(opened.model, slots=1, queue=1)
    with pytest.raises(Busy):
        engine.reserve("")  # it hasn't started
    engine.start()
    engine.reserve("")
    engine.reserve("")
    with pytest.raises(Busy) as busy:
        engine.reserve("")
    assert busy.value.retry_after >= 1
    engine.release("")
    asked = Asked(opened, 0)
    engine.reserve(asked.job.client)
    engine.submit(asked.job)
    assert isinstance(asked.end(), Reply)
    engine.release("")
    engine.stop()
    assert engine.load == {"waiting": 0, "decoding": 0, "media": 0}


def test_a_client_that_leaves_frees_its_slot(opened: Pipeline) -> None:
    engine = Engine(opened.model, slots=1, queue=3)
    engine.start()
    long, waits, after = Asked(opened, 1, tokens=400), Asked(opened, 2), Asked(opened, 0)
    first: queue.Queue[int] = queue.Queue()
    advance = opened.model.advance
    steps = 0

    def counted(answers: Any, slots: int) -> None:
        nonlocal steps
        advance(answers, slots)
        steps += 1
        if steps == 3:
            long.job.cancel()
            waits.job.cancel()
            first.put(answers[0].writer.answer.tokens)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(opened.model, "advance", counted)
        for asked in (long, waits, after):
            submit(engine, asked)
        assert isinstance(after.end(), Reply)
    assert first.get() <= 3 * 24 and isinstance(long.end(), TimeoutError) and isinstance(waits.end(), TimeoutError)
    assert steps <= 3 + 13, "the second one never ran, and the first no further"
    engine.stop()
    assert not engine._held, "every place is free again"


def test_a_medium_that_nobody_waits_for_is_stopped_between_steps(opened: Pipeline) -> None:
    engine = Engine(opened.model, slots=2, queue=3)
    engine.start()
    steps: list[tuple[Modality, int, int]] = []

    def on_step(modality: Modality, done: int, total: int) -> None:
        steps.append((modality, done, total))
        if done == 3:
            left.job.cancel()

    more: dict[str, Any] = {"num_inference_steps": 50, "on_step": on_step}
    left, other = Asked(opened, 0, [IMAGE], tokens=1, **more), Asked(opened, 2, [IMAGE], tokens=1)
    submit(engine, left)
    submit(engine, other)
    assert isinstance(left.end(), TimeoutError) and isinstance(other.end(), Reply)
    assert steps == [(IMAGE, done, 50) for done in (1, 2, 3)]
    engine.stop()
    assert not engine._held, "every place is free again"


def test_tokens_go_on_between_denoising_steps(opened: Pipeline) -> None:
    engine = Engine(opened.model, slots=2, queue=3)
    said: list[int] = []
    pieces: list[Event] = []
    drawn = Asked(opened, 0, [IMAGE], tokens=1, num_inference_steps=30)
    talks = Asked(opened, 1, tokens=20, allowed=[])
    drawn.job.on_step = lambda *_: said.append(len(pieces))
    talks.job.emit = lambda event: (pieces.append(event), talks.events.put(event))[0]
    alone = Asked(opened, 1, tokens=20, allowed=[])
    engine.start()
    submit(engine, alone)
    expected = alone.end()
    submit(engine, drawn)
    submit(engine, talks)
    reply = talks.end()
    assert isinstance(drawn.end(), Reply) and reply.ids == expected.ids
    assert isinstance(pieces[-1], Reply) and said[-1] == len(pieces), "the text ended before the picture"
    assert len(set(said)) > 3, "text came while the picture was made"
    engine.stop()


def test_clients_take_turns(opened: Pipeline) -> None:
    engine = Engine(opened.model, slots=1, queue=20)
    order: list[str] = []
    for client in ["greedy"] * 4 + ["modest", "late"]:
        asked = Asked(opened, 0, tokens=1, client=client)
        asked.job.emit = lambda event, client=client: order.append(client) if isinstance(event, Reply) else None
        engine._waiting.push(asked.job)  # all wait when the thread starts
        engine._held[asked.job.client] += 1
    engine.start()
    engine.stop()
    assert order == ["greedy", "modest", "late", "greedy", "greedy", "greedy"]


def test_one_client_leaves_places_for_others(opened: Pipeline) -> None:
    engine = Engine(opened.model, slots=2, queue=10)
    engine.start()
    held = {client: 0 for client in ("greedy", "second", "third")}
    for client in held:
        with pytest.raises(Busy):
            while True:
                engine.reserve(client)
                held[client] += 1
    assert held == {"greedy": 10, "second": 2, "third": 0}, held
    for client, count in held.items():
        for _ in range(count):
            engine.release(client)
    assert not engine._held
    engine.stop()


def test_a_late_answer_ends(engine: Engine, opened: Pipeline) -> None:
    late, other = Asked(opened, 1, seconds=0.0), Asked(opened, 0)
    submit(engine, late)
    submit(engine, other)
    error = late.end()
    assert isinstance(error, TimeoutError) and "after 0 s" in str(error)
    assert isinstance(other.end(), Reply)


def test_one_jobs_error_is_its_own(engine: Engine, opened: Pipeline) -> None:
    wrong, right = Asked(opened, 1, required=[Modality.POINTS]), Asked(opened, 0)
    submit(engine, wrong)
    submit(engine, right)
    error = wrong.end()
    assert isinstance(error, ValueError) and "points is required, but this model makes" in str(error)
    assert isinstance(right.end(), Reply) and engine.is_ready


def test_a_fault_of_the_engine_ends_all_jobs(opened: Pipeline) -> None:
    class Faulty(Engine):
        def _make_media(self) -> None:
            raise LookupError("a fault")

    engine = Faulty(opened.model, slots=1, queue=3)
    engine.start()
    *jobs, late = (Asked(opened, row) for row in range(3))
    for asked in (*jobs, late):
        engine.reserve(asked.job.client)
    for asked in jobs:
        engine.submit(asked.job)
    assert all(isinstance(asked.end(), RuntimeError) for asked in jobs)
    engine.submit(late.job)  # its place was reserved before
    assert isinstance(late.end(), RuntimeError) and not engine.is_ready
    with pytest.raises(Busy):
        engine.reserve("another")


def test_the_end_answers_what_is_there(opened: Pipeline) -> None:
    engine = Engine(opened.model, slots=1, queue=3)
    engine.start()
    asked = [submit(engine, Asked(opened, row, [IMAGE])) for row in range(3)]
    engine.stop()
    assert all(isinstance(own.end(), Reply) for own in asked) and not engine.is_ready
    with pytest.raises(Busy):
        engine.reserve("")
