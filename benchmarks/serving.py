"""The server under 32 clients: against one at a time, against transformers' batched ``generate``, and its memory."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import yaml

from benchmarks.load import Load, loaded, resident
from benchmarks.measuring import now, ratio
from benchmarks.report import report
from isthmus.backbones import CausalBackbone
from isthmus.backbones.base import Sampling
from isthmus.data.conversations.schema import parse_conversation
from isthmus.inference.pipeline import Pipeline
from isthmus.model import AnyToAny, Backbone
from isthmus.model.bundle import compose

CLIENTS, TOKENS = 32, 48
KEPT = 32
"""MiB that the server under a long load may keep for later prompts."""
SMOLLM = Path("checkpoints/published/smollm2-135m-instruct")
POCKET = Path("configs/experts/pocket.yaml")
THINGS = ("a river", "the moon", "bread", "a violin", "rain", "a bridge", "salt", "a lighthouse")


def smollm() -> Pipeline:
    """SmolLM2-135M-Instruct in bfloat16, without media."""
    model = AnyToAny(Backbone(CausalBackbone(SMOLLM, dtype="bfloat16", chat_template="chatml")))
    model.configure_model()
    return Pipeline(model)


def pocket() -> Pipeline:
    """The embedded experts with untrained bridges, whose cost is that of trained ones."""
    model = compose(AnyToAny, yaml.safe_load(POCKET.read_text(encoding="utf-8"))["model"], POCKET)
    model.configure_model()
    return Pipeline(model)


MODELS: dict[str, Callable[[], Pipeline]] = {"SmolLM2-135M, bfloat16": smollm, "pocket": pocket}


def question(number: int) -> str:
    """Different ones, whose beginnings differ too: nothing is reused."""
    return f"{number}: What is {THINGS[number % len(THINGS)]}? Tell me in a few sentences."


def body(number: int) -> dict[str, Any]:
    """A request for words."""
    turns = [{"role": "user", "content": question(number)}]
    return {"model": "isthmus", "messages": turns, "max_tokens": TOKENS, "modalities": ["text"]}


def second_turn(number: int) -> dict[str, Any]:
    """A request after another one, of a conversation that begins with a long text: even numbers begin, odd go on."""
    long = f"{number // 2}: " + " ".join(f"{THINGS[at % len(THINGS)]} is not {THINGS[at * 3 % 7]}," for at in range(80))
    turns = [{"role": "user", "content": long}]
    if number % 2:
        turns += [{"role": "assistant", "content": "I see."}, {"role": "user", "content": "What is it not?"}]
    return {"model": "isthmus", "messages": turns, "max_tokens": 2, "modalities": ["text"]}


def _serve(name: str, slots: int, kept: int, threads: int, told: Connection) -> None:
    """A server's process; tells its port."""
    import uvicorn

    from isthmus.serving.app import create_app
    from isthmus.serving.limits import ServingLimits
    from isthmus.serving.server import configured

    torch.set_num_threads(threads)

    class Telling(uvicorn.Server):
        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            told.send(self.servers[0].sockets[0].getsockname()[1])

    limits = ServingLimits(slots=slots, kept=kept)
    Telling(configured(create_app(MODELS[name](), "isthmus", limits), "127.0.0.1", 0)).run()


@contextmanager
def serving(name: str, slots: int, kept: int = 256) -> Iterator[tuple[int, int]]:
    """A server's port and process, within the block."""
    context = get_context("spawn")
    ours, its = context.Pipe()
    process = context.Process(target=_serve, args=(name, slots, kept, torch.get_num_threads(), its))
    process.start()
    its.close()
    try:
        assert process.pid is not None
        yield ours.recv(), process.pid
    finally:
        process.terminate()
        process.join()


def generated(pipeline: Pipeline, numbers: Sequence[int]) -> Callable[[], Load]:
    """What transformers' ``generate`` makes of the same prompts in one batch."""
    turns = [{"messages": [{"role": "user", "content": question(number)}]} for number in numbers]
    conversations = [parse_conversation(each, "benchmark", captions_required=False) for each in turns]
    batch = pipeline.model.prompts(conversations, Sampling(max_new_tokens=TOKENS))
    lengths = batch.mask.sum(1).tolist()
    longest = max(lengths)
    ids = torch.stack(
        [torch.nn.functional.pad(row[:own], (longest - own, 0)) for row, own in zip(batch.ids, lengths, strict=True)]
    )
    mask = torch.stack([torch.arange(longest) >= longest - own for own in lengths]).long()
    backbone = pipeline.model.backbone.language_model
    assert isinstance(backbone, CausalBackbone)
    ends = sorted(backbone.ends())

    def work() -> Load:
        begun = now()
        with torch.no_grad():
            found = backbone.llm.generate(
                ids,
                attention_mask=mask,
                max_new_tokens=TOKENS,
                do_sample=False,
                eos_token_id=ends,
                pad_token_id=ends[0],
            )
        answers = found[:, longest:].tolist()
        tokens = sum(next((at for at, token in enumerate(row) if token in ends), len(row)) for row in answers)
        return Load(now() - begun, tokens)

    return work


