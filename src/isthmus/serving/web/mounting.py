"""The app beside the API: which of Gradio's routes there are, who may use them, and what a browser may load there."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.routing import Match, Mount
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from isthmus.display.pages import script
from isthmus.inference.pipeline import Pipeline
from isthmus.serving.errors import ApiError, api_error
from isthmus.serving.guard.origins import is_foreign
from isthmus.serving.guard.uploads import has_room
from isthmus.serving.keys import Keys
from isthmus.serving.limits import ServingLimits
from isthmus.serving.routes.asking import Asking
from isthmus.serving.web.about import Loaded
from isthmus.serving.web.attaching import remove_uploads
from isthmus.serving.web.chatting import Chatting
from isthmus.serving.web.examples import examples
from isthmus.serving.web.files import file_routes
from isthmus.serving.web.talks import AWAY, Talks, root

GETS = ("/", "/config", "/theme.css", "/favicon.ico", "/manifest.json", "/robots.txt", "/gradio_api/startup-events")
GETS_BELOW = (
    "/assets/",
    "/static/",
    "/svelte/",
    "/app/",
    "/gradio_api/file=",
    "/gradio_api/heartbeat/",
    "/gradio_api/queue/data",
    "/gradio_api/upload_progress",
)
UPLOAD = "/gradio_api/upload"
POSTS = ("/gradio_api/queue/join", UPLOAD, "/gradio_api/cancel", "/gradio_api/reset")
"""What the page asks for. Gradio has more routes, which this server doesn't."""
SMALL_BODY = 1 << 20
"""Bytes of a request that uploads nothing."""
POLICY = {
    "default-src": "'none'",
    "script-src": "'self' 'unsafe-inline' 'unsafe-eval'",  # Gradio's page has scripts in itself, and builds functions
    "style-src": "'self' 'unsafe-inline'",
    "img-src": "'self' data: blob:",
    "media-src": "'self' data: blob:",
    "font-src": "'self' data:",
    "connect-src": "'self' data: blob:",
    "worker-src": "'self' blob:",
    "frame-src": "'self'",
    "manifest-src": "'self'",
    "base-uri": "'self'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
}
"""So a browser loads nothing from elsewhere, whatever a text or a library names."""
HEADERS = {
    "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in POLICY.items()),
    "Permissions-Policy": "camera=(self), microphone=(self), geolocation=(), display-capture=()",
    "Cross-Origin-Resource-Policy": "same-origin",
}
LASTING = ("/assets/", "/static/", "/svelte/")
"""Files that browsers may keep."""


def mount_app(
    app: FastAPI, pipelines: Mapping[str, Pipeline], asking: Asking, keys: Keys, folders: Mapping[str, Path]
) -> Callable[[], None]:
    """Puts the app at ``/`` of the server's application. Routes that the server has are not touched.

    Args:
        app: the server's application.
        pipelines: the models by name; the settings are those of the first.
        asking: asks the engine.
        keys: of whoever may use the server.
        folders: of the models that have one.

    Returns:
        What ends the connections that open pages keep, when the server stops.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    root()
    import gradio as gr

    from isthmus.serving.web.page import build, static

    talks, limits = Talks(), asking.limits
    loaded = {name: Loaded(name, each.model, folders.get(name)) for name, each in pipelines.items()}
    chatting = Chatting(talks, asking, {name: examples(each.model) for name, each in pipelines.items()})
    page = build(pipelines[asking.name], limits, chatting, loaded)
    font = ("system-ui", "sans-serif")
    gr.mount_gradio_app(
        app,
        page,
        "/",
        footer_links=[],
        run_history=False,
        show_error=False,
        max_file_size=limits.media.bytes,
        ssr_mode=False,
        enable_monitoring=False,
        mcp_server=False,
        theme=gr.themes.Default(font=font, font_mono=("ui-monospace", "monospace")),
        css=static("style.css"),
        head=f"<script>{script()}{static('roles.js')}</script>",
    )
    mounted = app.router.routes.pop()
    assert isinstance(mounted, Mount), "Gradio is mounted last"
    assert isinstance(mounted.app, FastAPI)
    mounted.app.add_exception_handler(ClientDisconnect, _broken_off)
    mounted.app.add_exception_handler(RequestValidationError, _malformed)
    inner = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, routes=file_routes(talks, loaded))
    inner.add_exception_handler(ApiError, _refused)
    inner.mount("/", mounted.app)
    app.router.routes.append(Pages(Gate(inner, keys, limits)))
    before = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(whole: FastAPI) -> AsyncIterator[Any]:
        async with before(whole) as state:
            tidying = asyncio.create_task(_tidying(talks))
            try:
                yield state
            finally:
                tidying.cancel()
                talks.close()

    app.router.lifespan_context = lifespan
    gradio_app: Any = mounted.app

    def leave() -> None:
        talks.is_closing = True
        gradio_app.stop_event.set()

    return leave


async def _tidying(talks: Talks) -> None:
    """Removes old uploads, and the files of pages that were closed, though nobody comes after them."""
    while True:
        await asyncio.sleep(60)
        await run_in_threadpool(talks.tidy)
        await run_in_threadpool(remove_uploads, root() / "uploads", AWAY)


async def _refused(request: Request, error: Exception) -> JSONResponse:
    """For files that aren't there, in the API's form."""
    told = api_error(error)
    return JSONResponse(told.body, told.status)


async def _broken_off(request: Request, error: Exception) -> JSONResponse:
    """For a body that came too slowly, or whose client left; Gradio would answer 500, and log it as a bug."""
    told = ApiError(408, "body: not all of it came in time. Fix: send it faster.", code="timeout")
    return JSONResponse(told.body, told.status)


async def _malformed(request: Request, error: Exception) -> JSONResponse:
    """For a body of another form. Gradio would repeat it, and fail where JSON can't hold what it repeats."""
    told = ApiError(400, "body: found another form than a page sends. Fix: use the page.", code="invalid_value")
    return JSONResponse(told.body, told.status)


