"""What all routes share: a request's place, its prompt, its job, and the end of it."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from starlette.responses import StreamingResponse

from isthmus.model import AnyToAny, Reply
from isthmus.serving.bodies import read_body
from isthmus.serving.engine import Busy, Engine, Event, Job
from isthmus.serving.errors import ApiError, api_error, told
from isthmus.serving.guard.patience import Patience
from isthmus.serving.limits import ServingLimits
from isthmus.serving.metrics import Metrics
from isthmus.serving.prompts import Prompt, PromptMaker, has_media
from isthmus.serving.provenance import Provenance
from isthmus.serving.routes.questions import Question
from isthmus.serving.schema import Kind, read_json
from isthmus.worded import is_worded

GONE = 499
"""The status of a request whose client left, in logs and metrics."""
Asked = TypeVar("Asked")


@dataclass
class Run:
    """A request in the engine.

    Attributes:
        job: its job.
        prompt: what the job began with.
        events: what the job emits.
        model: the name of who answers.
    """

    job: Job
    prompt: Prompt
    events: asyncio.Queue[Event]
    model: str

    async def pieces(self) -> AsyncIterator[Event]:
        """All events; the last is the reply. Whoever stops reading cancels the job.

        Raises:
            ApiError: the job failed.
        """
        try:
            while not isinstance(event := await self.events.get(), Reply | BaseException):
                yield event
            if isinstance(event, BaseException):
                raise api_error(event) from event
            yield event
        finally:
            self.job.cancel()

    async def reply(self) -> Reply:
        """The reply. See :meth:`pieces` for errors."""
        replies = [event async for event in self.pieces() if isinstance(event, Reply)]
        return replies[-1]


class Asking:
    """From a request to its run in the engine.

    Args:
        engine: answers.
        prompts: makes the engine's prompts.
        limits: caps on requests.
        name: of the model, which requests must name.
        metrics: counts tokens.
        adapters: names of further models over the same experts, and what makes their prompts.
        marks: whether made media say where they come from.
    """

    def __init__(
        self,
        engine: Engine,
        prompts: PromptMaker,
        limits: ServingLimits,
        name: str,
        metrics: Metrics,
        adapters: Mapping[str, PromptMaker] | None = None,
        marks: bool = True,
    ) -> None:
        self.engine, self.prompts, self.limits, self.name, self.metrics = engine, prompts, limits, name, metrics
        self.models = {name: prompts, **(adapters or {})}
        self.marks = marks
        # Threads of their own: requests without media don't wait for those that are decoded.
        self.readers = ThreadPoolExecutor(2 * limits.decoders, "isthmus-readers")

    async def begin(
        self,
        request: Request,
        read: Callable[[Request], Awaitable[tuple[Asked, Question]]],
        watches: bool = True,
    ) -> tuple[Asked, Run]:
        """Begins to answer a request.

        Args:
            request: its place is taken before its body is read, so that bodies in memory are as few as places.
            read: reads its body.
            watches: whether it is given up when its connection is closed.

        Returns:
            The body, and the run.

        Raises:
            ApiError: it can't be answered.
            ClientDisconnect: the client has left.
        """
        begun = time.monotonic()
        patience = Patience(self.limits.seconds, begun)
        client = getattr(request.state, "client", "")
        self._reserve(client)
        names: Mapping[str, str] = {}
        try:
            asked, question = await read(request)
            names = question.names
            prompts = self._prompts(question)
            make = partial(prompts, question.chat, question.allowed, patience)
            if has_media(question.chat):
                prompt = await self._read(make, patience, request if watches else None)
            else:
                prompt = await run_in_threadpool(make)
        except BaseException as error:
            self.engine.release(client)
            if isinstance(error, ApiError) or is_worded(error):
                raise _renamed(api_error(error), names) from error
            raise
        return asked, self._submit(question, prompt, begun, client, prompts.model)

    async def _read(self, make: Callable[[], Prompt], patience: Patience, watched: Request | None) -> Prompt:
        """A prompt with media. Once nobody waits for it, it isn't begun, or no further medium of it is."""
        future = self.readers.submit(make)
        made = asyncio.wrap_future(future)
        made.add_done_callback(lambda ended: ended.cancelled() or ended.exception())  # someone has looked at it
        leaving = None if watched is None else asyncio.create_task(_departure(watched))
        waits: set[asyncio.Future[Any]] = {made} if leaving is None else {made, leaving}
        try:
            await asyncio.wait(waits, timeout=patience.left, return_when=asyncio.FIRST_COMPLETED)
            if made.done():
                return made.result()
            has_left = leaving is not None and leaving.done()
            patience.end()
            if not future.cancel():
                await asyncio.wait({made})  # its place is taken until its memory is free
            raise ClientDisconnect if has_left else patience.late()
        finally:
            patience.end()
            future.cancel()
            if leaving is not None:
                leaving.cancel()
            # An error knows this frame, which mustn't know the error: media and body would stay in memory with both.
            del future, made, waits

    @contextmanager
    def place(self, request: Request) -> Iterator[None]:
        """Holds a place within the block, for a request whose body is read before anyone knows what it asks.

        Raises:
            ApiError: there is none for its client.
        """
        client = getattr(request.state, "client", "")
        self._reserve(client)
        try:
            yield
        finally:
            self.engine.release(client)

    async def body(self, request: Request, kind: type[Kind]) -> Kind:
        """A request's JSON.

        Raises:
            ApiError: it isn't, or its fields don't fit.
        """
        return await run_in_threadpool(read_json, await read_body(request, self.limits), kind)

    def stream(
        self, run: Run, events: AsyncGenerator[str], failed: Callable[[ApiError], str] | None = None
    ) -> StreamingResponse:
        """Server-sent events. Whatever fails is told by one more, and a client that leaves frees its slot.

        Args:
            run: that the events are of.
            events: from its beginning to its end.
            failed: makes the event of an error, which otherwise is its body.
        """

        async def all_events() -> AsyncIterator[str]:
            try:
                async with aclosing(events):
                    async for event in events:
                        yield event
            except Exception as error:
                yield failed(told(error)) if failed is not None else server_event(told(error).body)
            finally:
                run.job.cancel()

        return StreamingResponse(all_events(), media_type="text/event-stream")

    async def whole(self, request: Request, run: Run) -> Reply:
        """The reply; if the client leaves, its slot is free before the next token.

        Raises:
            ApiError: the job failed.
            ClientDisconnect: the client has left.
        """
        reading = asyncio.create_task(run.reply())
        leaving = asyncio.create_task(_departure(request))
        try:
            await asyncio.wait({reading, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not reading.done():
                raise ClientDisconnect
            return reading.result()
        finally:
            run.job.cancel()
            reading.cancel()
            leaving.cancel()
            del reading  # see _read

    def counted(self, run: Run, reply: Reply) -> tuple[int, int]:
        """How many tokens were given and answered; metrics count them."""
        given = int(run.prompt.batch.mask.sum())
        self.metrics.tokens.labels("prompt").inc(given)
        self.metrics.tokens.labels("answer").inc(reply.tokens)
        return given, reply.tokens

    def usage(self, run: Run, reply: Reply) -> dict[str, int]:
        """:meth:`counted` in the words of all routes but chat."""
        given, answered = self.counted(run, reply)
        return {"input_tokens": given, "output_tokens": answered, "total_tokens": given + answered}

    def made(self, run: Run) -> Provenance | None:
        """What a run's media say of themselves; None if nothing."""
        return self.made_with(run.model, run.job.sampling.seed)

    def made_with(self, model: str, seed: int) -> Provenance | None:
        """The same of media that a model made with a seed."""
        return Provenance(model, seed) if self.marks else None

    def _reserve(self, client: str) -> None:
        try:
            self.engine.reserve(client)
        except Busy as busy:
            found = f"All places for you are taken. Try again in {busy.retry_after} s."
            raise ApiError(429, found, code="busy", headers={"Retry-After": str(busy.retry_after)}) from None

    def _prompts(self, question: Question) -> PromptMaker:
        """Of the model that a request names, which must be able to do what the route needs."""
        name = question.chat.model
        if name not in self.models:
            raise unknown_model(name, self.models)
        question.check_model(name, self.models[name].model)
        return self.models[name]

    def _submit(self, question: Question, prompt: Prompt, begun: float, client: str, model: AnyToAny) -> Run:
        asked = question.chat
        events: asyncio.Queue[Event] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def emit(event: Event) -> None:
            loop.call_soon_threadsafe(events.put_nowait, event)

        job = Job(
            prompt.batch,
            prompt.sampling,
            emit,
            self.limits.seconds,
            prompt.required,
            prompt.allowed,
            asked.num_inference_steps,
            asked.guidance_scale,
            bool(asked.stream),
            client=client,
            model=model,
            partial_images=question.partial_images,
            begun=begun,
        )
        self.engine.submit(job)
        return Run(job, prompt, events, asked.model)


def unknown_model(name: str, models: Collection[str]) -> ApiError:
    """The error of a request that names a model which isn't here."""
    found = f"model: found '{name[:80]}'; this server has {', '.join(repr(each) for each in models)}. Fix: name that."
    return ApiError(404, found, "model", "model_not_found")


def server_event(data: Mapping[str, Any]) -> str:
    """One of a stream's server-sent events."""
    return f"data: {json.dumps(data)}\n\n"


def _renamed(error: ApiError, names: Mapping[str, str]) -> ApiError:
    """An error about a chat request, in the words of the route at which it came."""
    message, param = error.message, error.param
    for own, called in sorted(names.items(), key=lambda pair: -len(pair[0])):
        field = re.compile(re.escape(own) + r"(?=[:.\[]|$)" if own.isidentifier() else re.escape(own))
        message = field.sub(called, message)
        param = param and field.sub(called, param)
    return ApiError(error.status, message, param, error.code, error.headers)


async def _departure(request: Request) -> None:
    """Returns when the client has closed its connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
