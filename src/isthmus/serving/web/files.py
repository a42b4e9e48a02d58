"""Routes for what a page shows and saves: media of conversations, whole conversations, and the run's gallery."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, Response
from starlette.requests import Request
from starlette.routing import BaseRoute, Route

from isthmus.serving.errors import ApiError
from isthmus.serving.media import TYPES
from isthmus.serving.web.about import GALLERY, Loaded
from isthmus.serving.web.chatting import EXPORT
from isthmus.serving.web.exporting import exported
from isthmus.serving.web.showing import FILES
from isthmus.serving.web.talks import Talks

INERT = {"Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; sandbox"}
"""Of files that people uploaded: opened by themselves, they run nothing."""
FRAMED = {
    "Content-Security-Policy": "frame-ancestors 'self'; sandbox allow-scripts",
    "X-Frame-Options": "SAMEORIGIN",
}
"""Of the gallery, whose page says itself what it may load."""


def file_routes(talks: Talks, loaded: Mapping[str, Loaded]) -> list[BaseRoute]:
    """The routes.

    Args:
        talks: the conversations. Whoever has the name of one's folder, which can't be guessed, may see it.
        loaded: the served models by name.
    """

    async def file(request: Request) -> Response:
        path = talks.file(request.path_params["folder"], request.path_params["name"])
        if path is None:
            raise _absent()
        kind = TYPES.get(path.suffix, "application/octet-stream")
        try:
            return FileResponse(path, media_type=kind, headers=INERT, stat_result=path.stat())
        except FileNotFoundError:  # the conversation was forgotten meanwhile
            raise _absent() from None

    async def conversation(request: Request) -> Response:
        talk = talks.named(request.path_params["folder"])
        if talk is None:
            raise _absent()
        try:
            content = await run_in_threadpool(exported, talk)
        except FileNotFoundError:
            raise _absent() from None
        named = {"Content-Disposition": 'attachment; filename="conversation.zip"'}
        return Response(content, media_type="application/zip", headers=named | INERT)

    async def gallery(request: Request) -> Response:
        chosen = loaded.get(request.query_params.get("model", ""))
        path = None if chosen is None else chosen.file("gallery.html")
        if path is None:
            raise _absent()
        return FileResponse(path, media_type="text/html", headers=FRAMED)

    return [
        Route(f"{FILES}/{{folder}}/{{name}}", file),
        Route(f"{EXPORT}/{{folder}}.zip", conversation),
        Route(GALLERY, gallery),
    ]


def _absent() -> ApiError:
    return ApiError(404, "This file is no longer kept. Fix: begin a new conversation.", code="not_found")