def is_page(method: str, path: str) -> bool:
    """Whether a request is the app's."""
    if method in ("GET", "HEAD"):
        return path in GETS or path.startswith(GETS_BELOW)
    return method == "POST" and path in POSTS


class Pages(Mount):
    """Takes the app's requests and leaves all others to the API, whose errors have one form."""

    def __init__(self, app: ASGIApp) -> None:
        super().__init__("/", app=app)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if scope["type"] != "http" or not is_page(scope["method"], scope["path"]):
            return Match.NONE, {}
        return super().matches(scope)


class Gate:
    """Refuses what the app's own pages don't send, and tells browsers what they may load.

    Args:
        app: Gradio's, and the files of conversations.
        keys: one of which must be given as a password, if there are any.
        limits: of uploads.
    """

    def __init__(self, app: ASGIApp, keys: Keys, limits: ServingLimits) -> None:
        self.app, self.keys, self.limits = app, keys, limits
        self._coming = 0  # bytes that running uploads have declared

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        path = scope["path"]

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = {name.lower() for name, _ in message["headers"]}
                kept = {"Cache-Control": "private, max-age=86400"} if path.startswith(LASTING) else {}
                own = [(name.lower().encode(), value.encode()) for name, value in (HEADERS | kept).items()]
                headers = [(name, value) for name, value in message["headers"] if not _opens(name)]
                message = {**message, "headers": [*headers, *(each for each in own if each[0] not in given)]}
            await send(message)

        refusal, receive = self._refusal(Request(scope)), _timed(receive, self.limits.body_seconds)
        if refusal is None and path == "/gradio_api/queue/join":
            refusal, receive = await _local(receive)
        app = self.app if refusal is None else JSONResponse(refusal.body, refusal.status, refusal.headers)
        coming = int(Headers(scope=scope)["content-length"]) if refusal is None and path == UPLOAD else 0
        self._coming += coming
        try:
            await app(scope, receive, sending)
        finally:
            self._coming -= coming

    def _refusal(self, request: Request) -> ApiError | None:
        path, headers = request.scope["path"], request.headers
        if not self.keys.admits(_bearer(headers.get("authorization"))):
            found = "Found no valid API key; expected one as the password, under any name. Fix: give a key."
            asks = {"WWW-Authenticate": 'Basic realm="isthmus", charset="UTF-8"'}
            return ApiError(401, found, code="invalid_api_key", headers=asks)
        if path.startswith("/gradio_api/file=") and "://" in path:
            return ApiError(404, "file: no address is fetched.", code="not_found")
        if request.method != "POST":
            return None
        site = headers.get("sec-fetch-site", "same-origin")
        if site not in ("same-origin", "none") or is_foreign(headers.get("origin"), headers.get("host")):
            return ApiError(403, "origin: found another site's page; expected this server's own.", code="wrong_origin")
        most = self.limits.body if path == UPLOAD else SMALL_BODY
        length = headers.get("content-length", "")
        if not length.isdigit():
            return ApiError(411, "content-length: found none; expected the body's bytes.", code="length_required")
        if int(length) > most:
            found = f"body: found {length} bytes; expected at most {most}. Fix: send fewer or smaller media."
            return ApiError(413, found, code="body_too_large")
        size, seconds = int(length) + self._coming, self.limits.body_seconds + 5
        if path == UPLOAD and not has_room(root() / "uploads", size, seconds):
            found = "uploads: found too many that no question names; expected fewer. Fix: try again in some minutes."
            return ApiError(429, found, code="busy", headers={"Retry-After": "60"})
        return None


def _opens(name: bytes) -> bool:
    """Whether a header lets pages of other sites read answers: Gradio sends some."""
    return name.lower().startswith(b"access-control-")


def _bearer(authorization: str | None) -> str | None:
    """The password of HTTP's basic authentication, in the form in which the API takes a key."""
    scheme, _, given = (authorization or "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        return f"Bearer {base64.b64decode(given, validate=True).decode().partition(':')[2]}"
    except (binascii.Error, UnicodeDecodeError):
        return None


async def _local(receive: Receive) -> tuple[ApiError | None, Receive]:
    """Reads an event's body, whose files must be uploads: Gradio would fetch an address that stands in their place."""
    messages = [await receive()]
    while messages[-1].get("more_body", False):
        messages.append(await receive())
    body = b"".join(message.get("body", b"") for message in messages)
    refusal = None
    try:
        if _names_address(json.loads(body)):
            refusal = ApiError(400, "file: no address is fetched. Fix: upload the file itself.", code="invalid_value")
    except (ValueError, RecursionError):
        refusal = ApiError(400, "body: found no valid JSON; expected it.", code="invalid_json")

    async def again() -> Message:
        return messages.pop(0) if messages else await receive()

    return refusal, again


def _names_address(value: Any) -> bool:
    if isinstance(value, dict):
        path = value.get("path")
        return (isinstance(path, str) and "://" in path) or any(map(_names_address, value.values()))
    return isinstance(value, list) and any(map(_names_address, value))


def _timed(receive: Receive, seconds: float) -> Receive:
    """Gives a body up that hasn't come within this time; what follows a body isn't timed."""
    deadline = asyncio.get_running_loop().time() + seconds
    is_whole = False

    async def receiving() -> Message:
        nonlocal is_whole
        if is_whole:
            return await receive()
        try:
            async with asyncio.timeout_at(deadline):
                message = await receive()
        except TimeoutError:
            return {"type": "http.disconnect"}
        is_whole = not message.get("more_body", False)
        return message

    return receiving
