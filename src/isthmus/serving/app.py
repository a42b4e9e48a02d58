"""The application: routes, keys, headers, figures, and errors in one form."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from isthmus.inference.pipeline import Pipeline
from isthmus.serving.engine import Engine
from isthmus.serving.errors import ApiError, api_error
from isthmus.serving.guard.headers import guarded
from isthmus.serving.keys import Keys
from isthmus.serving.limits import ServingLimits
from isthmus.serving.metrics import Metrics
from isthmus.serving.prompts import PromptMaker
from isthmus.serving.routes.asking import GONE, Asking, unknown_model
from isthmus.serving.routes.mcp_endpoint import Agents
from isthmus.serving.routes.table import api_routes, label_of, needs_key
from isthmus.serving.routes.video_jobs import VideoJobs

log = logging.getLogger(__name__)

HOST = re.compile(r"(?:\[([0-9a-fA-F:.]+)\]|([\w.-]+))(?::\d+)?")
"""The header: a name, or an address in brackets; and a port."""


def create_app(
    pipeline: Pipeline,
    name: str,
    limits: ServingLimits | None = None,
    keys: Keys | None = None,
    hosts: Sequence[str] | None = None,
    has_page: bool = False,
    folders: Mapping[str, Path] | None = None,
    adapters: Mapping[str, Pipeline] | None = None,
    marks: bool = True,
) -> Door:
    """The application over a model.

    Args:
        pipeline: the model, and its settings where a request has none.
        name: of the model.
        limits: caps on requests.
        keys: that may use ``/v1`` and ``/mcp``; everyone may if None.
        hosts: names by which it may be called; any if None.
        has_page: whether people can talk to the models at ``/``, too.
        folders: of the models by name, about which the page tells.
        adapters: further models by name, over the same experts (:mod:`isthmus.inference.same_experts`).
        marks: whether made media say where they come from.
    """
    limits, keys = limits or ServingLimits(), keys or Keys()
    more = limits.media_batch, limits.media_wait, limits.kept << 20
    engine = Engine(pipeline.model, limits.slots, limits.queue, *more)
    metrics = Metrics(lambda: engine.load)
    films = VideoJobs(limits)
    pipelines = {name: pipeline, **(adapters or {})}
    lock = threading.Lock()  # encoders that models share preprocess for one at a time
    prompts, *others = (PromptMaker(each, limits, lock) for each in pipelines.values())
    makers = dict(zip(adapters or {}, others, strict=True))
    created = int(time.time())

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        engine.start()
        for maker in (prompts, *makers.values()):
            maker.reader.start()
        try:
            async with agents.running():
                yield
        finally:
            films.close()
            await run_in_threadpool(engine.stop)
            await run_in_threadpool(asking.readers.shutdown)
            for maker in (prompts, *makers.values()):
                await run_in_threadpool(maker.reader.close)

    # Pages of FastAPI's own would load scripts from a network.
    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    asking = Asking(engine, prompts, limits, name, metrics, makers, marks)
    agents = Agents(asking)

    facts = {each: {"id": each, "object": "model", "created": created, "owned_by": "isthmus"} for each in pipelines}

    async def models(_: Request) -> Response:
        sides = {each: (own.model.inputs, own.model.outputs) for each, own in pipelines.items()}
        media = {each: {"input": ["text", *given], "output": ["text", *made]} for each, (given, made) in sides.items()}
        found = [facts[each] | {"modalities": media[each]} for each in pipelines]
        return JSONResponse({"object": "list", "data": found})

    async def model(request: Request) -> Response:
        if (asked := request.path_params["name"]) not in facts:
            raise unknown_model(asked, facts)
        return JSONResponse(facts[asked])

    async def health(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def ready(_: Request) -> Response:
        status = {True: "ready", False: "stopping"}[engine.is_ready]
        return JSONResponse({"status": status}, 200 if engine.is_ready else 503)

    async def figures(_: Request) -> Response:
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    for method, path, route in api_routes(asking, films, agents):
        app.add_route(path, route, [method])
    app.add_route("/v1/models", models, ["GET"])
    app.add_route("/v1/models/{name:path}", model, ["GET"])
    app.add_route("/health", health, ["GET"])
    app.add_route("/ready", ready, ["GET"])
    app.add_route("/metrics", figures, ["GET"])
    app.add_exception_handler(ApiError, _told)
    app.add_exception_handler(HTTPException, _told)
    app.add_exception_handler(ClientDisconnect, _left)
    app.add_exception_handler(Exception, _told)
    leave = None
    if has_page:
        from isthmus.serving.web.mounting import mount_app

        leave = mount_app(app, pipelines, asking, keys, folders or {})
    return Door(app, keys, metrics, hosts, leave)


async def _told(request: Request, error: Exception) -> Response:
    """An error in OpenAI's form."""
    if isinstance(error, HTTPException):
        error = ApiError(error.status_code, f"{request.method}: {error.detail}", headers=error.headers)
    told = api_error(error)
    return JSONResponse(told.body, told.status, told.headers)


async def _left(request: Request, error: Exception) -> Response:
    """For a client that closed its connection while it sent its request."""
    return Response(status_code=GONE)


class Door:
    """The outermost part: checks hosts and keys, adds headers, logs and counts.

    Args:
        app: the application.
        keys: that may use ``/v1`` and ``/mcp``.
        metrics: counts requests.
        hosts: names by which it may be called. A page of another site could otherwise let its own name lead to this
            machine, and so pass for a page of this server.
        leave: ends the connections that open pages keep.
    """

    def __init__(
        self,
        app: ASGIApp,
        keys: Keys,
        metrics: Metrics,
        hosts: Sequence[str] | None = None,
        leave: Callable[[], None] | None = None,
    ) -> None:
        self.app, self.keys, self.metrics = app, keys, metrics
        self.hosts = None if hosts is None else tuple(host.lower() for host in hosts)
        self._leave = leave

    def leave(self) -> None:
        """The server is stopping: what is answered goes on, but pages that are merely open are left."""
        if self._leave is not None:
            self._leave()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one connection of ASGI."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun, status = time.monotonic(), 0
        request = Request(scope)
        address = scope["client"][0] if scope.get("client") else ""
        scope.setdefault("state", {})["client"] = self.keys.client(request.headers.get("authorization"), address)
        route = label_of(scope["path"])

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": guarded(message["headers"])}
            await send(message)

        try:
            refusal = self._refusal(request)
            app = self.app if refusal is None else JSONResponse(refusal.body, refusal.status, refusal.headers)
            await app(scope, receive, sending)
        finally:
            seconds = time.monotonic() - begun
            self.metrics.requests.labels(route, str(status or GONE)).inc()
            self.metrics.seconds.labels(route).observe(seconds)
            log.info("%s %s %d in %.3f s", scope["method"], route, status or GONE, seconds)

    def _refusal(self, request: Request) -> ApiError | None:
        host = HOST.fullmatch(request.headers.get("host", ""))
        if self.hosts is not None and (host is None or (host[1] or host[2]).lower() not in self.hosts):
            found = f"host: expected one of {', '.join(self.hosts)}. Fix: use that name, or serve with --hosts."
            return ApiError(421, found, code="invalid_host")
        if needs_key(request.scope["path"]) and not self.keys.admits(request.headers.get("authorization")):
            found = "Found no valid API key; expected 'Authorization: Bearer KEY'. Fix: send a key of this server."
            return ApiError(401, found, code="invalid_api_key")
        return None