def measured(name: str, repetitions: int) -> dict[str, Any]:
    """The three ways take turns, so that a machine that slows down slows all of them.

    By the CPU clock, tokens are divided by the seconds that the server computed, those for HTTP included.
    """
    batched = generated(MODELS[name](), range(1, CLIENTS + 1))
    rates: dict[str, list[float]] = {"one": [], "many": [], "generate": []}
    firsts: list[float] = []
    with serving(name, 1) as single, serving(name, CLIENTS) as several:
        for round_ in range(repetitions + 1):

            def ask(number: int, at: int = 1000 * round_) -> dict[str, Any]:
                return body(at + number)

            one = loaded(*single, 1, ask, lambda asked, _: asked < 2)
            many = loaded(*several, CLIENTS, ask, lambda asked, _: asked < 2)
            library = batched()
            if round_:  # the first warms up
                for key, load in (("one", one), ("many", many), ("generate", library)):
                    rates[key].append(load.rate)
                firsts += many.firsts
    all_firsts = Load(firsts=firsts)
    return {
        "model": name,
        "tokens/s, one at a time": statistics.median(rates["one"]),
        f"tokens/s, {CLIENTS} clients": statistics.median(rates["many"]),
        "tokens/s, generate": statistics.median(rates["generate"]),
        "clients / one": ratio(rates["many"], rates["one"]),
        "clients / generate": ratio(rates["many"], rates["generate"]),
        "first token p50, s": all_firsts.first(0.5),
        "first token p95, s": all_firsts.first(0.95),
    }


def turned(name: str, repetitions: int) -> dict[str, Any]:
    """Two tokens of the second turn after a long one, with and without reuse of what the first one computed."""
    with serving(name, 1) as reusing, serving(name, 1, 0) as fresh:
        found: dict[str, list[float]] = {"with": [], "without": []}
        for round_ in range(repetitions + 1):
            for way, server in (("with", reusing), ("without", fresh)):
                for turn in (0, 1):
                    body = second_turn(2 * round_ + turn)
                    load = loaded(*server, 1, lambda _, body=body: body, lambda asked, _: not asked)  # type: ignore[misc]
                if round_:
                    found[way].append(load.seconds)
    return {
        "model": name,
        "second turn, s": statistics.median(found["with"]),
        "without reuse, s": statistics.median(found["without"]),
        "without / with": ratio(found["without"], found["with"]),
    }


def endured(name: str, seconds: float) -> dict[str, Any]:
    """A long load on a server of default slots: its memory after a quarter of the time, and at the end.

    What it keeps for later prompts is bounded by :data:`KEPT`, so that the first quarter fills it.
    """
    from isthmus.serving.limits import ServingLimits

    memory: list[int] = []
    with serving(name, ServingLimits().slots, KEPT) as (port, process):

        def goes_on(_: int, since: float) -> bool:
            if not memory and since > seconds / 4:
                memory.append(resident(process))
            return since < seconds

        load = loaded(port, process, CLIENTS, body, goes_on)
        memory.append(resident(process))
    return {
        "model": name,
        "seconds": load.seconds,
        "answers": len(load.firsts),
        "refused": load.refused,
        "tokens/s": load.rate,
        "first token p50, s": load.first(0.5),
        "first token p95, s": load.first(0.95),
        "MiB after warm-up": memory[0] >> 20,
        "MiB at the end": memory[-1] >> 20,
    }


def run(repetitions: int = 3) -> Path:
    """Throughput and reuse, of both models; of SmolLM2 where its folder is."""
    report("serving_turns", [turned(name, repetitions) for name in present()[:1]])
    return report("serving", [measured(name, repetitions) for name in present()], clients=CLIENTS, tokens=TOKENS)


def run_load(form: str = "short") -> Path:
    """A long load, of both models."""
    rows = [endured(name, 120.0 if form == "long" else 20.0) for name in present()]
    return report("serving_load", rows, clients=CLIENTS, tokens=TOKENS)


def present() -> list[str]:
    """The models whose folders are here."""
    return [name for name in MODELS if name != next(iter(MODELS)) or SMOLLM.is_dir()]
